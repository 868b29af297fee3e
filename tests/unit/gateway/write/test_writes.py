"""Writes through the gateway: what reaches the upstream, and who hears of the outcome."""

import asyncio
import gzip
import json
import re
import time

import pytest
from gateway_bench import eventually

from hevlayer.errors import GatewayTimeoutError, UpstreamError
from hevlayer.gateway.consistency import Outcome, SchemaFacts
from hevlayer.gateway.write.execute import inspect_schema
from hevlayer.gateway.write.outcome import outcome_of, outcome_of_failure
from hevlayer.testing.recording import Canned, answer

PATH = "/v2/namespaces/a"
STAMP = rb'"_hevlayer_upserted_at":(\d+)'
WRITTEN = (
    b'{"status":"OK","message":"documents committed successfully","rows_affected":1,'
    b'"billing":{"billable_logical_bytes_written":9}}'
)


class Mirror:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    async def begin_write(self, namespace, keys, seconds):
        self.told.append(("begin", namespace, keys))
        return len(self.told)

    wants_affected = False

    async def settle(self, token, outcome, write=None):
        self.told.append(("settle", token, outcome))

    async def bump_epoch(self, namespace):
        self.told.append(("epoch", namespace))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.OK),
        (202, Outcome.UNKNOWN),
        (307, Outcome.UNKNOWN),
        (400, Outcome.REFUSED),
        (404, Outcome.REFUSED),
        (408, Outcome.UNKNOWN),
        (422, Outcome.REFUSED),
        (429, Outcome.REFUSED),
        (500, Outcome.UNKNOWN),
        (503, Outcome.UNKNOWN),
    ],
)
def test_what_a_status_says(status, outcome):
    assert outcome_of(status) is outcome


def test_what_a_failure_says():
    assert outcome_of_failure(UpstreamError("x", outcome_known=True)) is Outcome.REFUSED
    assert outcome_of_failure(GatewayTimeoutError("x")) is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (
            b'{"upsert_rows" : [ {"id":1, "x":1.0} , {"id":2}]}',
            rb'{"upsert_rows" : [ {"id":1, "x":1.0,S} , {"id":2,S}]}',
        ),
        (
            b'{"upsert_columns":{"id":[1,2],"x":[3,null]}}',
            rb'{"upsert_columns":{"id":[1,2],"x":[3,null],"_hevlayer_upserted_at":[T,T]}}',
        ),
        (b'{"patch_rows":[{"id":"a","x":2}]}', rb'{"patch_rows":[{"id":"a","x":2,S}]}'),
        (
            b'{"patch_by_filter":{"filters":["x","Eq",1],"patch":{"x":2}}}',
            rb'{"return_affected_ids":true,"patch_by_filter":{"filters":["x","Eq",1],"patch":{"x":2,S}}}',
        ),
    ],
)
async def test_rows_are_stamped_and_nothing_else_changes(bench, body, sent):
    before = time.time_ns() // 1_000_000
    bench.upstream.default = answer(200, WRITTEN)
    response = await bench.call("POST", PATH, body)
    after = time.time_ns() // 1_000_000
    pattern = re.escape(sent).replace(b"S", STAMP).replace(b"T", rb"(\d+)")
    found = re.fullmatch(pattern, bench.upstream.requests[0].body)
    assert found, bench.upstream.requests[0].body
    assert len(set(found.groups())) == 1
    assert before <= int(found.group(1)) <= after
    assert (response.status, response.body) == (200, WRITTEN)


async def test_the_layer_dialect_is_translated(bench):
    bench.upstream.default = answer(200, WRITTEN)
    body = b'{"upserts":[{"id":"x","vector":[0.10],"attributes":{"t":"y"}}],"deletes":["z"]}'
    response = await bench.call("POST", PATH, body)
    sent = json.loads(bench.upstream.requests[0].body)
    [row] = sent["upsert_rows"]
    assert row.pop("_hevlayer_upserted_at") > 0
    assert row == {"id": "x", "vector": [0.10], "t": "y"}
    assert (sent["deletes"], sent["distance_metric"]) == (["z"], "cosine_distance")
    assert {"status", "message", "rows_affected", "billing"} <= json.loads(response.body).keys()

    bench.see("a", schema=SchemaFacts(stamped=True, distance_metric="euclidean_squared"))
    await bench.call("POST", PATH, body)
    assert json.loads(bench.upstream.requests[1].body)["distance_metric"] == "euclidean_squared"

    await bench.call("PATCH", PATH, b'{"patches":[{"id":"x","attributes":{"t":"z"}}]}')
    sent = json.loads(bench.upstream.requests[2].body)
    assert sent["patch_rows"][0]["t"] == "z"
    assert "distance_metric" not in sent


