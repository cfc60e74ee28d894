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
from nephros.errors import NephrosError
from nephros.server import openapi as docs
from nephros.server.limits import BATCH_LIMITS, MemoryBudget, RequestLimits, RequestRejected
from nephros.server.middleware import RequestMiddleware
from nephros.server.multipart import read_multipart_files
from nephros.server.prometheus import CONTENT_TYPE, ServerMetrics
from nephros.server.sample_cells import SampleCell
from nephros.server.service import PredictOptions, Service

STATIC_DIR = Path(__file__).parent / "static"
STATIC_FILES = {
    "/page.css": "text/css",
    "/page.js": "text/javascript",
    "/result_card.js": "text/javascript",
    "/api_client.js": "text/javascript",
    "/dropped_files.js": "text/javascript",
}
CoverageParam = Annotated[float, Query(gt=0, le=1, description="How often prediction sets shall hold the right class.")]
WhiteLevelParam = Annotated[
    float | None,
    Query(gt=0, le=2**31, description="16-bit value that becomes 255; by default the brightest of the request."),
]
DetailsParam = Annotated[
    bool, Query(description="Add split, ood_reasons, notes and preview (a PNG as a data: address).")
]
ExplainParam = Annotated[
    bool, Query(description="Add saliency_map: values from 0 to 1 by row, and the method that made them.")
]
NNeighborsParam = Annotated[
    int, Query(ge=0, le=20, description="Add so many similar known cells, where the server knows some.")
]
DetailLimitParam = Annotated[
    int, Query(ge=0, description="Make pictures, heat maps and similar cells for so many rows only.")
]
OffsetParam = Annotated[int, Query(ge=0, description="Answer the rows from this one on alone.")]
LimitParam = Annotated[int, Query(ge=1, description="Answer so many rows alone.")]


