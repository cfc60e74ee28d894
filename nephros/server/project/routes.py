"""All routes of a project, and who may call them: none of them exists without a project."""

from __future__ import annotations

from contextlib import ExitStack

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from nephros.server.limits import RequestRejected
from nephros.server.project import openapi_texts as texts
from nephros.server.project.cell_routes import add_cell_routes
from nephros.server.project.file_routes import add_file_routes
from nephros.server.project.label_routes import add_label_routes
from nephros.server.project.run_routes import add_run_routes
from nephros.server.project.session import ProjectSession
from nephros.server.streaming import LeasedStreamingResponse

TOKEN_HEADER, PROJECT_HEADER = "x-nephros-token", "x-nephros-project"
READ_METHODS = ("GET", "HEAD")


def add_project_routes(app: FastAPI, session: ProjectSession) -> frozenset[str]:
    """Add the routes below /project, and return their paths."""

    async def check_caller(request: Request) -> None:
        """Reject pages of other sites, which could make this server work; a page of another project, which was opened before the
        server was started with this one; and changes without the token."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise RequestRejected(403, "Pages of other sites may not use this server.")
        if request.headers.get(PROJECT_HEADER, session.project.id) != session.project.id:
            raise RequestRejected(412, "Another project is served at this address now: reload the page.")
        if request.method not in READ_METHODS:
            session.check_token(request.headers.get(TOKEN_HEADER, ""))

    router = APIRouter(prefix="/project", tags=["project"], dependencies=[Depends(check_caller)])
    add_label_routes(router, session)
    add_cell_routes(router, session)
    add_file_routes(router, session)
    add_run_routes(router, session)

    @router.get(
        "/events",
        responses=texts.binary_responses("Server-sent events: change, and job.", "text/event-stream"),
        response_class=Response,
    )
    async def events() -> Response:
        """Send an event "change" when labels, classes, cells or predictions have changed, and "job" when a job has. The first
        event is the present state."""
        with ExitStack() as scope:
            stream = scope.enter_context(session.events.connect())
            return LeasedStreamingResponse(stream, scope.pop_all(), media_type="text/event-stream")

    app.include_router(router)
    return frozenset(route.path for route in router.routes if isinstance(route, APIRoute))
