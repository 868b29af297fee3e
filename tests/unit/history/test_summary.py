"""What is kept of a query and of its answer."""

import gzip
import json

import orjson
import pytest

from hevlayer.gateway.history.summary import TOP_IDS_MAX
from hevlayer.gateway.history.summary import summarize_query as summarize_query_text
from hevlayer.gateway.history.summary import top_ids as top_ids_text

LONG = [0.25] * 1536
SUMMARY_BYTES_MAX = 8 << 10


def summarize_query(body):
    return orjson.loads(orjson.dumps(summarize_query_text(body)))


def top_ids(answer, encoding):
    return orjson.loads(orjson.dumps(top_ids_text(answer, encoding)))


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ({"vector": LONG, "top_k": 10}, {"vector": "[1536 numbers]", "top_k": 10}),
        ({"rank_by": ["vector", "ANN", LONG]}, {"rank_by": ["vector", "ANN", "[1536 numbers]"]}),
        ({"vector": "A" * 8192}, {"vector": "[8192 characters of base64]"}),
        (
            {"filters": ["And", [["year", "Gt", 1980], ["tags", "In", ["a", "b"]]]]},
            {"filters": ["And", [["year", "Gt", 1980], ["tags", "In", ["a", "b"]]]]},
        ),
        ({"filters": ["id", "In", list(range(900))]}, {"filters": ["id", "In", "[900 numbers]"]}),
        (
            {"filters": ["id", "In", [str(number) for number in range(40)]]},
            {"filters": ["id", "In", [*(str(number) for number in range(32)), "… 8 more"]]},
        ),
        ({"rank_by": ["text", "BM25", "q" * 300]}, {"rank_by": ["text", "BM25", "q" * 256 + "…"]}),
        (
            {"queries": [{"rank_by": ["vector", "ANN", LONG]}, {"aggregate_by": {"n": ["Count"]}}]},
            {"queries": [{"rank_by": ["vector", "ANN", "[1536 numbers]"]}, {"aggregate_by": {"n": ["Count"]}}]},
        ),
        ({}, {}),
        ({"a": None, "b": True, "c": 1.5}, {"a": None, "b": True, "c": 1.5}),
    ],
)
def test_the_shape_is_kept(query, kept):
    assert summarize_query(json.dumps(query).encode()) == kept


@pytest.mark.parametrize("body", [b"[1]", b"nothing", b""])
def test_what_is_no_query_is_told_by_its_size(body):
    assert summarize_query(body) == {"bytes": len(body)}


def test_a_large_query_keeps_its_keys():
    body = json.dumps({f"key{number}": ["x" * 250] * 30 for number in range(20)}).encode()
    kept = summarize_query(body)
    assert kept == {"bytes": len(body), "keys": [f"key{number}" for number in range(20)]}
    deep = b'{"a":' * 100 + b"1" + b"}" * 100
    assert len(json.dumps(summarize_query(deep))) < SUMMARY_BYTES_MAX


def test_a_body_over_the_bound_is_told_by_its_size():
    body = b'{"a":"' + b"x" * (4 << 20) + b'"}'
    assert summarize_query(body) == {"bytes": len(body)}


def test_what_has_no_utf_8_is_replaced():
    assert summarize_query(b'{"a":"\\ud800x"}') == {"a": "\ufffdx"}


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        ({"rows": [{"id": "b", "$dist": 0.5, "x": {"id": 9}}, {"id": 7}, {"id": "ü"}]}, ["b", "7", "ü"]),
        ({"rows": [{"id": "a"}], "results": [{"id": "a", "dist": 0.5, "attributes": {}}]}, ["a"]),
        ({"results": [{"rows": [{"id": 2}, {"id": 1}]}, {"aggregations": {}}, {"rows": [{"id": 2}]}]}, ["2", "1", "2"]),
        ({"aggregations": {"n": 3}}, []),
        ({"rows": []}, []),
        ({"rows": [{"id": 2**64 - 1}]}, [str(2**64 - 1)]),
        ({"rows": [{"id": number} for number in range(500)]}, [str(number) for number in range(TOP_IDS_MAX)]),
        ([], []),
        ({"rows": 3}, []),
    ],
)  # fmt: skip
def test_the_ids_of_an_answer_in_its_order(answer, ids):
    body = json.dumps(answer).encode()
    assert top_ids(body, None) == ids
    assert top_ids(body, b"identity") == ids
    assert top_ids(gzip.compress(body), b"gzip") == ids


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(None, None), (b"x", b"gzip"), (gzip.compress(b"{}")[:9], b"gzip"), (b"{}", b"zstd"), (b"", None)],
)  # fmt: skip
def test_an_answer_that_cannot_be_read_has_no_ids(body, encoding):
    assert top_ids(body, encoding) == []
