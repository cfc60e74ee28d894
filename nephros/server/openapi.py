"""How the API describes itself: responses by route for OpenAPI, the response of /version, and the page /api."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from pydantic import BaseModel

from nephros.environment import __version__
from nephros.microscopy.stack import installed_segmenters
from nephros.server import schemas
from nephros.server.limits import RequestLimits
from nephros.server.model_info import model_info
from nephros.server.service import Service
from nephros.server.stack_schemas import NO_POSITION, StackCompleted, StackProgress, StackResult

DESCRIPTION = (
    "Classifies images of single cells, and the nuclei of stacks. Images are kept in this machine's memory only, stacks in a "
    "temporary folder, and both are discarded with the response. For research only, not for diagnosis."
)

Responses = dict[int | str, dict[str, Any]]
"""Descriptions of responses by status, as FastAPI takes them."""


def describe_error(description: str, model: type[BaseModel] = schemas.ErrorResponse) -> dict[str, Any]:
    """Return the description of a response with an error."""
    return {"model": model, "description": description}


def _line_schema(*models: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a line that is one of the models; its parts are components of PredictionResult."""
    line_schemas = [model.model_json_schema(ref_template="#/components/schemas/{model}") for model in models]
    return {"oneOf": [{key: value for key, value in schema.items() if key != "$defs"} for schema in line_schemas]}


COMMON_ERRORS: Responses = {
    401: describe_error("The server asks for a token that the request does not have."),
    403: describe_error("The request comes from another site or is addressed to another host name."),
    500: describe_error("Internal error: see the server log."),
}
_UPLOAD_ERRORS: Responses = {
    **COMMON_ERRORS,
    400: describe_error("The upload is damaged, truncated or empty."),
    404: describe_error("The server offers no model of this name; see /models."),
    408: describe_error("The upload is too slow."),
    413: describe_error("The upload exceeds a limit; see /version."),
    415: describe_error("The body is not multipart/form-data."),
    422: describe_error("A query parameter is invalid or unknown."),
    503: describe_error("Busy: try again after the seconds in Retry-After."),
}
PREDICT_RESPONSES: Responses = {
    200: {"model": schemas.PredictResponse},
    **_UPLOAD_ERRORS,
    504: describe_error("The prediction took too long."),
}
STREAM_RESPONSES: Responses = {
    200: {
        "description": "Lines of JSON: one per result, and a last one that says whether the results are complete.",
        "content": {
            "application/x-ndjson": {
                "schema": _line_schema(schemas.StreamedResult, schemas.StreamCompleted, schemas.StreamAborted)
            }
        },
    },
    **_UPLOAD_ERRORS,
}
STACK_RESPONSES: Responses = {
    200: {
        "description": "Lines of JSON: one per nucleus, some on the progress, and a last one that says whether the results are "
        "complete.",
        "content": {
            "application/x-ndjson": {
                "schema": _line_schema(StackResult, StackProgress, StackCompleted, schemas.StreamAborted)
            }
        },
    },
    **_UPLOAD_ERRORS,
    507: describe_error("The server's disk has no room for the upload."),
}
HEALTH_RESPONSES: Responses = {
    200: {"model": schemas.HealthyResponse},
    **COMMON_ERRORS,
    503: describe_error("The model does not respond.", schemas.FailingResponse),
}
VERSION_RESPONSES: Responses = {200: {"model": schemas.VersionResponse}, **COMMON_ERRORS}
MODELS_RESPONSES: Responses = {200: {"model": list[schemas.ModelChoiceInfo]}, **COMMON_ERRORS}
METRICS_RESPONSES: Responses = {
    200: {"description": "Metrics as text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **COMMON_ERRORS,
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
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "PNG, TIFF (one cell per page; no 3-D stack), JPEG or npz.",
                        }
                    },
                }
            }
        },
    }
}
STACK_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["stack"],
                    "properties": {
                        "stack": {
                            "type": "string",
                            "format": "binary",
                            "description": "TIFF, OME-TIFF, ImageJ TIFF, npy, zipped OME-Zarr, CZI, ND2, LIF or IMS.",
                        },
                        "mask": {
                            "type": "string",
                            "format": "binary",
                            "description": "Label image of the same size: 0 outside, and a number for each nucleus.",
                        },
                    },
                }
            }
        },
    }
}


def version_response(
    service: Service, limits: RequestLimits, batch_limits: RequestLimits, stack_limits: RequestLimits
) -> schemas.VersionResponse:
    """Return the response of ``/version``."""
    reference_index = service.reference_index
    return schemas.VersionResponse(
        version=__version__,
        model=model_info(service.predictor.card),
        class_names=list(service.predictor.class_names),
        reference_cells=None
        if reference_index is None
        else schemas.ReferenceCells(
            n_cells=len(reference_index), title=reference_index.title, trained_on=reference_index.trained_on
        ),
        limits=schemas.LimitsByRoute(predict=limits, batch=batch_limits, stack=stack_limits),
        segmenters=installed_segmenters(),
    )


def render_page(name: str, root_path: str, **values: Any) -> str:
    """Return the page of a template as HTML; its links begin with `root_path`."""
    return _template(name).render(root=root_path, **values)


def render_api_page(schema: dict[str, Any], version: schemas.VersionResponse, root_path: str = "") -> str:
    """Return the page /api as HTML, from the OpenAPI `schema` and the response of /version; its links begin with `root_path`."""
    stack_fields = StackResult.model_json_schema()["properties"]
    nucleus_fields = {name: stack_fields[name] for name in NO_POSITION}
    return _template("api.html").render(
        schema=schema, info=version.model_dump(), nucleus_fields=nucleus_fields, type_name=_type_name, root=root_path
    )


def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("nephros.server", "static"), autoescape=select_autoescape(), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)


def _type_name(schema: dict[str, Any], *, plural: bool = False) -> str:
    """Return the name of a schema's type, such as ``"number or null"`` or ``"list of numbers"``."""
    if "anyOf" in schema:
        return " or ".join(_type_name(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"{'lists' if plural else 'list'} of {_type_name(schema['items'], plural=True)}"
    name = str(schema.get("type", schema.get("$ref", "").rpartition("/")[2] or "any"))
    return f"{name}s" if plural and "type" in schema else name
