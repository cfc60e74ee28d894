"""How a project's routes describe themselves in OpenAPI: responses, and bodies that are read as they arrive."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from nephros.server.openapi import COMMON_ERRORS, Responses, describe_error

READ_ERRORS: Responses = {
    **COMMON_ERRORS,
    400: describe_error("The project has no such cell or class."),
    404: describe_error("There is no such run, job or file."),
    409: describe_error("The project has too few labels for it yet."),
    412: describe_error("The request names another project in X-Nephros-Project."),
    422: describe_error("A parameter is invalid or unknown."),
    503: describe_error("Busy, or the file of labels is locked: try again after the seconds in Retry-After."),
}
WRITE_ERRORS: Responses = {
    **READ_ERRORS,
    403: describe_error("The request comes from another site, or does not carry the token of GET /project."),
    408: describe_error("The body is too slow."),
    413: describe_error("The body exceeds a limit."),
    415: describe_error("The body is of another kind."),
    507: describe_error("The disk of the server is full, or the project can't be written: try again once it can."),
}


def responses(model: type[BaseModel]) -> Responses:
    """Return the descriptions of the responses of a route that reads."""
    return {200: {"model": model}, **READ_ERRORS}


def list_responses(model: type[BaseModel]) -> Responses:
    """Return the descriptions of the responses of a route that reads a list."""
    return {200: {"model": list[model]}, **READ_ERRORS}  # type: ignore[valid-type]


def write_responses(model: type[BaseModel]) -> Responses:
    """Return the descriptions of the responses of a route that writes."""
    return {200: {"model": model}, **WRITE_ERRORS}


def binary_responses(description: str, media_type: str = "application/octet-stream") -> Responses:
    """Return the descriptions of the responses of a route that sends bytes."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"description": description, "content": content}, **READ_ERRORS}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the description of a JSON body."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _inline(schema)}}}}


def _inline(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with the definitions that it refers to in their places."""
    definitions = schema.get("$defs", {})

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolve(definitions[value["$ref"].rpartition("/")[2]])
            return {key: resolve(item) for key, item in value.items() if key != "$defs"}
        return [resolve(item) for item in value] if isinstance(value, list) else value

    resolved: dict[str, Any] = resolve(schema)
    return resolved
