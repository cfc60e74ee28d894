"""The routes that take and give files of a project: cells that are added, and labels in and out."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from nephros.annotation.adding import AddedCells
from nephros.annotation.cell_reading import Progress
from nephros.annotation.export import export_labels
from nephros.annotation.label_import import import_labels
from nephros.annotation.project import Project
from nephros.errors import InvalidArgument
from nephros.microscopy.formats.registry import STACK_SUFFIXES
from nephros.server.disk_uploads import DiskPart, without_folder
from nephros.server.error_responses import json_response, reject_repeated_parameters
from nephros.server.limits import RequestLimits, RequestRejected
from nephros.server.multipart import FIELD_NAME
from nephros.server.openapi import MULTIPART_BODY
from nephros.server.project import openapi_texts as texts
from nephros.server.project.schemas import MAX_TEXT, CellsAdded, JobStarted, LabelsImported
from nephros.server.project.session import ProjectSession
from nephros.server.project.uploads import MASK_FIELD, UPLOAD_LIMITS, hide_folder, read_upload
from nephros.server.stack_schemas import SEGMENT_DESCRIPTION, Segmenter
from nephros.server.streaming import file_response

LABEL_FILE_LIMITS = RequestLimits(max_upload_bytes=1 << 30, max_files=1, max_parts=10, timeout_s=900.0)
MEDIA_TYPES = {"csv": "text/csv", "geojson": "application/geo+json", "npz": "application/octet-stream"}
DIRECT_BYTES = 8 << 20
"""Size of an upload without a stack up to which its cells are added before the response."""
MAY_BE_STACK = (".tif", ".tiff", ".npy", ".zip", *STACK_SUFFIXES)
_NUMBER = r"[0-9]{1,6}(?:\.[0-9]{1,9})?"


class UploadParams(BaseModel):
    """Query parameters of POST /project/cells."""

    model_config = ConfigDict(extra="forbid")

    channel: int | None = Field(
        None, ge=0, le=255, description="Channel, or plane of color images, with the nuclei, from 0."
    )
    voxel_size: str | None = Field(
        None,
        pattern=f"^{_NUMBER},{_NUMBER},{_NUMBER}$",
        description="Of a stack: micrometers along z, y, x, such as 1,0.5,0.5.",
    )
    white_level: float | None = Field(
        None, gt=0, le=2**31, description="Value that becomes 255 in images of more than 8 bits."
    )
    stitch_threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Overlap from which objects of the mask's slices are joined, where ids count per slice.",
    )
    segment: Segmenter | None = Field(None, description=SEGMENT_DESCRIPTION)


class ImportParams(BaseModel):
    """Query parameters of POST /project/labels/import."""

    model_config = ConfigDict(extra="forbid")

    annotator: str = Field(min_length=1, max_length=MAX_TEXT, description="Whose labels they become.")


def add_file_routes(router: APIRouter, session: ProjectSession) -> None:
    """Add POST /project/cells, GET /project/labels.FORMAT and POST /project/labels/import."""

    @router.post(
        "/cells",
        responses={**texts.write_responses(CellsAdded), 202: {"model": JobStarted}},
        openapi_extra=MULTIPART_BODY,
    )
    async def add_cells(request: Request, params: Annotated[UploadParams, Query()]) -> Response:
        """Add the cells of npz files, of images, or of a stack with its mask in the field mask. Large uploads and stacks are read
        in the background, by a job, and so is whatever is sent meanwhile."""
        reject_repeated_parameters(request)
        with ExitStack() as scope:
            folder = scope.enter_context(session.scratch_folder())
            parts = await read_upload(request, session, folder, UPLOAD_LIMITS)
            add = _adder(session, folder, parts, params)
            future = session.imports.add_now(add) if _is_quick(parts) else None
            if future is not None:
                added = await asyncio.shield(asyncio.wrap_future(future))
                return json_response(
                    CellsAdded(
                        n_added=added.n_added, n_present=added.n_present, errors=[*added.errors], notes=[*added.notes]
                    )
                )
            return json_response(JobStarted(job=session.imports.start(add, scope.pop_all().close)), 202)

    @router.post("/labels/import", responses=texts.write_responses(LabelsImported), openapi_extra=MULTIPART_BODY)
    async def import_label_file(request: Request, params: Annotated[ImportParams, Query()]) -> Response:
        """Import labels from a CSV, GeoJSON or npz file, as changes by an annotator."""
        reject_repeated_parameters(request)
        with session.scratch_folder() as folder:
            (part,) = await read_upload(request, session, folder, LABEL_FILE_LIMITS)
            with hide_folder(folder):
                report = await session.work(import_labels, session.project, part.path, params.annotator)
        session.events.publish_change()
        return json_response(
            LabelsImported(
                n_labels=report.n_labels,
                n_unchanged=report.n_unchanged,
                n_missing=report.n_missing,
                new_classes=[*report.new_classes],
                notes=[without_folder(note, folder) for note in report.notes],
            )
        )

    for name, media_type in MEDIA_TYPES.items():
        router.add_api_route(
            f"/labels.{name}",
            _export_endpoint(session, name, media_type),
            responses=texts.binary_responses("The labels of the project.", media_type),
            response_class=Response,
            name=f"export_{name}",
        )


def _export_endpoint(session: ProjectSession, name: Any, media_type: str) -> Any:
    async def export() -> Response:
        """Export all labels: a table of cells, outlines for QuPath (of several stacks a zip archive of a
        file for each), or images and labels as MedMNIST lays them out."""
        with ExitStack() as scope:
            path = scope.enter_context(session.scratch_folder()) / f"labels.{name}"
            await session.work(_write_labels, session.project, name, path)
            return await download(session, path, media_type, scope, f"{session.project.name}.{name}")

    return export


def _write_labels(project: Project, label_format: Any, path: Path) -> None:
    with path.open("wb") as file:  # and not as a path, where GeoJSON of several stacks would be several files
        export_labels(project, label_format, file)


async def download(session: ProjectSession, path: Path, media_type: str, scope: ExitStack, file_name: str) -> Response:
    """Return a file as a response that browsers save; `scope` is closed when it is sent.

    GeoJSON of several stacks is a zip archive, and gets the name of one.
    """
    file = scope.enter_context(await session.read(path.open, "rb"))
    if file_name.endswith(".geojson") and await session.read(file.read, 2) == b"PK":
        media_type, file_name = "application/zip", f"{file_name}.zip"
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in file_name)
    headers = {"content-disposition": f'attachment; filename="{plain}"'}
    return file_response(file, size, scope.pop_all(), media_type=media_type, headers=headers)


def _adder(session: ProjectSession, folder: Path, parts: list[DiskPart], params: UploadParams) -> Any:
    """Return the function that adds the cells of an upload.

    Raises:
        RequestRejected: there are several masks, or a mask for several stacks.
    """
    files = [part.path for part in parts if part.field == FIELD_NAME]
    masks = [part.path for part in parts if part.field == MASK_FIELD]
    if len(masks) > 1 or (masks and len(files) > 1):
        raise RequestRejected(400, "A mask belongs to one stack: send one file in files and one in mask.")
    if params.voxel_size is not None and min(map(float, params.voxel_size.split(","))) <= 0:
        raise InvalidArgument("voxel_size", params.voxel_size, "three numbers above 0")
    options: dict[str, Any] = params.model_dump(exclude={"voxel_size"})
    if params.voxel_size is not None:
        options["voxel_size"] = tuple(float(side) for side in params.voxel_size.split(","))
    if masks:
        options["mask"] = str(masks[0])

    def add(progress: Progress) -> AddedCells:
        with hide_folder(folder):
            added = session.project.add_cells(files, progress=progress, copy=True, **options)
        session.model.wake()
        session.events.publish_change()
        errors, notes = (tuple(without_folder(text, folder) for text in group) for group in (added.errors, added.notes))
        return dataclasses.replace(added, errors=errors, notes=notes)

    return add


def _is_quick(parts: list[DiskPart]) -> bool:
    """Return whether an upload is small, and none of its files looks like a stack, in which nuclei may have to be segmented."""
    may_be_stack = any(part.field == MASK_FIELD or part.path.suffix.lower() in MAY_BE_STACK for part in parts)
    return not may_be_stack and sum(part.path.stat().st_size for part in parts) <= DIRECT_BYTES
