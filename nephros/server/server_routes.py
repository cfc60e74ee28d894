"""The routes about the server itself: /health, /version, /models and /metrics."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import Response

from nephros.errors import NephrosError
from nephros.server import openapi
from nephros.server.error_responses import json_list_response, json_response
from nephros.server.limits import RequestRejected
from nephros.server.model_choice import ModelChoice
from nephros.server.prometheus import CONTENT_TYPE, ServerMetrics
from nephros.server.schemas import FailingResponse, HealthyResponse, VersionResponse
from nephros.server.service import Service


def add_server_routes(
    app: FastAPI, service: Service, metrics: ServerMetrics, version: VersionResponse, models: ModelChoice
) -> None:
    """Add /health, /version, /models and /metrics."""

    @app.get("/health", responses=openapi.HEALTH_RESPONSES, tags=["server"])
    async def health() -> Response:
        """Classify a blank cell; the status is "ok" if the model responds with the probabilities that its card promises."""
        try:
            await service.check_health()
        except Exception as error:  # whatever the runtime raises, the model does not respond
            is_known = isinstance(error, RequestRejected | NephrosError)
            message = str(error) if is_known else "The model does not respond."
            return json_response(FailingResponse(status="failing", error=message), 503)
        return json_response(HealthyResponse(status="ok"))

    @app.get("/version", responses=openapi.VERSION_RESPONSES, tags=["server"])
    async def get_version() -> Response:
        """Describe the version, the model, its classes and the limits of requests."""
        return json_response(version)

    @app.get("/models", responses=openapi.MODELS_RESPONSES, tags=["server"])
    async def get_models() -> Response:
        """List the models that requests may name."""
        return json_list_response(models.infos())

    @app.get("/metrics", responses=openapi.METRICS_RESPONSES, response_class=Response, tags=["server"])
    async def prometheus_metrics() -> Response:
        """Metrics in Prometheus's text format: requests, latency, predictions, errors, batches and queue."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)
