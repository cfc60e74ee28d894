"""The routes: a page, and the JSON API behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from nephros.environment import __version__
from nephros.errors import UserError
from nephros.server import openapi as docs
from nephros.server.limits import FOR_BATCHES, Budget, Limits, Refused
from nephros.server.middleware import Gate
from nephros.server.multipart import read_files
from nephros.server.prometheus import TYPE, Metrics
from nephros.server.sample_cells import Sample
from nephros.server.service import Service, Wishes

STATIC = Path(__file__).parent / "static"
FILES = {
    "/page.css": "text/css",
    "/page.js": "text/javascript",
    "/cards.js": "text/javascript",
    "/sending.js": "text/javascript",
    "/dropped.js": "text/javascript",
}
Coverage = Annotated[float, Query(gt=0, le=1, description="How often prediction sets shall hold the right class.")]
White = Annotated[
    float | None,
    Query(gt=0, le=2**31, description="16-bit value that becomes 255; by default the brightest of the request."),
]
Details = Annotated[bool, Query(description="Add split, reason, notes and picture (a PNG as a data: address).")]
Explain = Annotated[bool, Query(description="Add heat_map: values from 0 to 1 by row, and the method that made them.")]
Similar = Annotated[
    int, Query(ge=0, le=20, description="Add so many similar known cells, where the server knows some.")
]
First = Annotated[int, Query(ge=0, description="Make pictures, heat maps and similar cells for so many rows only.")]
Start = Annotated[int, Query(ge=0, description="Answer the rows from this one on alone.")]
Count = Annotated[int, Query(ge=1, description="Answer so many rows alone.")]


def create_app(
    service: Service,
    examples: list[Sample],
    *,
    loopback_only: bool = True,
    limits: Limits | None = None,
    batch_limits: Limits = FOR_BATCHES,
) -> ASGIApp:
    """Return the application: an open Service, samples to click on, and what one request may ask for."""
    limits = limits or Limits()
    metrics, budget = Metrics(), Budget()

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="nephros", version=__version__, description=docs.DESCRIPTION, lifespan=life,
        docs_url=None, redoc_url=None,  # those load scripts from elsewhere
        # What newer versions would send to a collector that the environment names.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},
    )  # fmt: skip
    about = docs.about(service, limits, batch_limits)
    _add_pages(app, about, examples)
    _add_errors(app)

    @app.post("/predict", responses=docs.ANSWERS, openapi_extra=docs.FORM, tags=["answers"])
    async def predict(
        request: Request, coverage: Coverage = 0.9, white: White = None, details: Details = False,
        explain: Explain = False, similar: Similar = 0, first: First = 1 << 53,
    ) -> Response:  # fmt: skip
        """Classify pictures of cells: PNG, TIFF (a page a cell), JPEG, and npz files. A bad file gets its own error."""
        wishes = Wishes(coverage, white, details, explain, similar, first)
        with budget.share() as share:
            files = await read_files(request, limits, share)
            try:
                async with asyncio.timeout(limits.seconds):
                    found = sorted(
                        [pair async for pair in service.results(files, wishes, limits)], key=lambda pair: pair[0]
                    )
            except TimeoutError:
                raise Refused(504, "The answer took too long: send fewer files at once.") from None
        rows = [row for _, row in found]
        _count(metrics, rows)
        return JSONResponse({"version": __version__, "results": rows})

    # A plain Response has no media type of its own: what is answered is what `responses` says.
    @app.post(
        "/predict/batch", responses=docs.LINES, response_class=Response, openapi_extra=docs.FORM, tags=["answers"]
    )
    async def batch(
        request: Request, coverage: Coverage = 0.9, white: White = None, details: Details = False,
        explain: Explain = False, similar: Similar = 0, first: First = 1 << 53, start: Start = 0, count: Count = 1 << 53,
    ) -> Response:  # fmt: skip
        """Classify large uploads, such as npz files, with higher limits. Each line of the answer is a result as of /predict,
        with row, its place, and is sent as soon as it is known. The last line is {"done": true, "version", "rows"}, or
        {"done": false, "error", "rows"} where the answer broke off."""
        wishes = Wishes(coverage, white, details, explain, similar, first, range(start, start + count))
        with ExitStack() as lent:
            files = await read_files(request, batch_limits, lent.enter_context(budget.share()))
            until_sent = lent.pop_all()

        async def lines() -> AsyncIterator[bytes]:
            sent, end = 0, asyncio.get_running_loop().time() + batch_limits.seconds
            answered = _gathered(service.results(files, wishes, batch_limits))
            last: dict[str, Any] = {"done": True, "version": __version__}
            try:
                while True:
                    async with asyncio.timeout_at(end):
                        some: list[Any] = await anext(answered, [])
                    if not some:
                        break
                    _count(metrics, [result for _, result in some])
                    sent += len(some)
                    yield b"".join(json.dumps({"row": row} | result).encode() + b"\n" for row, result in some)
            except TimeoutError:
                last = {"done": False, "error": "The answer took too long: send less at once."}
            except Refused as error:
                last = {"done": False, "error": error.sentence}
            yield json.dumps(last | {"rows": sent}).encode() + b"\n"

        return _Lines(lines(), until_sent)

    @app.get("/health", responses=docs.HEALTH, tags=["server"])
    async def health() -> JSONResponse:
        """Say ok, once the model has answered a blank cell."""
        try:
            await service.check()
        except Exception as error:  # whatever the runtime raises: the answer is that the model does not answer
            why = error.sentence if isinstance(error, Refused) else "The model does not answer."
            return JSONResponse({"status": "failing", "error": why}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/version", responses=docs.VERSION, tags=["server"])
    async def version() -> JSONResponse:
        """Say which version and model answer, with class names and limits."""
        return JSONResponse(about)

    @app.get("/metrics", responses=docs.METRICS, response_class=Response, tags=["server"])
    async def counts() -> Response:
        """Counters in Prometheus's text format: requests, images, errors, latency, queue."""
        batcher = service.batcher
        return Response(metrics.text(len(batcher), batcher.calls, batcher.cells), media_type=TYPE)

    routes = frozenset(route.path for route in app.routes if hasattr(route, "path") and "{" not in route.path)
    return Gate(app, metrics, routes, loopback_only)


