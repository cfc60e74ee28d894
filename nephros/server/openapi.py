"""What the API says about itself: OpenAPI's answers by route, and the page /api, which is made from them."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from nephros.environment import __version__
from nephros.server import schemas
from nephros.server.limits import Limits
from nephros.server.service import Service

DESCRIPTION = (
    "Classifies pictures of single kidney cells. Pictures stay in this machine's memory and are forgotten with the answer. "
    "For research only, not for diagnosis."
)


def _lines() -> dict[str, Any]:
    """Return the schema of a line of /predict/batch; what it is made of stands among the components by way of Result."""
    kinds = (schemas.Line, schemas.Done, schemas.BrokenOff)
    found = [kind.model_json_schema(ref_template="#/components/schemas/{model}") for kind in kinds]
    return {"oneOf": [{key: value for key, value in schema.items() if key != "$defs"} for schema in found]}


_ANYWHERE: dict[int | str, dict[str, Any]] = {
    403: {"model": schemas.Trouble, "description": "Asked by another site, or under another host name."},
    500: {"model": schemas.Trouble, "description": "The server failed: its output says how."},
}
_REFUSED: dict[int | str, dict[str, Any]] = {
    **_ANYWHERE,
    400: {"model": schemas.Trouble, "description": "The upload is damaged, cut short or empty."},
    408: {"model": schemas.Trouble, "description": "The upload came too slowly."},
    413: {"model": schemas.Trouble, "description": "The upload is above a limit; see /version."},
    415: {"model": schemas.Trouble, "description": "The body is no multipart/form-data."},
    422: {"model": schemas.Trouble, "description": "A query parameter is out of range."},
    503: {"model": schemas.Trouble, "description": "Busy: try again after the seconds in Retry-After."},
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": schemas.Answer},
    **_REFUSED,
    504: {"model": schemas.Trouble, "description": "The answer took too long."},
}
LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Lines of JSON: one a result, and a last one that says whether all are there.",
        "content": {"application/x-ndjson": {"schema": _lines()}},
    },
    **_REFUSED,
}
HEALTH: dict[int | str, dict[str, Any]] = {
    200: {"model": schemas.Healthy},
    **_ANYWHERE,
    503: {"model": schemas.Failing, "description": "The model does not answer."},
}
VERSION: dict[int | str, dict[str, Any]] = {200: {"model": schemas.Version}, **_ANYWHERE}
METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Counters as text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **_ANYWHERE,
}
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "PNG, TIFF (a page a cell, no 3-D stack), JPEG or npz.",
                        }
                    },
                }
            }
        },
    }
}


def about(service: Service, limits: Limits, batch_limits: Limits) -> dict[str, Any]:
    """Return the answer of ``/version``, plain JSON values."""
    card, known = service.engine.card, service.known
    return {
        "version": __version__,
        "model": {
            "recipe": card["recipe"],
            "data": card["data"]["title"],
            "test_accuracy": card["test_accuracy"],
            "test_of": card["test"]["of"] if card["test"] else None,
            "weights_sha256": card["network"]["weights_sha256"],
            "precision": card["network"]["precision"],
            "views": card["network"]["views"],
            "finds_unfamiliar": card["unfamiliarity"] is not None,
            "input": card["input"],
            "limits": card.get("limits", []),
        },
        "class_names": list(service.engine.class_names),
        "known": None if known is None else {"cells": len(known), "title": known.title, "trained_on": known.trained_on},
        "limits": {"predict": limits.to_dict(), "batch": batch_limits.to_dict()},
    }


def page(schema: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return /api as HTML."""
    environment = Environment(
        loader=PackageLoader("nephros.server", "static"), autoescape=select_autoescape(), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("api.html").render(schema=schema, facts=facts, types=_type)


def _type(schema: dict[str, Any]) -> str:
    """Return a schema's type in a word or two."""
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}s"
    return str(schema.get("type", schema.get("$ref", "").rpartition("/")[2] or "any"))
