"""The application: the JSON API's routes, and the page that uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.types import ASGIApp

from nephros.environment import __version__
from nephros.inference.bundled import DEFAULT_MODEL
from nephros.server import openapi
from nephros.server.access import AccessPolicy
from nephros.server.error_responses import add_exception_handlers
from nephros.server.limits import BATCH_LIMITS, MAX_BUFFERED_BYTES, STACK_LIMITS, MemoryBudget, RequestLimits
from nephros.server.middleware import RequestMiddleware
from nephros.server.model_choice import ModelChoice, ModelEntry
from nephros.server.page_routes import add_pages
from nephros.server.prediction_routes import add_prediction_routes
from nephros.server.prometheus import ServerMetrics
from nephros.server.sample_cells import SampleCell
from nephros.server.server_routes import add_server_routes
from nephros.server.service import Service
from nephros.server.stack_routes import add_stack_routes

if TYPE_CHECKING:
    from nephros.server.project.session import ProjectSession


def create_app(
    service: Service,
    samples: list[SampleCell],
    *,
    access: AccessPolicy | None = None,
    root_path: str = "",
    limits: RequestLimits | None = None,
    batch_limits: RequestLimits = BATCH_LIMITS,
    stack_limits: RequestLimits = STACK_LIMITS,
    max_buffered_bytes: int = MAX_BUFFERED_BYTES,
    project: ProjectSession | None = None,
    model_name: str = DEFAULT_MODEL,
    more_models: Sequence[ModelEntry] = (),
) -> ASGIApp:
    """Return the application.

    Args:
        service: predicts; the application closes it when it shuts down.
        samples: cells that the page offers.
        access: which requests are accepted; by default those addressed to localhost.
        root_path: path prefix at which a reverse proxy offers the server, such as ``"/nephros"``.
        limits: limits of a request to /predict.
        batch_limits: limits of a request to /predict/batch.
        stack_limits: limits of a request to /predict/stack.
        max_buffered_bytes: memory for the uploads of all requests together.
        model_name: name of the model of `service`, by which requests may name it.
        more_models: further models that requests may name.
        project: a project to label, which the application starts and closes; without one it has no such routes.
    """
    limits = limits or RequestLimits()
    metrics = ServerMetrics(service.batcher)
    models = ModelChoice(model_name, service, more_models)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        if project is not None:
            project.start()
        yield
        if project is not None:
            project.close()
        models.close()

    app = FastAPI(
        title="nephros", version=__version__, description=openapi.DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None,  # these load scripts from other hosts
        redirect_slashes=False,  # redirects would name this server, not the proxy before it
        # Newer versions would send these to a collector that environment variables name.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},
    )  # fmt: skip
    # Not by its parameter, which FastAPI calls deprecated in favor of the server's: tests have no server.
    app.root_path = root_path
    version_response = openapi.version_response(service, limits, batch_limits, stack_limits)
    add_pages(app, version_response, samples, has_project=project is not None)
    add_exception_handlers(app, root_path)
    add_prediction_routes(app, models, metrics, MemoryBudget(max_buffered_bytes), limits, batch_limits)
    add_stack_routes(app, models, metrics, stack_limits)
    add_server_routes(app, service, metrics, version_response, models)
    routes = frozenset(route.path for route in app.routes if isinstance(route, APIRoute | Route))
    if project is not None:
        from nephros.server.project.routes import add_project_routes  # without a project, scikit-learn is not needed

        routes |= add_project_routes(app, project)
        metrics.observe_project(project)
    return RequestMiddleware(app, metrics, routes, access or AccessPolicy(), root_path)