class _Lines(StreamingResponse):
    """Lines of JSON, and what is to be given back when they are sent or the client has gone."""

    def __init__(self, lines: AsyncIterator[bytes], until_sent: ExitStack) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._until_sent = until_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._until_sent:
            await super().__call__(scope, receive, send)


def _count(metrics: Metrics, rows: list[dict[str, Any]]) -> None:
    errors = sum(row["error"] is not None for row in rows)
    metrics.answered(len(rows) - errors, errors)


async def _gathered(pairs: AsyncIterator[Any], most: int = 64) -> AsyncIterator[list[Any]]:
    """Yield the pairs in lists, so that an answer of many rows is not sent row by row."""
    held = []
    async for pair in pairs:
        held.append(pair)
        if len(held) == most:
            yield held
            held = []
    if held:
        yield held


def _add_pages(app: FastAPI, about: dict[str, Any], examples: list[Sample]) -> None:
    """Add the page, its parts, and the samples; all are read once, now."""
    index = (STATIC / "index.html").read_text(encoding="utf-8")
    by_name = {sample.name: sample for sample in examples}

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(index)

    @app.get("/api", include_in_schema=False)
    async def api() -> HTMLResponse:
        return HTMLResponse(docs.page(app.openapi(), about))

    for path, kind in FILES.items():
        content = (STATIC / path[1:]).read_bytes()
        app.add_api_route(path, _constant(content, kind), include_in_schema=False)

    @app.get("/samples", include_in_schema=False)
    async def listed() -> list[dict[str, Any]]:
        keys = ("name", "picture", "made_up", "truth", "source")
        return [{key: getattr(sample, key) for key in keys} for sample in examples]

    @app.get("/samples/{name}", include_in_schema=False)
    async def sample(name: str) -> Response:
        if name not in by_name:
            raise HTTPException(404)
        return Response(by_name[name].png, media_type="image/png")


def _constant(content: bytes, kind: str) -> Any:
    async def answer() -> Response:
        return Response(content, media_type=kind)

    return answer


def _add_errors(app: FastAPI) -> None:
    """Make every error one plain sentence in JSON."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        headers = {"retry-after": "2"} if error.status == 503 else None
        return JSONResponse({"error": error.sentence}, error.status, headers=headers)

    @app.exception_handler(UserError)
    async def wrong(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]} is not as it must be: {first['msg']}."}, 422)

    @app.exception_handler(HTTPException)
    async def absent(_: Request, error: HTTPException) -> JSONResponse:
        words = {404: "There is no such page: see /api.", 405: "This page takes another method: see /api."}
        return JSONResponse({"error": words.get(error.status_code, error.detail)}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"The server failed at this ({type(error).__name__}): look at its output."}, 500)
