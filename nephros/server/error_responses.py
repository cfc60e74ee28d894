"""Responses to requests that fail: every error is one plain sentence in JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from nephros.errors import IncompleteError, LockedError, NephrosError, did_you_mean
from nephros.server.limits import RequestRejected
from nephros.server.multipart import sanitize_filename
from nephros.server.schemas import ErrorResponse

RETRY_HEADERS = {"retry-after": "2"}


def add_exception_handlers(app: FastAPI, root_path: str) -> None:
    """Make the response to every error one plain sentence in JSON."""

    @app.exception_handler(RequestRejected)
    async def on_rejected(_: Request, error: RequestRejected) -> Response:
        return error_response(error.message, error.status, RETRY_HEADERS if error.status == 503 else {})

    @app.exception_handler(NephrosError)
    async def on_nephros_error(_: Request, error: NephrosError) -> Response:
        if isinstance(error, LockedError):  # by another program, which ends
            return error_response(str(error), 503, RETRY_HEADERS)
        return error_response(str(error), 409 if isinstance(error, IncompleteError) else 400)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(request: Request, error: RequestValidationError) -> Response:
        problems = error.errors()
        unknown = next((problem["loc"][-1] for problem in problems if problem["type"] == "extra_forbidden"), None)
        if unknown is not None:
            operation = app.openapi()["paths"][request.scope["route"].path][request.method.lower()]
            known = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"]
            return error_response(_unknown_parameter(str(unknown), known), 422)
        problem = problems[0]
        return error_response(f"Invalid query parameter {problem['loc'][-1]}: {problem['msg']}.", 422)

    @app.exception_handler(HTTPException)
    async def on_http_exception(_: Request, error: HTTPException) -> Response:
        messages = {404: f"Not found: see {root_path}/api.", 405: f"Method not allowed: see {root_path}/api."}
        return error_response(messages.get(error.status_code, error.detail), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def on_unexpected_error(_: Request, error: Exception) -> Response:
        return error_response(f"Internal server error ({type(error).__name__}): see the server log.", 500)


def reject_repeated_parameters(request: Request, but: str = "") -> None:
    """Raise RequestRejected if a query parameter, `but` one, is given twice: a value would be ignored without a word."""
    names = [name for name, _ in request.query_params.multi_items() if name != but]
    if repeated := [name for name in request.query_params if names.count(name) > 1]:
        raise RequestRejected(
            422, f"The query parameter {repeated[0]} is given {names.count(repeated[0])} times: give it once."
        )


def _unknown_parameter(name: str, known: Collection[str]) -> str:
    """Return the sentence that refuses a query parameter and suggests the nearest, or lists all of them."""
    safe_name = sanitize_filename(name.encode("utf-8", "replace"))[:80]
    suggestion = did_you_mean(name.lower(), known) or f" Use {', '.join(known)}."
    return f"There is no query parameter '{safe_name}'.{suggestion}"


def error_response(message: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return a sentence as the body of a response with status 400 or above."""
    response = json_response(ErrorResponse(error=message), status)
    response.headers.update(headers or {})
    return response


def json_response(model: BaseModel, status: int = 200) -> Response:
    """Return a model as JSON, with the fields that were set."""
    return Response(model.model_dump_json(exclude_unset=True), status, media_type="application/json")


def json_list_response(models: Sequence[BaseModel]) -> Response:
    """Return models as a JSON list."""
    return Response(f"[{','.join(model.model_dump_json() for model in models)}]", media_type="application/json")
