"""Schemas of queries, recall and their answers."""

from hevlayer.gateway.openapi.shapes import (
    Schema,
    anything,
    array,
    boolean,
    described,
    either,
    fixed,
    integer,
    mapping,
    nullable,
    number,
    obj,
    ref,
    string,
    words,
)

_NAME, _FILTER, _VECTOR, _ID = ref("AttributeName"), ref("Filter"), ref("Vector"), ref("Id")
_DIRECTION = words("asc", "desc")
_SCORE = ref("Score")
_PREFIX = obj({"last_as_prefix": boolean()})
_CURVE = obj({"midpoint": either(number(), string()), "exponent": number()}, ["midpoint"])

_SHARED: dict[str, Schema] = {
    "consistency": ref("Consistency"),
    "vector_encoding": words("float", "base64"),
}
_LEG: dict[str, Schema] = {
    "rank_by": ref("RankBy"),
    "limit": ref("Limit"),
    "top_k": integer("The same as `limit.total`.", minimum=1, maximum=10_000),
    "offset": integer(minimum=0, maximum=10_000),
    "filters": _FILTER,
    "include_attributes": either(boolean(), array(_NAME)),
    "exclude_attributes": array(_NAME),
    "aggregate_by": mapping(
        either(fixed({"const": "Count"}), fixed({"const": "Sum"}, _NAME), fixed({"const": "Count"}, _NAME)), most=16
    ),
    "group_by": array(either(_NAME, mapping(fixed({"const": "ForEachUnique"}, _NAME)))),
    "compute_attributes": mapping(
        either(
            fixed(_NAME, {"const": "VectorDist"}, _VECTOR),
            fixed(_NAME, {"const": "Highlight"}, obj({"fragment_limit": integer(minimum=1)})),
            _SCORE,
        ),
        most=256,
    ),
    "rerank_by": ref("RerankBy"),
    "distance_metric": ref("DistanceMetric"),
}
_ANSWER: dict[str, Schema] = {
    "billing": ref("QueryBilling"),
    "performance": ref("QueryPerformance"),
    "stable_as_of": described(ref("Watermark"), "All writes up to here are in the answer; also in a header."),
}
_LEG_ANSWER: dict[str, Schema] = {
    "rows": array(ref("AnswerRow")),
    "aggregations": mapping(anything()),
    "aggregation_groups": array(mapping(anything())),
}

