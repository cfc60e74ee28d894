"""Holds JSON values to the schemas that the server publishes; a field that is not documented is a fault."""

from __future__ import annotations

from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
WORDS = {
    "title",
    "description",
    "default",
    "required",
    "type",
    "properties",
    "items",
    "const",
    "anyOf",
    "oneOf",
    "$ref",
}
"""What is understood of JSON Schema; anything else in a schema fails, so that nothing passes unchecked."""


def faults(value: Any, schema: dict[str, Any], document: dict[str, Any], where: str = "answer") -> list[str]:
    """Return where `value` is not as `schema`, a part of the OpenAPI `document`, says."""
    if not schema:
        return [f"{where}: an empty schema documents nothing"]
    if strange := set(schema) - WORDS:
        return [f"{where}: the schema says {strange}, which this test does not understand"]
    if "$ref" in schema:
        return faults(value, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document, where)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            tried = [faults(value, part, document, where) for part in schema[word]]
            fitting = sum(not found for found in tried)
            good = fitting == 1 if word == "oneOf" else fitting > 0
            return [] if good else [f"{where}: {fitting} of {word} fit", *min(tried, key=len)]
    kinds = TYPES[schema["type"]]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return [f"{where}: {value!r} is no {schema['type']}"]
    found = [f"{where}: {value!r} is not {schema['const']!r}"] if value != schema.get("const", value) else []
    if isinstance(value, list):
        for i, entry in enumerate(value):
            found += faults(entry, schema["items"], document, f"{where}[{i}]")
    if isinstance(value, dict):
        known = schema["properties"]
        found += [f"{where}.{key}: not documented" for key in value if key not in known]
        found += [f"{where}.{key}: missing" for key in schema.get("required", []) if key not in value]
        for key in value.keys() & known.keys():
            found += faults(value[key], known[key], document, f"{where}.{key}")
    return found


def of_answer(document: dict[str, Any], path: str, status: int, kind: str = "application/json") -> dict[str, Any]:
    """Return the schema of an answer."""
    (methods,) = document["paths"][path].values()
    return dict(methods["responses"][str(status)]["content"][kind]["schema"])
