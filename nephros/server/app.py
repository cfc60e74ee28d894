"""The application: the JSON API's routes, and the page that uses it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from nephros.environment import __version__
from nephros.errors import NephrosError, did_you_mean
from nephros.server import openapi
from nephros.server.access import AccessPolicy
from nephros.server.limits import BATCH_LIMITS, MAX_BUFFERED_BYTES, MemoryBudget, RequestLimits, RequestRejected
from nephros.server.middleware import RequestMiddleware
from nephros.server.multipart import read_multipart_files, sanitize_filename
from nephros.server.prometheus import CONTENT_TYPE, ServerMetrics
from nephros.server.sample_cells import SampleCell
from nephros.server.schemas import (
    ErrorResponse,
    FailingResponse,
    HealthyResponse,
    PredictionResult,
    PredictParams,
    PredictResponse,
    SampleInfo,
    StreamAborted,
    StreamCompleted,
    StreamedResult,
    StreamParams,
    VersionResponse,
)
from nephros.server.service import Service

logger = logging.getLogger(__name__)

STATIC_DIR = Path(__file__).parent / "static"
STATIC_FILES = {
    "/page.css": "text/css",
    "/page.js": "text/javascript",
    "/result_card.js": "text/javascript",
    "/api_client.js": "text/javascript",
    "/dropped_files.js": "text/javascript",
}
MAX_LINES_PER_WRITE = 64
"""Results of /predict/batch that are sent at once."""


def create_app(
    service: Service,
    samples: list[SampleCell],
    *,
    access: AccessPolicy | None = None,
    root_path: str = "",
    limits: RequestLimits | None = None,
    batch_limits: RequestLimits = BATCH_LIMITS,
    max_buffered_bytes: int = MAX_BUFFERED_BYTES,
) -> ASGIApp:
    """Return the application.

    Args:
        service: predicts; the application closes it when it shuts down.
        samples: cells that the page offers.
        access: which requests are accepted; by default those addressed to localhost.
        root_path: path prefix at which a reverse proxy offers the server, such as ``"/nephros"``.
        limits: limits of a request to /predict.
        batch_limits: limits of a request to /predict/batch.
        max_buffered_bytes: memory for the uploads of all requests together.
    """
    limits = limits or RequestLimits()
    metrics = ServerMetrics(service.batcher)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    app = FastAPI(
        title="nephros", version=__version__, description=openapi.DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None,  # these load scripts from other hosts
        root_path=root_path, redirect_slashes=False,  # redirects would name this server, not the proxy before it
        # Newer versions would send these to a collector that environment variables name.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},
    )  # fmt: skip
    version_response = openapi.version_response(service, limits, batch_limits)
    _add_pages(app, version_response, samples)
    _add_exception_handlers(app, root_path)
    _add_prediction_routes(app, service, metrics, MemoryBudget(max_buffered_bytes), limits, batch_limits)
    _add_server_routes(app, service, metrics, version_response)
    routes = frozenset(route.path for route in app.routes if hasattr(route, "path") and "{" not in route.path)
    return RequestMiddleware(app, metrics, routes, access or AccessPolicy(), root_path)


def _add_prediction_routes(
    app: FastAPI,
    service: Service,
    metrics: ServerMetrics,
    budget: MemoryBudget,
    limits: RequestLimits,
    batch_limits: RequestLimits,
) -> None:
    @app.post(
        "/predict",
        responses=openapi.PREDICT_RESPONSES,
        openapi_extra=openapi.MULTIPART_BODY,
        tags=["predictions"],
    )
    async def predict(request: Request, params: Annotated[PredictParams, Query()]) -> Response:
        """Classify images of cells: PNG, TIFF (one cell per page), JPEG and npz files. A file that can't be read gets its
        own error; the others still get predictions."""
        _reject_repeated_parameters(request)
        with budget.lease() as lease:
            files = await read_multipart_files(request, limits, lease)
            try:
                async with asyncio.timeout(limits.timeout_s):
                    results = [result async for result in service.stream_results(files, params, limits)]
            except TimeoutError:
                raise RequestRejected(504, "The prediction took too long: send fewer files at once.") from None
        results.sort(key=lambda result: result.row)
        _record_results(metrics, results)
        # A list of PredictionResult serializes only that class's fields: `row` is left out.
        return _json_response(PredictResponse(version=__version__, results=[*results]))

    # A plain Response has no media type of its own, so that OpenAPI lists only the one in `responses`.
    @app.post(
        "/predict/batch",
        responses=openapi.STREAM_RESPONSES,
        response_class=Response,
        openapi_extra=openapi.MULTIPART_BODY,
        tags=["predictions"],
    )
    async def predict_stream(request: Request, params: Annotated[StreamParams, Query()]) -> Response:
        """Classify large uploads, such as npz files, with higher limits. Each line of the response is a result as of /predict
        with its row, and is sent as soon as it is known. The last line is {"done": true, "version", "n_rows"}, or
        {"done": false, "error", "n_rows"} if the response ends early."""
        _reject_repeated_parameters(request)
        with ExitStack() as lease_scope:
            files = await read_multipart_files(request, batch_limits, lease_scope.enter_context(budget.lease()))
            lease_stack = lease_scope.pop_all()
        results = service.stream_results(files, params, batch_limits)
        return _LeasedStreamingResponse(_stream_lines(results, metrics, batch_limits.timeout_s), lease_stack)


async def _stream_lines(
    results: AsyncIterator[StreamedResult], metrics: ServerMetrics, timeout_s: float
) -> AsyncIterator[bytes]:
    """Yield the lines of /predict/batch, several at a time."""
    n_sent, deadline = 0, asyncio.get_running_loop().time() + timeout_s
    batches = _in_batches(results)
    error = ""
    try:
        while True:
            async with asyncio.timeout_at(deadline):
                batch: list[StreamedResult] = await anext(batches, [])
            if not batch:
                break
            _record_results(metrics, batch)
            n_sent += len(batch)
            yield b"".join(result.model_dump_json(exclude_unset=True).encode() + b"\n" for result in batch)
    except TimeoutError:
        error = "The prediction took too long: send less at once."
    except RequestRejected as rejection:
        error = rejection.message
    except Exception as unexpected:  # the status is sent: only a last line can tell the client
        logger.exception("/predict/batch ended early")
        error = f"Internal server error ({type(unexpected).__name__}): see the server log."
    last_line = (
        StreamAborted(done=False, error=error, n_rows=n_sent)
        if error
        else StreamCompleted(done=True, version=__version__, n_rows=n_sent)
    )
    yield last_line.model_dump_json().encode() + b"\n"


async def _in_batches(results: AsyncIterator[StreamedResult]) -> AsyncIterator[list[StreamedResult]]:
    batch = []
    async for result in results:
        batch.append(result)
        if len(batch) == MAX_LINES_PER_WRITE:
            yield batch
            batch = []
    if batch:
        yield batch


class _LeasedStreamingResponse(StreamingResponse):
    """Lines of JSON; leases are released once all are sent or the client has gone."""

    def __init__(self, lines: AsyncIterator[bytes], lease_stack: ExitStack) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._lease_stack = lease_stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._lease_stack:
            await super().__call__(scope, receive, send)


def _record_results(metrics: ServerMetrics, results: Sequence[PredictionResult]) -> None:
    n_errors = sum(result.error is not None for result in results)
    metrics.record_predictions(len(results) - n_errors, n_errors)


def _add_server_routes(app: FastAPI, service: Service, metrics: ServerMetrics, version: VersionResponse) -> None:
    @app.get("/health", responses=openapi.HEALTH_RESPONSES, tags=["server"])
    async def health() -> Response:
        """Classify a blank cell; the status is "ok" if the model responds with the probabilities that its card promises."""
        try:
            await service.check_health()
        except Exception as error:  # whatever the runtime raises, the model does not respond
            is_known = isinstance(error, RequestRejected | NephrosError)
            message = str(error) if is_known else "The model does not respond."
            return _json_response(FailingResponse(status="failing", error=message), 503)
        return _json_response(HealthyResponse(status="ok"))

    @app.get("/version", responses=openapi.VERSION_RESPONSES, tags=["server"])
    async def get_version() -> Response:
        """Describe the version, the model, its classes and the limits of requests."""
        return _json_response(version)

    @app.get("/metrics", responses=openapi.METRICS_RESPONSES, response_class=Response, tags=["server"])
    async def prometheus_metrics() -> Response:
        """Metrics in Prometheus's text format: requests, latency, predictions, errors, batches and queue."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)


