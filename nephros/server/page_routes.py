"""The routes of the pages: / and /api, the files they load, and the sample cells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from nephros.server import openapi
from nephros.server.sample_cells import SampleCell
from nephros.server.schemas import SampleInfo, VersionResponse

STATIC_DIR = Path(__file__).parent / "static"
ANNOTATION_PAGE = "annotate.html"
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
"""Of the files that the pages load; templates (.html) are not among them."""


def add_pages(app: FastAPI, version: VersionResponse, samples: list[SampleCell], *, has_project: bool = False) -> None:
    """Add the pages, their parts and the samples; all files are read once, now."""
    index_html = openapi.render_page("index.html", app.root_path, project=has_project)
    sample_by_name = {sample.info.name: sample for sample in samples}

    @app.get("/", include_in_schema=False)
    async def index_page() -> HTMLResponse:
        return HTMLResponse(index_html)

    if has_project and (STATIC_DIR / ANNOTATION_PAGE).is_file():
        annotation_html = openapi.render_page(ANNOTATION_PAGE, app.root_path)

        @app.get("/annotate", include_in_schema=False)
        async def annotation_page() -> HTMLResponse:
            return HTMLResponse(annotation_html)

    @app.get("/api", include_in_schema=False)
    async def api_page() -> HTMLResponse:
        return HTMLResponse(openapi.render_api_page(app.openapi(), version, app.root_path))

    for file in sorted(STATIC_DIR.rglob("*")):
        if media_type := MEDIA_TYPES.get(file.suffix):
            path = f"/{file.relative_to(STATIC_DIR).as_posix()}"
            app.add_api_route(path, _static_endpoint(file.read_bytes(), media_type), include_in_schema=False)

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
