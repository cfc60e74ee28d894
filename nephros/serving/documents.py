"""What the API says about itself: schemas for OpenAPI, and the page /api, which is made from them."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from pydantic import BaseModel, Field

from nephros.serving.answering import Service
from nephros.serving.limits import Limits
from nephros.versions import __version__

DESCRIPTION = (
    "Classifies pictures of single kidney cells. Pictures stay in this machine's memory and are forgotten with the answer. "
    "For research only, not for diagnosis."
)


class Result(BaseModel):
    """One cell, or what stands in its place. With an error all that the model would say is null."""

    file: str = Field(description="The name that was sent.")
    index: int = Field(description="Page of the file or row of the array, from 0.")
    label: int | None
    class_name: str | None
    probabilities: list[float] | None = Field(description="Calibrated, by label; they sum to 1.")
    prediction_set: list[int] | None = Field(description="Labels; holds the right one as often as coverage asks.")
    unfamiliar: bool | None = Field(description="Whether the cell is unlike those that the model learnt from.")
    error: str | None = Field(description="One sentence on why there is no answer.")


class Answer(BaseModel):
    """The answer of /predict: a result a cell, in the order of the files."""

    version: str
    results: list[Result]


class Trouble(BaseModel):
    """Every refusal."""

    error: str = Field(description="One plain sentence.")


_REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"model": Trouble, "description": "The upload is damaged, cut short or empty."},
    403: {"model": Trouble, "description": "Asked by another site, or under another host name."},
    408: {"model": Trouble, "description": "The upload came too slowly."},
    413: {"model": Trouble, "description": "The upload is above a limit; see /version."},
    415: {"model": Trouble, "description": "The body is no multipart/form-data."},
    422: {"model": Trouble, "description": "A query parameter is out of range."},
    503: {"model": Trouble, "description": "Busy: try again after the seconds in Retry-After."},
}
ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": Answer}, **_REFUSED, 504: {"model": Trouble}}
LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Lines of JSON, one a result.",
        "content": {"application/x-ndjson": {"schema": {"$ref": "#/components/schemas/Result"}}},
    },
    **_REFUSED,
}
HEALTH: dict[int | str, dict[str, Any]] = {503: {"description": "The model does not answer."}}
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
        loader=PackageLoader("nephros.serving", "static"), autoescape=select_autoescape(), undefined=StrictUndefined,
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