@pytest.mark.parametrize(
    ("method", "body", "status", "words"),
    [
        ("POST", b'{"upsert_rows":[{"id":1}', 400, b"Failed to parse the request body as JSON"),
        ("POST", b"", 400, b"Failed to parse the request body as JSON"),
        ("POST", b'{"upsert_rows":[{"id":1,"_hevlayer_shard":1}]}', 422, b"_hevlayer_shard"),
        ("POST", b'{"upsert_columns":{"id":[1],"_hevlayer_x":[1]}}', 422, b"_hevlayer_x"),
        ("POST", b'{"schema":{"_hevlayer_x":"string"}}', 422, b"_hevlayer_x"),
        ("POST", b'{"upserts":[],"deletes":[]}', 422, b'"error":"validation_error"'),
        ("POST", b'{"upserts":[{"id":"a"}],"upsert_rows":[]}', 422, b'"error":"validation_error"'),
        ("POST", b'{"upserts":[{"id":"a","attributes":{"vector":1}}]}', 422, b"vector"),
        ("PATCH", b'{"patches":[{"id":"a","attributes":{"vector":[1]}}]}', 422, b"vector"),
    ],
)
async def test_refusals_come_before_the_upstream_is_called(benches, method, body, status, words):
    mirror = Mirror()
    bench = await benches(mirror=mirror)
    response = await bench.call(method, PATH, body)
    assert response.status == status
    assert words in response.body
    assert (bench.upstream.requests, mirror.told) == ([], [])


@pytest.mark.parametrize(
    ("canned", "outcome", "busy"),
    [
        (answer(200, WRITTEN), Outcome.OK, False),
        (answer(400), Outcome.REFUSED, False),
        (answer(429), Outcome.REFUSED, False),
        (answer(500), Outcome.UNKNOWN, True),
        (Canned(reset=True), Outcome.UNKNOWN, True),
        (Canned(b"garbage", close=True), Outcome.UNKNOWN, True),
    ],
)
async def test_the_outcome_is_told_to_the_cache_and_the_ledger(benches, canned, outcome, busy):
    mirror = Mirror()
    bench = await benches(mirror=mirror)
    bench.upstream.default = canned
    await bench.call("POST", PATH, b'{"upsert_rows":[{"id":1}],"deletes":["b"]}')
    kind, namespace, keys = mirror.told[0]
    assert (kind, namespace, len(keys)) == ("begin", "a", 2)
    assert mirror.told[1:] == [("settle", 1, outcome)]
    assert bench.gateway.stamper.busy("a") is busy
    assert not bench.gateway.stamper.writing()


async def test_an_unreachable_upstream_has_written_nothing(benches):
    mirror = Mirror()
    bench = await benches(mirror=mirror, upstream_url="http://127.0.0.1:1")
    response = await bench.call("POST", PATH, b'{"upsert_rows":[{"id":1}]}')
    assert response.status == 502
    assert mirror.told[-1] == ("settle", 1, Outcome.REFUSED)
    assert not bench.gateway.stamper.busy("a")


@pytest.mark.parametrize("status", [200, 202, 400])
async def test_a_copy_that_was_only_begun_is_not_done(benches, status):
    """Its rows come while nobody tells the gateway: until they may all be there nothing is said to be settled."""
    mirror = Mirror()
    bench = await benches(mirror=mirror)
    bench.upstream.default = answer(status, b'{"token":"t"}')
    response = await bench.call("POST", f"{PATH}/async", b'{"copy_from_namespace":{"source_namespace":"b"}}')
    assert (response.status, response.body) == (status, b'{"token":"t"}')
    outcome = Outcome.REFUSED if status == 400 else Outcome.UNKNOWN
    assert mirror.told == [("begin", "a", None), ("settle", 1, outcome)]
    assert bench.gateway.stamper.busy("a") is (status != 400)


