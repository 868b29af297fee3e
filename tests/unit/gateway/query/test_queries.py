"""Queries through the gateway: what reaches the upstream, and what comes back."""

import base64
import gzip
import json
import struct
import time

import pytest

from hevlayer.gateway.consistency import SchemaFacts, Status
from hevlayer.testing.metrics import samples
from hevlayer.testing.recording import answer

QUERY = b'{"rank_by":["v","ANN",[0.10, 1e-3]] , "limit":10}'
EVENTUAL = b',"consistency":{"level":"eventual","max_staleness_seconds":1}'
ROWS = (
    b'{"rows":[{"id":7,"$dist":0.01}],"billing":{"billable_logical_bytes_queried":256,'
    b'"billable_logical_bytes_returned":12},"performance":{"server_total_ms":3}}'
)
PATH = "/v2/namespaces/a/query"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def queried(bench):
    bench.upstream.default = answer(200, ROWS)
    return bench


async def test_a_new_namespace_is_read_eventually(queried):
    response = await queried.call("POST", PATH, QUERY)
    assert queried.upstream.requests[0].body == QUERY[:-1] + EVENTUAL + b"}"
    assert response.body == ROWS
    assert response.header(b"x-layer-consistency") == b"eventual"
    assert response.header(b"x-layer-stable-as-of") is None


async def test_a_stable_namespace_tells_its_watermark(queried):
    watermark = now_ms() - 100
    queried.see("a", Status.STABLE, watermark)
    response = await queried.call("POST", PATH, QUERY)
    assert queried.upstream.requests[0].body == QUERY[:-1] + EVENTUAL + b"}"
    assert response.body == ROWS[:-1] + b',"stable_as_of":%d}' % watermark
    assert response.header(b"content-length") == b"%d" % len(response.body)
    assert response.header(b"x-layer-consistency") == b"stable"
    assert response.header(b"x-layer-stable-as-of") == b"%d" % watermark


@pytest.mark.parametrize(
    "body",
    [
        {"rank_by": ["v", "ANN", [1]], "limit": 3},
        {"rank_by": ["v", "kNN", [1]], "top_k": 3, "filters": ["a", "Eq", 1]},
        {"rank_by": ["t", "BM25", "x"], "limit": {"total": 3, "per": {"attributes": ["a"], "limit": 1}}, "offset": 2},
        {"rank_by": [["a", "asc"], ["b", "desc"]], "limit": 3, "filters": ["Or", [["a", "Eq", 1], ["b", "Eq", None]]]},
        {"aggregate_by": {"n": ["Count"]}},
        {"aggregate_by": {"n": ["Count"]}, "group_by": ["a"], "filters": ["Not", ["a", "Eq", 1]]},
        {"rank_by": ["Sum", [["t", "BM25", "x"]]], "limit": 3, "compute_attributes": {"d": ["v", "VectorDist", [1]]}},
        {
            "queries": [
                {"rank_by": ["v", "ANN", [1]], "limit": 1},
                {"aggregate_by": {"n": ["Count"]}, "filters": ["a", "Eq", 1]},
            ]
        },
        {
            "queries": [{"rank_by": ["v", "ANN", [1]], "limit": 1}],
            "rerank_by": ["RRF"],
            "limit": 5,
            "a_new_feature": [1],
        },
    ],
)
async def test_no_shape_loses_the_watermark(queried, body):
    watermark = now_ms() - 100
    queried.see("a", Status.UPDATING, watermark)
    response = await queried.call("POST", PATH, json.dumps(body).encode())
    sent = json.loads(queried.upstream.requests[0].body)
    predicate = ["_hevlayer_upserted_at", "Lte", watermark]
    legs = zip(body.get("queries", [body]), sent.get("queries", [sent]), strict=True)
    for asked, leg in legs:
        assert leg.pop("filters") == (["And", [asked["filters"], predicate]] if "filters" in asked else predicate)
        asked.pop("filters", None)
    assert sent.pop("consistency") == {"level": "eventual", "max_staleness_seconds": 1}
    assert sent == body
    assert response.header(b"x-layer-consistency") == b"filtered"
    assert response.header(b"x-layer-stable-as-of") == b"%d" % watermark


@pytest.mark.parametrize("level", [b'{"level":"strong"}', b'{"level":"eventual","max_staleness_seconds":7}'])
async def test_a_callers_own_consistency_is_honoured(queried, level):
    queried.see("a", Status.UPDATING, now_ms() - 100)
    body = QUERY[:-1] + b', "consistency" : ' + level + b"}"
    response = await queried.call("POST", PATH, body)
    assert queried.upstream.requests[0].body == body
    assert response.header(b"x-layer-consistency") == b"upstream"


