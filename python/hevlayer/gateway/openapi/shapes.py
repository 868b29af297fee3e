"""Short ways to write JSON Schema (2020-12, as OpenAPI 3.1 has it)."""

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

UINT64_MAX = (1 << 64) - 1


def ref(name: str) -> Schema:
    """A schema of `components`."""
    return {"$ref": f"#/components/schemas/{name}"}


def described(schema: Schema, text: str) -> Schema:
    """The schema with a description; 3.1 allows one beside `$ref`."""
    return {**schema, "description": text}


def string(text: str = "", **rules: Any) -> Schema:
    return _noted({"type": "string", **rules}, text)


def integer(text: str = "", *, minimum: int | None = None, maximum: int | None = None) -> Schema:
    return _noted({"type": "integer", **_bounds(minimum, maximum)}, text)


def number(text: str = "", *, minimum: float | None = None, maximum: float | None = None) -> Schema:
    return _noted({"type": "number", **_bounds(minimum, maximum)}, text)


def boolean(text: str = "") -> Schema:
    return _noted({"type": "boolean"}, text)


def anything(text: str = "") -> Schema:
    return _noted({}, text)


def words(*allowed: str, text: str = "") -> Schema:
    """One of a few strings."""
    return _noted({"type": "string", "enum": list(allowed)}, text)


def array(items: Schema, text: str = "", *, least: int = 0, most: int | None = None) -> Schema:
    schema: Schema = {"type": "array", "items": items}
    if least:
        schema["minItems"] = least
    if most is not None:
        schema["maxItems"] = most
    return _noted(schema, text)


def fixed(*items: Schema, text: str = "", optional: int = 0) -> Schema:
    """An array with one schema for each place, of which the last `optional` may be missing."""
    return _noted(
        {"type": "array", "prefixItems": list(items), "minItems": len(items) - optional, "maxItems": len(items)}, text
    )


def mapping(values: Schema, text: str = "", *, names: Schema | None = None, most: int | None = None) -> Schema:
    """An object whose keys are the caller's."""
    schema: Schema = {"type": "object", "additionalProperties": values}
    if names is not None:
        schema["propertyNames"] = names
    if most is not None:
        schema["maxProperties"] = most
    return _noted(schema, text)


def obj(properties: Mapping[str, Schema], required: Sequence[str] = (), text: str = "") -> Schema:
    """An object that may have more keys than these: what is unknown passes through."""
    schema: Schema = {"type": "object", "properties": dict(properties)}
    if required:
        schema["required"] = list(required)
    return _noted(schema, text)


def either(*schemas: Schema, text: str = "") -> Schema:
    return _noted({"anyOf": list(schemas)}, text)


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _bounds(minimum: float | None, maximum: float | None) -> Schema:
    bounds = {"minimum": minimum, "maximum": maximum}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _noted(schema: Schema, text: str) -> Schema:
    return {**schema, "description": text} if text else schema
