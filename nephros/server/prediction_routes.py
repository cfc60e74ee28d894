"""The routes that predict: /predict responds with all results at once, /predict/batch line by line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from nephros.environment import __version__
from nephros.server import openapi
from nephros.server.error_responses import json_response, reject_repeated_parameters
from nephros.server.limits import MemoryBudget, RequestLimits, RequestRejected
from nephros.server.model_choice import ModelChoice
from nephros.server.multipart import read_multipart_files
from nephros.server.prometheus import ServerMetrics
from nephros.server.result_lines import iter_lines, record_results
from nephros.server.schemas import PredictParams, PredictResponse, StreamCompleted, StreamParams
from nephros.server.streaming import LeasedStreamingResponse


class _ParameterlessRoute(APIRoute):
    """Calls its endpoint at once where a request has no query string, and so no parameters that FastAPI must check."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what responds to a request."""
        handle_parameters = super().get_route_handler()
        defaults = PredictParams.model_validate({})

        async def handle(request: Request) -> Response:
            if request.scope["query_string"]:
                return await handle_parameters(request)
            response: Response = await self.endpoint(request, defaults)
            return response

        return handle


def add_prediction_routes(
    app: FastAPI,
    models: ModelChoice,
    metrics: ServerMetrics,
    budget: MemoryBudget,
    limits: RequestLimits,
    batch_limits: RequestLimits,
) -> None:
    """Add /predict and /predict/batch; `budget` is the memory for the uploads of all requests together."""

    async def predict(request: Request, params: Annotated[PredictParams, Query()]) -> Response:
        """Classify images of cells: PNG, TIFF (one cell per page), JPEG and npz files. A file that can't be read gets its
        own error; the others still get predictions."""
        reject_repeated_parameters(request)
        service = await models.service(params.model)
        with budget.lease() as lease:
            files = await read_multipart_files(request, limits, lease)
            try:
                async with asyncio.timeout(limits.timeout_s):
                    results = [result async for result in service.stream_results(files, params, limits)]
            except TimeoutError:
                raise RequestRejected(504, "The prediction took too long: send fewer files at once.") from None
        results.sort(key=lambda result: result.row)
        record_results(metrics, results)
        # A list of PredictionResult serializes only that class's fields: `row` is left out.
        return json_response(PredictResponse(version=__version__, results=[*results]))

    app.router.add_api_route(
        "/predict",
        predict,
        methods=["POST"],
        responses=openapi.PREDICT_RESPONSES,
        openapi_extra=openapi.MULTIPART_BODY,
        tags=["predictions"],
        route_class_override=_ParameterlessRoute,
    )

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
        reject_repeated_parameters(request)
        service = await models.service(params.model)
        with ExitStack() as lease_scope:
            files = await read_multipart_files(request, batch_limits, lease_scope.enter_context(budget.lease()))
            lease_stack = lease_scope.pop_all()
        results = service.stream_results(files, params, batch_limits)
        lines = iter_lines(
            results,
            metrics,
            batch_limits.timeout_s,
            lambda n_rows: StreamCompleted(done=True, version=__version__, n_rows=n_rows),
        )
        return LeasedStreamingResponse(lines, lease_stack, media_type="application/x-ndjson")
