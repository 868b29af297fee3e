"""Query bodies, shape by shape."""

import pytest
from splice_calls import refusal, spliced

from hevlayer.kernels.splice import QueryScan

P = b'["_hevlayer_upserted_at","Lte",5]'
EVENTUAL = b'"consistency":{"level":"eventual","max_staleness_seconds":1}'
RESERVED = b'"_hevlayer_upserted_at","_hevlayer_shard"'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"rank_by":["id","asc"],"limit":1}', b'{"rank_by":["id","asc"],"limit":1,"filters":%b}' % P),
        (b'{"filters": ["a","Eq", 1] ,"limit":1}', b'{"filters": ["And",[["a","Eq", 1],%b]] ,"limit":1}' % P),
        (b'{"filters":null,"aggregate_by":{"n":["Count"]}}', b'{"filters":%b,"aggregate_by":{"n":["Count"]}}' % P),
        (
            b'{"queries":[{"limit":1},{ },{"filters":[]}],"filters":["x"]}',
            b'{"queries":[{"limit":1,"filters":%b},{ "filters":%b},{"filters":["And",[[],%b]]}],"filters":["x"]}'
            % (P, P, P),
        ),
        (b'{"queries":null,"limit":1}', b'{"queries":null,"limit":1,"filters":%b}' % P),
        (b'{"queries":{"limit":1}}', b'{"queries":{"limit":1}}'),
        (b"{}", b'{"filters":%b}' % P),
        (b"17", b"17"),
    ],
)
def test_the_watermark_joins_every_leg(body: bytes, expected: bytes) -> None:
    assert spliced(body, watermark=True) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"limit":1}', b'{"limit":1,%b}' % EVENTUAL),
        (b'{"consistency":null}', b"{%b}" % EVENTUAL),
        (b'{"consistency":{"level":"strong"}}', b'{"consistency":{"level":"strong"}}'),
        (b'{"consistency":"eventual"}', b'{"consistency":"eventual"}'),
        (b'{"queries":[{"limit":1}]}', b'{"queries":[{"limit":1}],%b}' % EVENTUAL),
    ],
)
def test_consistency_is_added_where_there_is_none(body: bytes, expected: bytes) -> None:
    assert spliced(body, eventual=True) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"include_attributes":true,"limit":1}', b'{"exclude_attributes":[%b],"limit":1}' % RESERVED),
        (b'{"exclude_attributes":[ ]}', b'{"exclude_attributes":[ %b]}' % RESERVED),
        (b'{"exclude_attributes":["a" ]}', b'{"exclude_attributes":["a" ,%b]}' % RESERVED),
        (
            b'{"exclude_attributes":["_hevlayer_shard"]}',
            b'{"exclude_attributes":["_hevlayer_shard","_hevlayer_upserted_at"]}',
        ),
        (b'{"exclude_attributes":null, "include_attributes":true}', b'{"exclude_attributes":[%b]}' % RESERVED),
        (b'{"include_attributes":true,"exclude_attributes":null}', b'{"exclude_attributes":[%b]}' % RESERVED),
        (
            b'{"queries":[{"include_attributes":true},{"include_attributes":["a"]}]}',
            b'{"queries":[{"exclude_attributes":[%b]},{"include_attributes":["a"]}]}' % RESERVED,
        ),
    ],
)
def test_reserved_attributes_are_excluded(body: bytes, expected: bytes) -> None:
    assert QueryScan(body).wants_reserved
    assert spliced(body, exclude=True) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"limit":1}',
        b'{"include_attributes":["_hevlayer_upserted_at"]}',
        b'{"include_attributes":false}',
        b'{"include_attributes":true,"exclude_attributes":["a"]}',
        b'{"exclude_attributes":true}',
        b'{"aggregate_by":{"n":["Count"]},"include_attributes":true}',
        b'{"exclude_attributes":["_hevlayer_shard","_hevlayer_upserted_at"]}',
        b'{"queries":[],"include_attributes":true}',
    ],
)
def test_nothing_is_excluded_that_was_not_asked_for(body: bytes) -> None:
    assert not QueryScan(body).wants_reserved
    assert spliced(body, exclude=True) is body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"vector":[0.1, 2],"top_k":3}', b'{"rank_by":["vector","ANN",[0.1, 2]],"top_k":3}'),
        (b'{"vector":[1],"rank_by":null,"limit":3}', b'{"rank_by":["vector","ANN",[1]],"limit":3}'),
        (
            b'{"rank_by":null,"nearest_to_id":null,"vector":[1],"limit":3}',
            b'{"rank_by":["vector","ANN",[1]],"limit":3}',
        ),
        (b'{"top_k":3,"nearest_to_id":["a",7],"vector":null}', b'{"top_k":3,"rank_by":["vector","ANN",[0.5]]}'),
    ],
)
def test_layer_queries_become_rankings(body: bytes, expected: bytes) -> None:
    scan = QueryScan(body)
    assert scan.dialect == "layer"
    assert spliced(body) == expected


