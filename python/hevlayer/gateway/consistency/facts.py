"""Reads what matters from v2 metadata and the schema inside it."""

import re
from collections.abc import Mapping

import orjson

from hevlayer.gateway.consistency.view import NO_SCHEMA, SchemaFacts, VectorField
from hevlayer.kernels.doccache import DocCacheError, DocSchema
from hevlayer.wire.reserved import RESERVED_PREFIX, STAMP_ATTRIBUTE

ID_TYPES = frozenset({"uint", "string", "uuid"})
_DENSE_VECTOR = re.compile(r"(?:\[\])?\[(\d+)\](f32|f16|i8)")


def read_schema(schema: object) -> SchemaFacts:
    """Facts of a schema map attribute → configuration; anything that is not such a map has no facts."""
    if not isinstance(schema, Mapping):
        return NO_SCHEMA
    types = {str(name): _type_of(config) for name, config in schema.items()}
    vectors = tuple(
        VectorField(name, int(found[1]), found[2])
        for name, declared in types.items()
        if (found := _DENSE_VECTOR.fullmatch(declared))
    )
    id_type = types.get("id")
    return SchemaFacts(
        stamped=STAMP_ATTRIBUTE in types,
        id_type=id_type if id_type in ID_TYPES else None,
        distance_metric=next(filter(None, (_metric_of(schema[vector.name]) for vector in vectors)), None),
        vectors=vectors,
        fields=tuple(sorted(name for name in types if not name.startswith(RESERVED_PREFIX))),
        has_f16=any("f16" in declared for declared in types.values()),
        has_datetime=any("datetime" in declared for declared in types.values()),
        has_embedding=any(name.startswith("$embed_") for name in types)
        or any(isinstance(config, Mapping) and config.get("embed") for config in schema.values()),
        stored=_stored(schema),
    )


def read_created_at(metadata: bytes) -> str | None:
    """`created_at` of a metadata answer, as the upstream spells it; None when there is none."""
    try:
        decoded = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        return None
    created = decoded.get("created_at") if isinstance(decoded, dict) else None
    return created if isinstance(created, str) else None


def _stored(schema: Mapping[object, object]) -> DocSchema | None:
    try:
        return DocSchema(orjson.dumps(schema))
    except (DocCacheError, ValueError, TypeError):
        # A schema of a form that is not known here tells nothing of its rows.
        return None


def _type_of(config: object) -> str:
    declared = config.get("type") if isinstance(config, Mapping) else config
    return declared if isinstance(declared, str) else ""


def _metric_of(config: object) -> str | None:
    ann = config.get("ann") if isinstance(config, Mapping) else None
    metric = ann.get("distance_metric") if isinstance(ann, Mapping) else None
    return metric if isinstance(metric, str) else None