@pytest.mark.parametrize(
    "body",
    [
        b'{"delete_by_filter":["x","Eq",1]}',
        b'{"patch_by_filter":{"filters":["x","Eq",1],"patch":{"x":1}}}',
        b'{"copy_from_namespace":"b"}',
        b'{"branch_from_namespace":{"source_namespace":"b"}}',
        b'{"schema":{"x":{"drop":true}}}',
    ],
)
async def test_writes_of_unnamed_rows_void_the_namespace(benches, body):
    mirror = Mirror()
    bench = await benches(mirror=mirror)
    await bench.call("POST", PATH, body)
    assert mirror.told == [("begin", "a", None), ("settle", 1, Outcome.OK)]


async def test_a_write_of_more_ids_than_are_marked_has_none_of_them_read(benches, monkeypatch):
    monkeypatch.setattr("hevlayer.gateway.write.execute.MARKED_IDS_MAX", 2)
    mirror = Mirror()
    bench = await benches(mirror=mirror)
    await bench.call("POST", PATH, b'{"deletes":[1,2,3]}')
    await bench.call("POST", PATH, b'{"upsert_rows":[{"id":1}],"deletes":[2]}')
    begun = [keys for kind, _, keys in mirror.told if kind == "begin"]
    assert [None if keys is None else len(keys) for keys in begun] == [None, 2]


async def test_a_schema_only_write_is_no_write_of_rows(benches):
    mirror = Mirror()
    bench = await benches(mirror=mirror)
    body = b'{"schema" : {"x":"string"}}'
    await bench.call("POST", PATH, body)
    assert bench.upstream.requests[0].body == body
    assert mirror.told == []


async def test_the_older_write_voids_the_namespace_and_is_untouched(benches):
    mirror = Mirror()
    bench = await benches(mirror=mirror)
    body = b'{"ids":[1],"vectors":[[1.0]],"attributes":{}}'
    await bench.call("POST", "/v1/namespaces/a", body)
    assert bench.upstream.requests[0].body == body
    assert mirror.told == [("begin", "a", None), ("settle", 1, Outcome.OK)]


