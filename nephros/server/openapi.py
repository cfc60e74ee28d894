"""What the API says about itself: OpenAPI's answers by route, and the page /api, which is made from them."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from nephros.environment import __version__
from nephros.server import schemas
from nephros.server.limits import RequestLimits
from nephros.server.service import Service

DESCRIPTION = (
    "Classifies pictures of single kidney cells. Pictures stay in this machine's memory and are forgotten with the answer. "
    "For research only, not for diagnosis."
)


def _stream_line_schema() -> dict[str, Any]:
    """Return the schema of a line of /predict/batch; its parts are components of PredictionResult."""
    models = (schemas.StreamedResult, schemas.StreamCompleted, schemas.StreamAborted)
    line_schemas = [kind.model_json_schema(ref_template="#/components/schemas/{model}") for kind in models]
    return {"oneOf": [{key: value for key, value in schema.items() if key != "$defs"} for schema in line_schemas]}


_COMMON_ERRORS: dict[int | str, dict[str, Any]] = {
    403: {"model": schemas.ErrorResponse, "description": "Asked by another site, or under another host name."},
    500: {"model": schemas.ErrorResponse, "description": "The server failed: its output says how."},
}
_UPLOAD_ERRORS: dict[int | str, dict[str, Any]] = {
    **_COMMON_ERRORS,
    400: {"model": schemas.ErrorResponse, "description": "The upload is damaged, cut short or empty."},
    408: {"model": schemas.ErrorResponse, "description": "The upload came too slowly."},
    413: {"model": schemas.ErrorResponse, "description": "The upload is above a limit; see /version."},
    415: {"model": schemas.ErrorResponse, "description": "The body is no multipart/form-data."},
    422: {"model": schemas.ErrorResponse, "description": "A query parameter is out of range."},
    503: {"model": schemas.ErrorResponse, "description": "Busy: try again after the seconds in Retry-After."},
}
PREDICT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": schemas.PredictResponse},
    **_UPLOAD_ERRORS,
    504: {"model": schemas.ErrorResponse, "description": "The answer took too long."},
}
STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Lines of JSON: one a result, and a last one that says whether all are there.",
        "content": {"application/x-ndjson": {"schema": _stream_line_schema()}},
    },
    **_UPLOAD_ERRORS,
}
HEALTH_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": schemas.HealthyResponse},
    **_COMMON_ERRORS,
    503: {"model": schemas.FailingResponse, "description": "The model does not answer."},
}
VERSION_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"model": schemas.VersionResponse}, **_COMMON_ERRORS}
METRICS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Counters as text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **_COMMON_ERRORS,
}
MULTIPART_BODY = {
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


def version_info(service: Service, limits: RequestLimits, batch_limits: RequestLimits) -> dict[str, Any]:
    """Return the answer of ``/version``, plain JSON values."""
    card, reference_index = service.predictor.card, service.reference_index
    return {
        "version": __version__,
        "model": {
            "recipe": card["recipe"],
            "training_data": card["data"]["title"],
            "test_accuracy": card["test_accuracy"],
            "test_setup": card["test"]["setup"] if card["test"] else None,
            "weights_sha256": card["network"]["weights_sha256"],
            "precision": card["network"]["precision"],
            "tta_views": card["network"]["tta_views"],
            "detects_ood": card["ood_detector"] is not None,
            "input": card["input"],
            "limitations": card["limitations"],
        },
        "class_names": list(service.predictor.class_names),
        "reference_cells": None
        if reference_index is None
        else {
            "n_cells": len(reference_index),
            "title": reference_index.title,
            "trained_on": reference_index.trained_on,
        },
        "limits": {"predict": limits.to_dict(), "batch": batch_limits.to_dict()},
    }


def render_api_page(schema: dict[str, Any], info: dict[str, Any]) -> str:
    """Return /api as HTML."""
    environment = Environment(
        loader=PackageLoader("nephros.server", "static"), autoescape=select_autoescape(), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("api.html").render(schema=schema, info=info, type_name=_type_name)


def _type_name(schema: dict[str, Any]) -> str:
    """Return a schema's type in a word or two."""
    if "anyOf" in schema:
        return " or ".join(_type_name(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type_name(schema['items'])}s"
    return str(schema.get("type", schema.get("$ref", "").rpartition("/")[2] or "any"))
