"""The routes of a project's jobs and runs: fine-tuning, its reports, and exports of its runs."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from nephros.annotation.project_runs import ProjectRun
from nephros.server.error_responses import json_list_response, json_response
from nephros.server.json_requests import read_json
from nephros.server.limits import RequestRejected
from nephros.server.project import openapi_texts as texts
from nephros.server.project.file_routes import MEDIA_TYPES, download
from nephros.server.project.schemas import MAX_TEXT, FinetuneRequest, JobInfo, JobStarted, RunInfo
from nephros.server.project.session import ProjectSession, job_info

ExportFormat = Literal["onnx", "csv", "geojson"]
RunName = Annotated[str, Path(max_length=MAX_TEXT, description="Name of a run, as GET /project/runs lists it.")]
REPORT_POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""A report has its scripts and styles in itself; it gets an origin of its own, from which it can't reach the server."""


def add_run_routes(router: APIRouter, session: ProjectSession) -> None:
    """Add /project/finetune, /project/jobs and /project/runs."""

    @router.post(
        "/finetune", responses={202: {"model": JobStarted}, **texts.WRITE_ERRORS}, status_code=202,
        openapi_extra=texts.json_body(FinetuneRequest),
    )  # fmt: skip
    async def finetune(request: Request) -> Response:
        """Fine-tune a model on the labels, in the background; the result is a run of the project."""
        body = await read_json(request, FinetuneRequest)
        job = job_info(await session.work(session.jobs.start, body.name, methods=body.methods or ()))
        session.events.publish_job(job)
        return json_response(JobStarted(job=job), 202)

    @router.get("/jobs", responses=texts.list_responses(JobInfo))
    async def jobs() -> Response:
        """List the jobs: imports, fine-tuning and exports, those under way and the last ones."""
        return json_list_response(await session.read(session.all_jobs))

    @router.delete("/jobs/{job_id}", responses=texts.write_responses(JobStarted))
    async def cancel(job_id: Annotated[str, Path(max_length=MAX_TEXT)]) -> Response:
        """Stop a job; what it has made so far is discarded."""
        jobs = {job.id: job for job in await session.read(session.all_jobs)}
        if job_id not in jobs:
            raise RequestRejected(404, "There is no such job.")
        if job_id in {job.id for job in session.imports.jobs()}:
            return json_response(JobStarted(job=session.imports.cancel(job_id)))
        await session.work(session.jobs.cancel, job_id)
        jobs = {job.id: job for job in await session.read(session.all_jobs)}
        return json_response(JobStarted(job=jobs[job_id]))

    @router.get("/runs", responses=texts.list_responses(RunInfo))
    async def runs() -> Response:
        """List the runs that were fine-tuned on the project's labels."""
        return json_list_response(
            [
                RunInfo(
                    name=run.name, created=run.created, accuracy=run.accuracy, method=run.method, n_labels=run.n_labels
                )
                for run in await session.read(session.jobs.runs)
            ]
        )

    @router.get(
        "/runs/{name}/report",
        responses=texts.binary_responses("The report, sandboxed.", "text/html"),
        response_class=Response,
    )
    async def report(name: RunName) -> Response:
        """Show the report of a run."""
        run = await _find_run(session, name)
        path = run.path / "report.html"
        if not await session.read(path.is_file):
            raise RequestRejected(404, "This run has no report yet.")
        headers = {"content-security-policy": REPORT_POLICY}
        with ExitStack() as scope:
            response = await download(session, path, "text/html; charset=utf-8", scope, "report.html")
        response.headers["content-disposition"] = "inline"
        response.headers.update(headers)
        return response

    @router.post(
        "/runs/{name}/export/{export_format}",
        responses={202: {"model": JobStarted}, **texts.WRITE_ERRORS},
        status_code=202,
    )
    async def export(name: RunName, export_format: ExportFormat) -> Response:
        """Make a run's ONNX file, or its predictions for all cells as a table or as GeoJSON, in the background."""
        await _find_run(session, name)
        job = job_info(await session.work(session.jobs.export, name, export_format))
        session.events.publish_job(job)
        return json_response(JobStarted(job=job), 202)

    @router.get(
        "/runs/{name}/export/{export_format}", responses=texts.binary_responses("The file."), response_class=Response
    )
    async def exported_file(name: RunName, export_format: ExportFormat) -> Response:
        """Send a file that POST of the same address has made."""
        await _find_run(session, name)
        path = await session.read(session.jobs.exported_file, name, export_format)
        if path is None:
            raise RequestRejected(404, "This run has not been exported in this format yet: send a POST here first.")
        with ExitStack() as scope:
            media_type = MEDIA_TYPES.get(export_format, "application/octet-stream")
            return await download(session, path, media_type, scope, f"{name}.{export_format}")


async def _find_run(session: ProjectSession, name: str) -> ProjectRun:
    """Return a run by its name, which is compared with those that there are: no path is made of it."""
    runs = {run.name: run for run in await session.read(session.jobs.runs)}
    if name not in runs:
        raise RequestRejected(404, "The project has no such run." if runs else "The project has no runs yet.")
    return runs[name]