async def test_upstream_mode_leaves_the_body_alone(benches):
    bench = await benches(consistency="upstream")
    bench.upstream.default = answer(200, b'{"rows":[{"id":1,"_hevlayer_upserted_at":5,"x":1}]}')
    bench.see("a", Status.UPDATING, now_ms() - 100)
    body = b'{"rank_by":["id","asc"],"limit":1,"include_attributes":true}'
    response = await bench.call("POST", PATH, body)
    assert bench.upstream.requests[0].body == body
    assert response.header(b"x-layer-consistency") == b"upstream"
    assert b"_hevlayer" not in response.body


async def test_eventual_mode_has_no_predicate(benches):
    bench = await benches(consistency="eventual")
    bench.see("a", Status.UPDATING, now_ms() - 100)
    response = await bench.call("POST", PATH, QUERY)
    assert bench.upstream.requests[0].body == QUERY[:-1] + EVENTUAL + b"}"
    assert response.header(b"x-layer-consistency") == b"eventual"


async def test_a_watermark_that_stands_still_is_not_applied(queried):
    watermark = now_ms() - 400_000
    queried.see("a", Status.UPDATING, watermark)
    response = await queried.call("POST", PATH, QUERY)
    assert b"_hevlayer" not in queried.upstream.requests[0].body
    assert response.header(b"x-layer-consistency") == b"stale-watermark"
    assert response.header(b"x-layer-stable-as-of") == b"%d" % watermark


async def test_no_predicate_without_the_attribute_in_the_schema(queried):
    queried.see("a", Status.UPDATING, now_ms() - 100, SchemaFacts())
    await queried.call("POST", PATH, QUERY)
    assert b"_hevlayer" not in queried.upstream.requests[0].body


async def test_a_429_is_retried_once_with_the_predicate(queried):
    watermark = now_ms() - 100
    queried.see("a", Status.STABLE, watermark)
    busy = answer(429, b"busy")
    queried.upstream.script.extend([busy])
    response = await queried.call("POST", PATH, QUERY)
    first, second = (request.body for request in queried.upstream.requests)
    assert b"_hevlayer" not in first
    assert b'["_hevlayer_upserted_at","Lte",%d]' % watermark in second
    assert (response.status, response.header(b"x-layer-consistency")) == (200, b"filtered")

    queried.upstream.requests.clear()
    queried.upstream.script.extend([busy, busy])
    response = await queried.call("POST", PATH, QUERY)
    assert (response.status, response.body) == (429, b"busy")
    assert len(queried.upstream.requests) == 2


@pytest.mark.parametrize(
    ("status", "age", "body"),
    [
        (Status.UPDATING, 100, QUERY),
        (Status.STABLE, 400_000, QUERY),
        (Status.STABLE, None, QUERY),
        (Status.STABLE, 100, QUERY[:-1] + b',"consistency":{"level":"strong"}}'),
    ],
)
async def test_other_429s_are_relayed(queried, status, age, body):
    queried.see("a", status, None if age is None else now_ms() - age)
    queried.upstream.default = answer(429, b"busy", ((b"Retry-After", b"2"),))
    response = await queried.call("POST", PATH, body)
    assert (response.status, response.body, response.header(b"retry-after")) == (429, b"busy", b"2")
    assert len(queried.upstream.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_nothing_of_a_namespace_is_told_to_whom_the_upstream_refuses(queried, status):
    queried.see("a", Status.STABLE, now_ms() - 100)
    queried.upstream.default = answer(status, b"no")
    response = await queried.call("POST", PATH, QUERY)
    assert response.header(b"x-layer-stable-as-of") is None


async def test_gzip_requests_are_scanned_and_sent_on_gzipped(queried):
    packed = gzip.compress(QUERY)
    headers = [(b"content-encoding", b"gzip"), (b"content-type", b"application/json")]
    await queried.call("POST", PATH, packed, headers)
    sent = queried.upstream.requests[0]
    assert sent.header(b"content-encoding") == b"gzip"
    assert gzip.decompress(sent.body) == QUERY[:-1] + EVENTUAL + b"}"

    own = gzip.compress(QUERY[:-1] + b',"consistency":{"level":"strong"}}')
    await queried.call("POST", PATH, own, headers)
    assert queried.upstream.requests[1].body == own


async def test_a_gzip_bomb_is_refused(benches):
    bench = await benches(body_memory_bytes_max=100_000)
    bomb = gzip.compress(b" " * 10_000_000)
    response = await bench.call("POST", PATH, bomb, [(b"content-encoding", b"gzip")])
    assert response.status == 413
    assert b'"error":"payload_too_large"' in response.body
    assert not bench.upstream.requests


async def test_a_compressed_answer_has_the_watermark_in_its_header_only(queried):
    queried.see("a", Status.STABLE, now_ms() - 100)
    packed = gzip.compress(ROWS)
    queried.upstream.default = answer(200, packed, ((b"Content-Encoding", b"gzip"),))
    response = await queried.call("POST", PATH, QUERY, [(b"accept-encoding", b"gzip")])
    assert queried.upstream.requests[0].header(b"accept-encoding") == b"gzip"
    assert response.body == packed
    assert response.header(b"x-layer-stable-as-of") is not None


async def test_a_large_answer_has_the_watermark_too(queried):
    watermark = now_ms() - 100
    queried.see("a", Status.STABLE, watermark)
    large = b'{"rows":["' + b"x" * 2_500_000 + b'"]}'
    queried.upstream.default = answer(200, large)
    response = await queried.call("POST", PATH, QUERY)
    assert await response.read(3_000_000) == large[:-1] + b',"stable_as_of":%d}' % watermark


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"rank_by":', 400, b"Failed to parse the request body as JSON"),
        (b"", 400, b"Failed to parse the request body as JSON"),
        (QUERY[:-1] + b',"cursor":"x"}', 422, b'"error":"not_supported"'),
        (QUERY[:-1] + b',"as_of":1}', 422, b'"error":"not_supported"'),
        (b'{"rank_by":["t","HybridText","x"],"limit":1}', 422, b'"error":"not_supported"'),
        (b'{"nearest_to_id":"x","top_k":1,"rank_by":["id","asc"]}', 422, b'"error":"validation_error"'),
    ],
)
async def test_bodies_that_never_reach_the_upstream(queried, body, status, code):
    response = await queried.call("POST", PATH, body)
    assert response.status == status
    assert code in response.body
    assert not queried.upstream.requests