def create_app(
    service: Service,
    samples: list[SampleCell],
    *,
    loopback_only: bool = True,
    limits: RequestLimits | None = None,
    batch_limits: RequestLimits = BATCH_LIMITS,
) -> ASGIApp:
    """Return the application: an open Service, samples to click on, and what one request may ask for."""
    limits = limits or RequestLimits()
    metrics, budget = ServerMetrics(), MemoryBudget()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="nephros", version=__version__, description=docs.DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None,  # those load scripts from elsewhere
        # What newer versions would send to a collector that the environment names.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},
    )  # fmt: skip
    version_info = docs.version_info(service, limits, batch_limits)
    _add_pages(app, version_info, samples)
    _add_exception_handlers(app)

    @app.post("/predict", responses=docs.PREDICT_RESPONSES, openapi_extra=docs.MULTIPART_BODY, tags=["predictions"])
    async def predict(
        request: Request, coverage: CoverageParam = 0.9, white_level: WhiteLevelParam = None, details: DetailsParam = False,
        explain: ExplainParam = False, n_neighbors: NNeighborsParam = 0, detail_limit: DetailLimitParam = 1 << 53,
    ) -> Response:  # fmt: skip
        """Classify pictures of cells: PNG, TIFF (a page a cell), JPEG, and npz files. A bad file gets its own error."""
        options = PredictOptions(coverage, white_level, details, explain, n_neighbors, detail_limit)
        with budget.lease() as lease:
            files = await read_multipart_files(request, limits, lease)
            try:
                async with asyncio.timeout(limits.timeout_s):
                    indexed_results = sorted(
                        [pair async for pair in service.stream_results(files, options, limits)],
                        key=lambda pair: pair[0],
                    )
            except TimeoutError:
                raise RequestRejected(504, "The answer took too long: send fewer files at once.") from None
        results = [row for _, row in indexed_results]
        _record_results(metrics, results)
        return JSONResponse({"version": __version__, "results": results})

    # A plain Response has no media type of its own: what is answered is what `responses` says.
    @app.post(
        "/predict/batch",
        responses=docs.STREAM_RESPONSES,
        response_class=Response,
        openapi_extra=docs.MULTIPART_BODY,
        tags=["predictions"],
    )
    async def predict_stream(
        request: Request, coverage: CoverageParam = 0.9, white_level: WhiteLevelParam = None, details: DetailsParam = False,
        explain: ExplainParam = False, n_neighbors: NNeighborsParam = 0, detail_limit: DetailLimitParam = 1 << 53,
        offset: OffsetParam = 0, limit: LimitParam = 1 << 53,
    ) -> Response:  # fmt: skip
        """Classify large uploads, such as npz files, with higher limits. Each line of the answer is a result as of /predict,
        with row, its place, and is sent as soon as it is known. The last line is {"done": true, "version", "n_rows"}, or
        {"done": false, "error", "n_rows"} where the answer broke off."""
        options = PredictOptions(
            coverage, white_level, details, explain, n_neighbors, detail_limit, range(offset, offset + limit)
        )
        with ExitStack() as lease_scope:
            files = await read_multipart_files(request, batch_limits, lease_scope.enter_context(budget.lease()))
            lease_stack = lease_scope.pop_all()

        async def stream_lines() -> AsyncIterator[bytes]:
            n_sent, deadline = 0, asyncio.get_running_loop().time() + batch_limits.timeout_s
            batches = _in_batches(service.stream_results(files, options, batch_limits))
            final_line: dict[str, Any] = {"done": True, "version": __version__}
            try:
                while True:
                    async with asyncio.timeout_at(deadline):
                        result_batch: list[Any] = await anext(batches, [])
                    if not result_batch:
                        break
                    _record_results(metrics, [result for _, result in result_batch])
                    n_sent += len(result_batch)
                    yield b"".join(json.dumps({"row": row} | result).encode() + b"\n" for row, result in result_batch)
            except TimeoutError:
                final_line = {"done": False, "error": "The answer took too long: send less at once."}
            except RequestRejected as error:
                final_line = {"done": False, "error": error.message}
            yield json.dumps(final_line | {"n_rows": n_sent}).encode() + b"\n"

        return _LeasedStreamingResponse(stream_lines(), lease_stack)

    @app.get("/health", responses=docs.HEALTH_RESPONSES, tags=["server"])
    async def health() -> JSONResponse:
        """Say ok, once the model has answered a blank cell."""
        try:
            await service.check_health()
        except Exception as error:  # whatever the runtime raises: the answer is that the model does not answer
            message = error.message if isinstance(error, RequestRejected) else "The model does not answer."
            return JSONResponse({"status": "failing", "error": message}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/version", responses=docs.VERSION_RESPONSES, tags=["server"])
    async def version() -> JSONResponse:
        """Say which version and model answer, with class names and limits."""
        return JSONResponse(version_info)

    @app.get("/metrics", responses=docs.METRICS_RESPONSES, response_class=Response, tags=["server"])
    async def prometheus_metrics() -> Response:
        """Counters in Prometheus's text format: requests, images, errors, latency, queue."""
        batcher = service.batcher
        return Response(metrics.render(len(batcher), batcher.n_calls, batcher.n_cells), media_type=CONTENT_TYPE)

    routes = frozenset(route.path for route in app.routes if hasattr(route, "path") and "{" not in route.path)
    return RequestMiddleware(app, metrics, routes, loopback_only)


class _LeasedStreamingResponse(StreamingResponse):
    """Lines of JSON, and what is to be given back when they are sent or the client has gone."""

    def __init__(self, lines: AsyncIterator[bytes], lease_stack: ExitStack) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._lease_stack = lease_stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._lease_stack:
            await super().__call__(scope, receive, send)


def _record_results(metrics: ServerMetrics, results: list[dict[str, Any]]) -> None:
    n_errors = sum(row["error"] is not None for row in results)
    metrics.record_predictions(len(results) - n_errors, n_errors)


async def _in_batches(items: AsyncIterator[Any], max_size: int = 64) -> AsyncIterator[list[Any]]:
    """Yield the pairs in lists, so that an answer of many rows is not sent row by row."""
    batch = []
    async for item in items:
        batch.append(item)
        if len(batch) == max_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _add_pages(app: FastAPI, version_info: dict[str, Any], samples: list[SampleCell]) -> None:
    """Add the page, its parts, and the samples; all are read once, now."""
    index_html = (STATIC_DIR / "index.html").read_text(encoding="utf-8")
    by_name = {sample_png.name: sample_png for sample_png in samples}

    @app.get("/", include_in_schema=False)
    async def index_page() -> HTMLResponse:
        return HTMLResponse(index_html)

    @app.get("/api", include_in_schema=False)
    async def api_page() -> HTMLResponse:
        return HTMLResponse(docs.render_api_page(app.openapi(), version_info))

    for path, media_type in STATIC_FILES.items():
        content = (STATIC_DIR / path[1:]).read_bytes()
        app.add_api_route(path, _static_endpoint(content, media_type), include_in_schema=False)

    @app.get("/samples", include_in_schema=False)
    async def list_samples() -> list[dict[str, Any]]:
        keys = ("name", "preview", "synthetic", "true_class", "source")
        return [{key: getattr(sample, key) for key in keys} for sample in samples]

    @app.get("/samples/{name}", include_in_schema=False)
    async def sample_png(name: str) -> Response:
        if name not in by_name:
            raise HTTPException(404)
        return Response(by_name[name].png, media_type="image/png")


def _static_endpoint(content: bytes, media_type: str) -> Any:
    async def endpoint() -> Response:
        return Response(content, media_type=media_type)

    return endpoint


def _add_exception_handlers(app: FastAPI) -> None:
    """Make every error one plain sentence in JSON."""

    @app.exception_handler(RequestRejected)
    async def on_rejected(_: Request, error: RequestRejected) -> JSONResponse:
        headers = {"retry-after": "2"} if error.status == 503 else None
        return JSONResponse({"error": error.message}, error.status, headers=headers)

    @app.exception_handler(NephrosError)
    async def on_user_error(_: Request, error: NephrosError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        return JSONResponse({"error": f"{problem['loc'][-1]} is not as it must be: {problem['msg']}."}, 422)

    @app.exception_handler(HTTPException)
    async def on_http_exception(_: Request, error: HTTPException) -> JSONResponse:
        messages = {404: "There is no such page: see /api.", 405: "This page takes another method: see /api."}
        return JSONResponse({"error": messages.get(error.status_code, error.detail)}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def on_unexpected_error(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"The server failed at this ({type(error).__name__}): look at its output."}, 500)