async def test_a_client_that_leaves_does_not_stop_its_write(benches):
    mirror = Mirror()
    bench = await benches(mirror=mirror)
    held = asyncio.Event()
    raw = answer(200, WRITTEN).raw
    bench.upstream.default = Canned(raw, before=held)
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.gateway.port)
    body = b'{"upsert_rows":[{"id":1}]}'
    writer.write(b"POST /v2/namespaces/a HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    await bench.upstream.arrived(1)
    writer.transport.abort()
    # The write is settled by the upstream's answer, long after its client is gone.
    for _ in range(5):
        await asyncio.sleep(0.01)
    assert bench.gateway.stamper.writing()
    held.set()
    await eventually(lambda: len(mirror.told) == 2)
    assert mirror.told[1] == ("settle", 1, Outcome.OK)
    assert reader is not None


async def test_a_client_that_leaves_in_its_body_writes_nothing(bench):
    _, writer = await asyncio.open_connection("127.0.0.1", bench.gateway.port)
    writer.write(b"POST /v2/namespaces/a HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n" + b'{"upsert_rows":[')
    await writer.drain()
    writer.transport.abort()
    await eventually(lambda: bench.gateway._open_connections() == 0)
    assert bench.upstream.requests == []
    assert bench.gateway.spool.files == 0


async def test_gzip_writes_are_scanned_and_sent_on_gzipped(bench):
    headers = [(b"content-encoding", b"gzip")]
    await bench.call("POST", PATH, gzip.compress(b'{"upsert_rows":[{"id":1}]}'), headers)
    sent = bench.upstream.requests[0]
    assert sent.header(b"content-encoding") == b"gzip"
    assert b"_hevlayer_upserted_at" in gzip.decompress(sent.body)
    packed = gzip.compress(b'{"deletes":[1]}')
    await bench.call("POST", PATH, packed, headers)
    assert bench.upstream.requests[1].body == packed


def large_body(rows: int) -> bytes:
    return b'{"upsert_rows":[' + b",".join(b'{"id":%d,"t":"%b"}' % (n, b"x" * 1000) for n in range(rows)) + b"]}"


@pytest.mark.parametrize("packed", [False, True])
async def test_large_writes_go_over_disk(benches, packed):
    mirror = Mirror()
    bench = await benches(mirror=mirror, body_memory_bytes_max=100_000)
    body = large_body(3000)
    headers = [(b"content-encoding", b"gzip")] if packed else []
    response = await bench.call("POST", PATH, gzip.compress(body) if packed else body, headers)
    assert response.status == 200
    sent = bench.upstream.requests[0]
    assert sent.header(b"content-length") == b"%d" % len(sent.body)
    assert sent.header(b"content-encoding") is None
    rows = json.loads(sent.body)["upsert_rows"]
    assert len({row.pop("_hevlayer_upserted_at") for row in rows}) == 1
    assert {"upsert_rows": rows} == json.loads(body)
    assert len(mirror.told[0][2]) == 3000
    assert (bench.gateway.spool.files, bench.gateway.spool.used_bytes) == (0, 0)
    assert list(bench.gateway.spool.directory.iterdir()) == []


async def test_a_large_write_that_is_refused_leaves_no_half_write(benches):
    bench = await benches(body_memory_bytes_max=100_000)
    response = await bench.call("POST", PATH, large_body(3000)[:-2])
    assert response.status == 400
    assert bench.upstream.requests == []
    assert bench.gateway.spool.used_bytes == 0


async def test_a_full_spool_is_a_503(benches):
    bench = await benches(body_memory_bytes_max=100_000, spool_bytes_max=1_000_000)
    response = await bench.call("POST", PATH, large_body(3000))
    assert response.status == 503
    assert b'"error":"service_unavailable"' in response.body
    assert response.header(b"retry-after") is not None


async def test_a_body_over_the_limit_is_a_413(benches):
    bench = await benches(body_memory_bytes_max=100_000, body_bytes_max=1_000_000)
    for method, target in (
        ("POST", PATH),
        ("POST", "/v2/namespaces/a/query"),
        ("POST", "/v1/namespaces/a/_debug/recall"),
    ):
        response = await bench.call(method, target, large_body(3000))
        assert response.status == 413
        assert b'"error":"payload_too_large"' in response.body
    assert bench.upstream.requests == []


async def test_many_writes_at_once_keep_their_stamps_in_order(bench):
    await asyncio.gather(*(bench.call("POST", PATH, b'{"upsert_rows":[{"id":%d}]}' % n) for n in range(50)))
    stamps = [int(re.search(STAMP, request.body).group(1)) for request in bench.upstream.requests]
    assert len(stamps) == 50
    assert not bench.gateway.stamper.busy("a")


# --- schema ----------------------------------------------------------------------------------------------------------


async def test_schemas_do_not_show_reserved_attributes(bench):
    bench.upstream.default = answer(200, b'{"id":{"type":"uint"}, "_hevlayer_upserted_at":{"type":"int"},"t" : {}}')
    for method, body in (("GET", b""), ("POST", b'{"t":"string"}')):
        response = await bench.call(method, "/v1/namespaces/a/schema", body)
        assert json.loads(response.body) == {"id": {"type": "uint"}, "t": {}}


async def test_a_schema_change_may_not_name_them(bench):
    response = await bench.call("POST", "/v1/namespaces/a/schema", b'{"_hevlayer_upserted_at":{"type":"string"}}')
    assert response.status == 422
    assert b"_hevlayer_upserted_at" in response.body
    assert bench.upstream.requests == []


async def test_dropping_an_attribute_voids_the_namespace(benches):
    mirror = Mirror()
    bench = await benches(mirror=mirror)
    await bench.call("POST", "/v1/namespaces/a/schema", b'{"t":{"drop":true}}')
    assert mirror.told == [("begin", "a", None), ("settle", 1, Outcome.OK)]


@pytest.mark.parametrize(
    ("body", "drops"),
    [
        (b"{}", False),
        (b"[1]", False),
        (b"not json", False),
        (b'{"a":{"drop":false}}', False),
        (b'{"a":{"drop":true}}', True),
    ],
)
def test_what_a_schema_change_does(body, drops):
    assert inspect_schema(body) is drops


async def test_a_schema_that_is_too_long_for_any_namespace_is_refused(benches):
    bench = await benches()
    path = "/v1/namespaces/a/schema"
    body = b'{"x":{"type":"string"}%s}'
    assert (await bench.call("POST", path, body % (b" " * (1 << 19)))).status == 200
    refused = await bench.call("POST", path, body % (b" " * (1 << 20)))
    assert refused.status == 413
    assert b"at most 1048576 bytes" in await refused.read(1 << 16)
    assert len(bench.upstream.requests) == 1