def _add_pages(app: FastAPI, version: VersionResponse, samples: list[SampleCell]) -> None:
    """Add the page, its parts and the samples; all files are read once, now."""
    index_html = openapi.render_index_page(app.root_path)
    sample_by_name = {sample.info.name: sample for sample in samples}

    @app.get("/", include_in_schema=False)
    async def index_page() -> HTMLResponse:
        return HTMLResponse(index_html)

    @app.get("/api", include_in_schema=False)
    async def api_page() -> HTMLResponse:
        return HTMLResponse(openapi.render_api_page(app.openapi(), version, app.root_path))

    for path, media_type in STATIC_FILES.items():
        content = (STATIC_DIR / path[1:]).read_bytes()
        app.add_api_route(path, _static_endpoint(content, media_type), include_in_schema=False)

    @app.get("/samples", include_in_schema=False)
    async def list_samples() -> list[SampleInfo]:
        return [sample.info for sample in samples]

    @app.get("/samples/{name}", include_in_schema=False)
    async def sample_png(name: str) -> Response:
        if name not in sample_by_name:
            raise HTTPException(404)
        return Response(sample_by_name[name].png, media_type="image/png")


def _static_endpoint(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def endpoint() -> Response:
        return Response(content, media_type=media_type)

    return endpoint


def _add_exception_handlers(app: FastAPI, root_path: str) -> None:
    """Make the response to every error one plain sentence in JSON."""

    @app.exception_handler(RequestRejected)
    async def on_rejected(_: Request, error: RequestRejected) -> Response:
        return _error_response(error.message, error.status, {"retry-after": "2"} if error.status == 503 else {})

    @app.exception_handler(NephrosError)
    async def on_nephros_error(_: Request, error: NephrosError) -> Response:
        return _error_response(str(error), 400)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(request: Request, error: RequestValidationError) -> Response:
        problems = error.errors()
        unknown = next((problem["loc"][-1] for problem in problems if problem["type"] == "extra_forbidden"), None)
        if unknown is not None:
            params = StreamParams if request.url.path.endswith("/batch") else PredictParams
            return _error_response(_unknown_parameter(str(unknown), params.model_fields), 422)
        problem = problems[0]
        return _error_response(f"Invalid query parameter {problem['loc'][-1]}: {problem['msg']}.", 422)

    @app.exception_handler(HTTPException)
    async def on_http_exception(_: Request, error: HTTPException) -> Response:
        messages = {404: f"Not found: see {root_path}/api.", 405: f"Method not allowed: see {root_path}/api."}
        return _error_response(messages.get(error.status_code, error.detail), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def on_unexpected_error(_: Request, error: Exception) -> Response:
        return _error_response(f"Internal server error ({type(error).__name__}): see the server log.", 500)


def _reject_repeated_parameters(request: Request) -> None:
    """Raise RequestRejected if a query parameter is given twice: one of its values would be ignored without a word."""
    names = [name for name, _ in request.query_params.multi_items()]
    if repeated := [name for name in request.query_params if names.count(name) > 1]:
        raise RequestRejected(
            422, f"The query parameter {repeated[0]} is given {names.count(repeated[0])} times: give it once."
        )


def _unknown_parameter(name: str, known: Collection[str]) -> str:
    """Return the sentence that refuses a query parameter and suggests the nearest, or lists all of them."""
    safe_name = sanitize_filename(name.encode("utf-8", "replace"))[:80]
    suggestion = did_you_mean(name.lower(), known) or f" Use {', '.join(known)}."
    return f"There is no query parameter '{safe_name}'.{suggestion}"


def _error_response(message: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    response = _json_response(ErrorResponse(error=message), status)
    response.headers.update(headers or {})
    return response


def _json_response(model: BaseModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(exclude_unset=True), status, media_type="application/json")