def test_nearest_to_id_keeps_types() -> None:
    assert QueryScan(b'{"nearest_to_id":["a",7],"top_k":1}').nearest_to_id == ["a", 7]
    assert QueryScan(b'{"nearest_to_id":"\\u0061","top_k":1}').nearest_to_id == ["a"]
    assert QueryScan(b'{"limit":1}').nearest_to_id is None
    with pytest.raises(ValueError, match="vector"):
        QueryScan(b'{"nearest_to_id":"a","top_k":1}').render(eventual=False, watermark_ms=None, exclude_reserved=False)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            b'{"vector":[1],"top_k":1,"nearest_to_id":"a"}',
            "validation_error",
            "`nearest_to_id` and `vector` cannot be in one body",
        ),
        (
            b'{"rank_by":["id","asc"],"nearest_to_id":"a","top_k":1}',
            "validation_error",
            "`nearest_to_id` and `rank_by` cannot be in one body",
        ),
        (b'{"vector":[1],"queries":[],"top_k":1}', "validation_error", "`vector` and `queries` cannot be in one body"),
        (b'{"vector":[1]}', "validation_error", "`vector` needs `top_k`"),
        (b'{"vector":{},"top_k":1}', "validation_error", "vector: expected an array of numbers, or a base64 string"),
        (b'{"nearest_to_id":[],"top_k":1}', "validation_error", "nearest_to_id: expected at least one id"),
        (
            b'{"nearest_to_id":1.5,"top_k":1}',
            "validation_error",
            "nearest_to_id: expected ids, each a string or an unsigned integer",
        ),
        (
            b'{"queries":[{"nearest_to_id":"a"}]}',
            "validation_error",
            "queries[0].nearest_to_id: not possible in a sub-query",
        ),
        (b'{"queries":[[1]]}', "validation_error", "queries[0]: expected an object, not an array"),
        (b'{"as_of":1}', "not_supported", "`as_of` is not supported yet"),
        (b'{"queries":[{},{"cursor":"x"}]}', "not_supported", "`queries[1].cursor` is not supported yet"),
        (
            b'{"rank_by":["t","HybridText","q"],"limit":1}',
            "not_supported",
            "rank_by: the ranking `HybridText` is not supported yet",
        ),
        (b'{"rank_by":"Auto"}', "not_supported", "rank_by: the ranking `Auto` is not supported yet"),
        (b'{"rank_by":["Auto",{"q":1}]}', "not_supported", "rank_by: the ranking `Auto` is not supported yet"),
        (b'{"queries":[%b]}' % b",".join([b"{}"] * 1025), "validation_error", "queries: at most 1024 sub-queries"),
    ],
)
def test_a_query_that_breaks_a_rule_is_refused(body: bytes, code: str, message: str) -> None:
    assert refusal(body, query=True) == (code, message)


@pytest.mark.parametrize("rank_by", [b'["Auto","asc"]', b'["HybridText","BM25","q"]', b'["t","BM25","Auto"]'])
def test_attributes_and_texts_may_be_called_like_a_ranking(rank_by: bytes) -> None:
    assert QueryScan(b'{"rank_by":%b,"limit":1}' % rank_by).has_rank_by


def test_facts_of_a_query() -> None:
    multi = QueryScan(
        b'{"queries":[{"rank_by":["v","kNN",[1]],"filters":["a","Eq",1]},{"aggregate_by":{"n":["Count"]}},{}],'
        b'"rerank_by":{"model":"m","query":"q","attribute":"t"}}'
    )
    assert (multi.multi, multi.legs, multi.permits, multi.model_rerank) == (True, 3, 7, True)
    assert (multi.has_filter, multi.has_rank_by, multi.has_consistency) == (True, True, False)
    fused = QueryScan(b'{"queries":[{}],"rerank_by":["RRF"],"consistency":{"level":"strong"}}')
    assert (fused.model_rerank, fused.has_consistency, fused.permits) == (False, True, 1)