async def test_the_layer_dialect(queried):
    watermark = now_ms() - 100
    queried.see("a", Status.STABLE, watermark)
    queried.upstream.default = answer(200, b'{"rows":[{"id":"x","$dist":0.5,"title":"t"}],"billing":{}}')
    response = await queried.call(
        "POST", PATH, b'{"vector":[0.5,1],"top_k":2,"include_attributes":["title"]}', [(b"accept-encoding", b"gzip")]
    )
    sent = queried.upstream.requests[0]
    assert json.loads(sent.body)["rank_by"] == ["vector", "ANN", [0.5, 1]]
    assert sent.header(b"accept-encoding") == b"identity"
    told = json.loads(response.body)
    assert told["rows"] == [{"id": "x", "$dist": 0.5, "title": "t"}]
    assert told["results"] == [{"id": "x", "dist": 0.5, "attributes": {"title": "t"}}]
    assert told["stable_as_of"] == watermark


async def test_a_layer_answer_that_is_not_json_is_a_502(queried):
    queried.upstream.default = answer(200, b"garbage")
    response = await queried.call("POST", PATH, b'{"vector":[0.5],"top_k":2}')
    assert response.status == 502


def stored(*vectors: tuple[object, list[float]]) -> bytes:
    rows = [{"id": each, "vector": base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode()} for each, v in vectors]
    return json.dumps({"rows": rows}).encode()


async def test_nearest_to_id_is_one_more_read_and_the_mean(queried):
    queried.see("a", Status.STABLE, None, SchemaFacts(stamped=True, id_type="uint"))
    queried.upstream.script.append(answer(200, stored((2, [1.0, 2.0]), (1, [3.0, 0.0]))))
    response = await queried.call("POST", PATH, b'{"nearest_to_id":["1","2","1"],"top_k":2}')
    assert response.status == 200
    read, query = (json.loads(request.body) for request in queried.upstream.requests)
    assert read["filters"] == ["id", "In", [1, 2]]
    assert read["limit"] == 2
    attribute, kind, vector = query["rank_by"]
    assert (attribute, kind) == ("vector", "ANN")
    assert struct.unpack("<2f", base64.b64decode(vector)) == (2.0, 1.0)
    assert "nearest_to_id" not in query


async def test_the_id_type_is_read_when_it_is_not_known(queried):
    queried.upstream.by_target[b"/v2/namespaces/a/metadata"] = answer(200, b'{"schema":{"id":{"type":"uint"}}}')
    queried.upstream.script.append(answer(200, stored((1, [3.0]))))
    await queried.call("POST", PATH, b'{"nearest_to_id":"1","top_k":2}')
    reads = [json.loads(request.body) for request in queried.upstream.requests if request.body]
    assert reads[0]["filters"] == ["id", "In", [1]]


