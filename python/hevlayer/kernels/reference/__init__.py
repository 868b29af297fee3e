"""The splicer's slow twin: the same decisions, on trees from the standard library. It is the specification."""

from hevlayer.kernels.reference.answers import layer_results, strip_rows, strip_schema, top_level
from hevlayer.kernels.reference.digests import answer_ids, query_shape
from hevlayer.kernels.reference.queries import QueryTwin
from hevlayer.kernels.reference.tree import Json, Number, Pairs, RefusedError, id_key, parse, uuid_key
from hevlayer.kernels.reference.writes import WriteTwin

__all__ = [
    "Json",
    "Number",
    "Pairs",
    "QueryTwin",
    "RefusedError",
    "WriteTwin",
    "answer_ids",
    "id_key",
    "layer_results",
    "parse",
    "query_shape",
    "strip_rows",
    "strip_schema",
    "top_level",
    "uuid_key",
]
