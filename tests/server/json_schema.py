"""Checks JSON values against the schemas that the server publishes; an undocumented field is an error."""

from __future__ import annotations

from typing import Any

JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
SUPPORTED_KEYWORDS = {
    "title",
    "description",
    "default",
    "required",
    "type",
    "properties",
    "additionalProperties",
    "items",
    "const",
    "enum",
    "anyOf",
    "oneOf",
    "$ref",
}
"""Supported keywords of JSON Schema; any other is an error, so that nothing passes unchecked."""


def schema_errors(value: Any, schema: dict[str, Any], document: dict[str, Any], path: str = "response") -> list[str]:
    """Return where `value` deviates from `schema`, a part of the OpenAPI `document`."""
    if not schema:
        return [f"{path}: an empty schema documents nothing"]
    if unsupported := set(schema) - SUPPORTED_KEYWORDS:
        return [f"{path}: unsupported keywords {unsupported}"]
    if "$ref" in schema:
        return schema_errors(
            value, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document, path
        )
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            candidates = [schema_errors(value, part, document, path) for part in schema[keyword]]
            n_matching = sum(not errors for errors in candidates)
            matches = n_matching == 1 if keyword == "oneOf" else n_matching > 0
            return [] if matches else [f"{path}: {n_matching} of {keyword} match", *min(candidates, key=len)]
    python_types = JSON_TYPES[schema["type"]]
    if not isinstance(value, python_types) or (isinstance(value, bool) and bool not in python_types):
        return [f"{path}: {value!r} is no {schema['type']}"]
    errors = [f"{path}: {value!r} is not {schema['const']!r}"] if value != schema.get("const", value) else []
    errors += [] if value in schema.get("enum", [value]) else [f"{path}: {value!r} is none of {schema['enum']}"]
    if isinstance(value, list):
        for i, entry in enumerate(value):
            errors += schema_errors(entry, schema["items"], document, f"{path}[{i}]")
    if isinstance(value, dict):
        if (of_all := schema.get("additionalProperties")) is not None:
            return [e for key in value for e in schema_errors(value[key], of_all, document, f"{path}.{key}")]
        properties = schema["properties"]
        errors += [f"{path}.{key}: not documented" for key in value if key not in properties]
        errors += [f"{path}.{key}: missing" for key in schema.get("required", []) if key not in value]
        for key in value.keys() & properties.keys():
            errors += schema_errors(value[key], properties[key], document, f"{path}.{key}")
    return errors


def response_schema(
    document: dict[str, Any], path: str, status: int, media_type: str = "application/json"
) -> dict[str, Any]:
    """Return the schema of a response."""
    methods = document["paths"][path]
    methods = methods["get"] if len(methods) > 1 else next(iter(methods.values()))
    return dict(methods["responses"][str(status)]["content"][media_type]["schema"])