SCHEMAS: dict[str, Schema] = {
    "Consistency": either(
        obj({"level": {"const": "strong"}}, ["level"]),
        obj({"level": {"const": "eventual"}, "max_staleness_seconds": integer(minimum=0)}, ["level"]),
        text="Honoured as sent; without it the gateway's mode decides.",
    ),
    "Limit": either(
        integer(minimum=1, maximum=10_000),
        obj(
            {
                "total": integer(minimum=1, maximum=10_000),
                "per": obj(
                    {"attributes": array(_NAME, least=1), "limit": integer(minimum=1, maximum=10_000)},
                    ["attributes", "limit"],
                ),
            },
            ["total"],
        ),
    ),
    "RankBy": either(
        fixed(_NAME, {"const": "ANN"}, _VECTOR),
        fixed(_NAME, {"const": "kNN"}, _VECTOR),
        fixed(_NAME, {"const": "SparseKNN"}, mapping(number())),
        fixed(_NAME, _DIRECTION),
        array(fixed(_NAME, _DIRECTION), least=1, most=4),
        _SCORE,
        text="By vector, by text and other scores, or by attributes.",
    ),
    "Score": either(
        fixed(_NAME, {"const": "BM25"}, either(string(), array(string())), _PREFIX, optional=1),
        fixed(words("Sum", "Max"), array(_SCORE, least=1, most=4)),
        fixed({"const": "Product"}, number(minimum=0), _SCORE),
        fixed({"const": "Product"}, _SCORE, number(minimum=0)),
        fixed({"const": "Attribute"}, _NAME),
        fixed({"const": "Max"}, fixed(number(), _SCORE)),
        fixed(words("Saturate", "Decay"), _SCORE, _CURVE),
        fixed({"const": "Dist"}, fixed({"const": "Attribute"}, _NAME), either(number(), string())),
        _FILTER,
        text="An expression whose value ranks a document; a filter counts 1 where it matches.",
    ),
    "RerankBy": either(
        fixed({"const": "RRF"}),
        fixed({"const": "RRF"}, obj({"rank_constant": number(), "weights": array(number())})),
        obj({"model": string(), "query": string(), "attribute": _NAME}, ["model", "query", "attribute"]),
    ),
    "NativeQuery": obj({**_LEG, **_SHARED}, text="One query as the upstream has it: `rank_by` or `aggregate_by`."),
    "MultiQuery": obj(
        {
            "queries": array(obj(_LEG), least=1, most=16),
            "rerank_by": ref("RerankBy"),
            "limit": ref("Limit"),
            "offset": integer(minimum=0),
            **_SHARED,
        },
        ["queries"],
        "Up to 16 queries of one snapshot.",
    ),
    "LayerQuery": {
        **obj(
            {
                "vector": _VECTOR,
                "nearest_to_id": either(
                    _ID, array(_ID, least=1, most=100), text="Rank by the mean of these documents' vectors."
                ),
                "top_k": integer(minimum=1, maximum=10_000),
                "filters": _FILTER,
                "include_attributes": either(boolean(), array(_NAME)),
                **_SHARED,
            },
            ["top_k"],
            "The Layer dialect: a vector or documents' ids, and no `rank_by`.",
        ),
        "oneOf": [{"required": ["vector"]}, {"required": ["nearest_to_id"]}],
    },
    "QueryRequest": either(ref("NativeQuery"), ref("MultiQuery"), ref("LayerQuery")),
    "AnswerRow": obj(
        {"id": _ID, "$dist": number("The distance or score; absent when ordered by attributes.")},
        ["id"],
        "A document: its id and the attributes that were asked for, flat; nulls are left out.",
    ),
    "LayerResult": obj(
        {"id": _ID, "dist": nullable(number()), "attributes": mapping(anything())}, ["id", "attributes"]
    ),
    "QueryPerformance": obj(
        {
            "cache_hit_ratio": number(),
            "cache_temperature": words("hot", "warm", "cold"),
            "server_total_ms": integer(minimum=0),
            "query_execution_ms": integer(minimum=0),
            "exhaustive_search_count": integer(minimum=0),
            "approx_namespace_size": integer(minimum=0),
            "last_included_write_at": string(),
        }
    ),
    "QueryAnswer": either(
        {
            **obj({**_LEG_ANSWER, **_ANSWER}, ["billing", "performance"], "The answer to one native query."),
            "not": {"required": ["results"]},
            "anyOf": [{"required": [name]} for name in _LEG_ANSWER],
        },
        obj(
            {
                "results": array(
                    {**obj(_LEG_ANSWER), "anyOf": [{"required": [name]} for name in _LEG_ANSWER]},
                    "One per query, in order; one in all when they are fused.",
                ),
                **_ANSWER,
            },
            ["results", "billing", "performance"],
            "The answer to a multi-query.",
        ),
        obj(
            {"rows": array(ref("AnswerRow")), "results": array(ref("LayerResult")), **_ANSWER},
            ["rows", "results", "billing", "performance"],
            "The answer to a query in the Layer dialect: the same documents in both shapes.",
        ),
    ),
    "LegacyQuery": either(
        ref("NativeQuery"),
        obj(
            {
                "vector": _VECTOR,
                "distance_metric": ref("DistanceMetric"),
                "top_k": integer(minimum=1, maximum=10_000),
                "include_vectors": boolean(),
                "include_attributes": either(boolean(), array(_NAME)),
                "filters": _FILTER,
            }
        ),
    ),
    "LegacyQueryAnswer": either(
        ref("QueryAnswer"),
        array(obj({"id": _ID, "dist": number(), "attributes": mapping(anything()), "vector": _VECTOR}, ["id"])),
    ),
    "ExplainAnswer": obj({"plan_text": string()}, ["plan_text"]),
    "RecallRequest": obj(
        {
            "num": nullable(integer("How many sampled vectors.", minimum=1, maximum=200)),
            "top_k": integer(minimum=1, maximum=10_000),
            "filters": _FILTER,
            "rank_by": ref("RankBy"),
            "include_ground_truth": boolean(),
        }
    ),
    "RecallAnswer": obj(
        {
            "avg_recall": number(),
            "avg_exhaustive_count": number(),
            "avg_ann_count": number(),
            "ground_truth": array(obj({"query_vector": _VECTOR, "nearest_neighbors": array(ref("AnswerRow"))})),
        },
        ["avg_recall", "avg_exhaustive_count", "avg_ann_count"],
    ),
}