@pytest.mark.parametrize(
    ("schema", "asked", "found", "status", "words"),
    [
        ("string", '["a","b"]', stored(("a", [1.0])), 404, b'\\"b\\"'),
        ("string", '"a"', b'{"rows":[{"id":"a"}]}', 422, b"has no vector"),
        ("uint", '"a"', b"", 422, b"unsigned integer ids"),
        ("string", "[]", b"", 422, b"at least one id"),
        ("string", json.dumps([str(n) for n in range(101)]), b"", 422, b"at most 100 ids"),
        ("string", '["a","b"]', stored(("a", [1.0]), ("b", [1.0, 2.0])), 422, b"differ in dimension"),
        ("string", '"a"', b"{}", 502, b"has no rows"),
    ],
)
async def test_nearest_to_id_refusals(queried, schema, asked, found, status, words):
    queried.see("a", Status.STABLE, None, SchemaFacts(stamped=True, id_type=schema))
    queried.upstream.default = answer(200, found)
    response = await queried.call("POST", PATH, b'{"nearest_to_id":%b,"top_k":2}' % asked.encode())
    assert response.status == status
    assert words in response.body


async def test_an_upstream_error_behind_nearest_to_id_is_relayed(queried):
    queried.see("a", Status.STABLE, None, SchemaFacts(stamped=True, id_type="string"))
    queried.upstream.default = answer(404, b"\xf0\x9f\xa4\xb7 not found")
    response = await queried.call("POST", PATH, b'{"nearest_to_id":"a","top_k":2}')
    assert (response.status, response.body) == (404, b"\xf0\x9f\xa4\xb7 not found")


async def test_reserved_attributes_are_left_out_upstream(queried):
    await queried.call("POST", PATH, b'{"rank_by":["id","asc"],"limit":1,"include_attributes":true}')
    sent = json.loads(queried.upstream.requests[0].body)
    assert "_hevlayer_upserted_at" in sent["exclude_attributes"]
    assert "include_attributes" not in sent


async def test_with_model_reranking_they_are_stripped_from_the_answer(queried):
    queried.upstream.default = answer(200, b'{"rows":[{"id":1,"_hevlayer_upserted_at":5,"t":"x"}],"billing":{}}')
    body = (
        b'{"rank_by":["v","ANN",[1]],"limit":1,"include_attributes":true,'
        b'"rerank_by":{"model":"m","query":"q","attribute":"t"}}'
    )
    response = await queried.call("POST", PATH, body)
    assert json.loads(queried.upstream.requests[0].body)["include_attributes"] is True
    assert json.loads(response.body) == {"rows": [{"id": 1, "t": "x"}], "billing": {}}


async def test_who_names_a_reserved_attribute_sees_it(queried):
    rows = b'{"rows":[{"id":1,"_hevlayer_upserted_at":5}]}'
    queried.upstream.default = answer(200, rows)
    response = await queried.call(
        "POST", PATH, b'{"rank_by":["id","asc"],"limit":1,"include_attributes":["_hevlayer_upserted_at"]}'
    )
    assert response.body == rows


async def test_queries_are_counted(queried):
    queried.see("a", Status.STABLE, now_ms() - 100)
    await queried.call("POST", PATH, b'{"queries":[{"rank_by":["id","asc"],"limit":1,"filters":["a","Eq",1]}]}')
    exposition = queried.gateway.metrics.registry.exposition().decode()
    assert samples(exposition, "layer_query_duration_seconds_count", namespace="a", status="ok") == [1]
    assert samples(exposition, "hevlayer_tpuf_billable_bytes_queried_total", namespace="a") == [256]
    assert samples(exposition, "hevlayer_multi_query_total", namespace="a", status="ok") == [1]
    assert b'"consistency":"stable"' in queried.access_log


LARGE_ROWS = b'{"rows":[{"id":1,"t":"' + b"x" * 2000 + b'"}]}'


@pytest.mark.parametrize(
    ("accept", "rows", "encoding"),
    [
        (b"gzip, deflate", LARGE_ROWS, b"gzip"),
        (b"identity", LARGE_ROWS, None),
        (b"gzip;q=0", LARGE_ROWS, None),
        (b"gzip", b'{"rows":[{"id":1}]}', None),
    ],
)
@pytest.mark.parametrize("dialect", ["layer", "upstream mode"])
async def test_a_changed_answer_is_compressed_as_the_upstream_would(benches, accept, rows, encoding, dialect):
    """We ask for it uncompressed, because we change it; the caller still gets what it asked for."""
    bench = await benches(consistency="upstream")
    bench.upstream.default = answer(200, rows)
    body = b'{"rank_by":["id","asc"],"limit":1,"include_attributes":true}'
    if dialect == "layer":
        body = b'{"vector":[1],"top_k":1,"include_attributes":true}'
    response = await bench.call("POST", PATH, body, [(b"accept-encoding", accept)])
    assert bench.upstream.requests[0].header(b"accept-encoding") == b"identity"
    assert response.header(b"content-encoding") == encoding
    told = gzip.decompress(response.body) if encoding else response.body
    assert json.loads(told)["rows"] == json.loads(rows)["rows"]
