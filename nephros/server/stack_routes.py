"""The route /predict/stack: classifies the nuclei of a 3-D stack, with its mask or after a rough segmentation."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from nephros.environment import __version__
from nephros.server import openapi
from nephros.server.error_responses import reject_repeated_parameters
from nephros.server.limits import MAX_STACK_BYTES, MemoryBudget, RequestLimits
from nephros.server.model_choice import ModelChoice
from nephros.server.prometheus import ServerMetrics
from nephros.server.result_lines import iter_lines
from nephros.server.stack_schemas import StackCompleted, StackParams
from nephros.server.stack_uploads import read_stack_upload
from nephros.server.streaming import LeasedStreamingResponse


def add_stack_routes(app: FastAPI, models: ModelChoice, metrics: ServerMetrics, limits: RequestLimits) -> None:
    """Add /predict/stack."""
    budget = MemoryBudget(MAX_STACK_BYTES)

    # A plain Response has no media type of its own, so that OpenAPI lists only the one in `responses`.
    @app.post(
        "/predict/stack",
        responses=openapi.STACK_RESPONSES,
        response_class=Response,
        openapi_extra=openapi.STACK_BODY,
        tags=["predictions"],
    )
    async def predict_stack(request: Request, params: Annotated[StackParams, Query()]) -> Response:
        """Classify the nuclei of one 3-D stack, by its instance mask or, without one, after a rough segmentation. Lines of the
        response are nuclei with their places, or how far reading the stack is. The last line is {"done": true, "version",
        "n_rows", "notes"}, or {"done": false, "error", "n_rows"} if the response ends early. Uploaded files are removed as soon
        as they are read."""
        reject_repeated_parameters(request)
        service = await models.service(params.model)
        with ExitStack() as scope:
            upload = await read_stack_upload(request, limits, budget)
            scope.callback(upload.remove_if_unread)
            options = params.stack_options(upload.mask.path if upload.mask else None)
            scope = scope.pop_all()
        notes: list[str] = []
        results = service.stream_stack(upload, options, params, limits, notes)
        lines = iter_lines(
            results,
            metrics,
            limits.timeout_s,
            lambda n_rows: StackCompleted(done=True, version=__version__, n_rows=n_rows, notes=notes),
        )
        return LeasedStreamingResponse(lines, scope, media_type="application/x-ndjson")
