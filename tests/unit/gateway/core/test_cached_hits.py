"""Fetches that are answered before they become requests: as the general way answers, and only whom it would answer."""

import asyncio
import json
import re

import pytest
from gateway_bench import Bench

from hevlayer.clock import SystemClock
from hevlayer.gateway.fetch import hits
from hevlayer.stores.doccache import WriteOutcome
from hevlayer.testing.recording import answer

KEYED = {"gateway_api_key": "gk", "turbopuffer_api_key": "tpuf_up"}
ROW = b'{"rows":[{"id":"d1","title":"a film","vector":[1,2]}],"billing":{}}'
SCHEMA = b'{"id":{"type":"string"},"title":{"type":"string"},"vector":{"type":"[2]f32"}}'
METADATA = b'{"created_at":"2026-01-01T00:00:00Z","schema":%b,"index":{"status":"up-to-date"}}' % SCHEMA
# What differs between two answers to one request.
OWN = re.compile(rb"(?m)^(?:date|traceparent): [^\r]*\r\n")
KEY = b"\x02d1"


def fetch(path: bytes = b"d1", bearer: bytes = b"gk", *more: bytes) -> bytes:
    lines = (b"GET /v2/namespaces/a/documents/%b HTTP/1.1" % path, b"Host: g", b"Authorization: Bearer " + bearer)
    return b"\r\n".join((*lines, *more, b"", b""))


class Client:
    """A connection to a gateway."""

    def __init__(self, bench: Bench, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.bench = bench
        self.reader = reader
        self.writer = writer

    @property
    def given(self) -> int:
        return self.bench.gateway.cached_hits.given

    async def ask(self, raw: bytes) -> bytes:
        self.writer.write(raw)
        return OWN.sub(b"", await self.read())

    async def read(self) -> bytes:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
            assert size is not None, head
            return head + await self.reader.readexactly(int(size[1]))

    async def status(self, raw: bytes) -> int:
        return int((await self.ask(raw)).split(b" ", 2)[1])


@pytest.fixture
def patient(monkeypatch):
    """Vouchers that outlive a test on a busy machine."""
    monkeypatch.setattr(hits, "VOUCHER_SECONDS", 600.0)


@pytest.fixture
async def connect(benches):
    opened: list[Client] = []

    async def one(**settings) -> Client:
        bench = await benches(**settings)
        bench.upstream.default = answer(200, ROW)
        bench.upstream.by_target[b"/v1/namespaces/a/schema"] = answer(200, SCHEMA)
        bench.upstream.by_target[b"/v2/namespaces/a/metadata"] = answer(200, METADATA)
        opened.append(Client(bench, *await asyncio.open_connection("127.0.0.1", bench.gateway.port, limit=1 << 24)))
        return opened[-1]

    yield one
    for client in opened:
        client.writer.close()


@pytest.fixture(params=[KEYED, {}, {"turbopuffer_api_key": "tpuf_up"}], ids=["keyed", "passed through", "watched"])
async def client(request, connect, patient) -> Client:
    """One of whose fetches of `d1` the next is answered at once."""
    made = await connect(**request.param)
    await made.ask(fetch())
    await made.ask(fetch())
    return made


@pytest.mark.parametrize("query", [b"", b"?include_attributes=title", b"?include_attributes=vector&x=%20"])
async def test_the_answer_is_the_general_way_s(client, query):
    await client.ask(fetch(b"d1" + query))
    general = await client.ask(fetch(b"%641" + query))
    given, asked = client.given, len(client.bench.upstream.requests)
    for _ in range(3):
        assert await client.ask(fetch(b"d1" + query)) == general
    assert client.given == given + 3
    assert b"x-layer-cache: hit\r\n" in general
    assert len(client.bench.upstream.requests) == asked


UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(
    ("id_type", "stored", "spelled"),
    [
        ("uint", 7, ["7"]),
        ("uint", 2**64 - 1, ["18446744073709551615"]),
        ("uuid", UUID, [UUID, UUID.upper(), UUID.replace("-", "")]),
        ("string", "a+b~c", ["a+b~c"]),
        ("string", "007", ["007"]),
    ],
)
async def test_ids_are_read_by_their_type(connect, patient, id_type, stored, spelled):
    client = await connect(**KEYED)
    upstream = client.bench.upstream
    upstream.default = answer(200, json.dumps({"rows": [{"id": stored, "title": "t"}]}).encode())
    upstream.by_target[b"/v1/namespaces/a/schema"] = answer(200, b'{"id":{"type":"%b"}}' % id_type.encode())
    first = spelled[0].encode()
    for _ in range(2):
        assert await client.status(fetch(first)) == 200
    general = await client.ask(fetch(b"%%%02x" % first[0] + first[1:]))
    for each in spelled:
        given = client.given
        assert await client.ask(fetch(each.encode())) == general
        assert client.given == given + 1


@pytest.mark.parametrize("path", [b"07", b"+7", b"-7", b"7.0", b"18446744073709551616", b"x"])
async def test_what_is_no_id_of_the_type_is_left_alone(connect, patient, path):
    client = await connect(**KEYED)
    client.bench.upstream.default = answer(200, b'{"rows":[{"id":7,"title":"t"}]}')
    client.bench.upstream.by_target[b"/v1/namespaces/a/schema"] = answer(200, b'{"id":{"type":"uint"}}')
    for _ in range(3):
        assert await client.status(fetch(b"7")) == 200
    given = client.given
    assert given == 1
    assert await client.status(fetch(path)) == 404
    assert client.given == given


async def test_it_is_measured_and_logged_as_the_general_way_is(client):
    exposition = client.bench.gateway.metrics.registry.exposition
    counted = (b'layer_http_requests_total{operation="fetch"', b"layer_fetch_", b"layer_cache_")
    timed = (b"duration_seconds_sum", b"duration_seconds_bucket")

    def counts() -> dict[bytes, float]:
        lines = (line.rsplit(b" ", 1) for line in exposition().splitlines() if line.startswith(counted))
        return {name: float(value) for name, value in lines if not any(each in name for each in timed)}

    async def grown(raw: bytes) -> dict[bytes, float]:
        before = counts()
        await client.ask(raw)
        return {name: value - before.get(name, 0) for name, value in counts().items() if value != before.get(name, 0)}

    general = await grown(fetch(b"%641", b"gk", b"X-Request-Id: r-1"))
    given = client.given
    assert await grown(fetch(b"d1", b"gk", b"X-Request-Id: r-1")) == general
    assert client.given == given + 1
    assert len(general) >= 6
    slow, quick = (json.loads(line) for line in client.bench.access_log.splitlines()[-2:])
    assert (slow.pop("path"), quick.pop("path")) == ("/v2/namespaces/a/documents/%641", "/v2/namespaces/a/documents/d1")
    for line in (slow, quick):
        assert re.fullmatch("[0-9a-f]{32}", line.pop("trace_id"))
        assert line.pop("us") >= 0
        assert line.pop("time_ms") > 0
    assert quick == slow
    assert quick["request_id"] == "r-1"


async def test_the_trace_that_is_told_is_the_one_that_is_logged(client):
    client.writer.write(fetch())
    told = re.search(rb"\r\ntraceparent: 00-([0-9a-f]{32})-[0-9a-f]{16}-01\r\n", await client.read())
    line = json.loads(client.bench.access_log.splitlines()[-1])
    assert told is not None
    assert line["trace_id"] == line["request_id"] == told[1].decode()


@pytest.mark.parametrize(
    "raw",
    [
        fetch(b"d1", b"gk", b"X-Hevlayer-Tags: a"),
        fetch(b"d1", b"gk", b"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        fetch(b"d1?include_attributes=unseen"),
        fetch(b"%641"),
        fetch().replace(b"GET ", b"HEAD "),
        fetch(b"d1", b"gk", b"Content-Length: 1") + b"x",
        fetch().replace(b"/a/", b"/b/"),
        b"GET /eu" + fetch()[4:],
    ],
    ids=["tags", "a trace", "another projection", "an encoded id", "HEAD", "a body", "another namespace", "a region"],
)
async def test_what_is_unusual_is_left_alone(client, raw):
    given = client.given
    client.writer.write(raw)
    await client.reader.readuntil(b"\r\n\r\n")
    assert client.given == given


async def test_only_the_gateways_key_is_served(connect, patient):
    client = await connect(**KEYED)
    assert [await client.status(fetch()) for _ in range(3)] == [200] * 3
    given = client.given
    assert given == 1
    for other in (b"g", b"gk2", b"Gk", b"tpuf_up"):
        assert await client.status(fetch(bearer=other)) == 401
    assert await client.status(fetch().replace(b"Authorization: Bearer gk\r\n", b"")) == 401
    assert client.given == given


async def test_each_bearer_proves_its_own_access(connect, patient):
    client = await connect()
    for _ in range(3):
        assert await client.status(fetch(bearer=b"ka")) == 200
    given = client.given
    client.bench.upstream.by_target[b"/v2/namespaces/a/metadata"] = answer(403, b"{}", reason=b"Forbidden")
    for _ in range(2):
        assert await client.status(fetch(bearer=b"kb")) == 403
    assert await client.status(fetch().replace(b"Authorization: Bearer gk\r\n", b"")) == 401
    assert client.given == given
    assert await client.status(fetch(bearer=b"ka")) == 200
    assert client.given == given + 1


class MovedClock(SystemClock):
    """Real time and what a test adds to it."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.moved


@pytest.mark.parametrize("settings", [KEYED, {}], ids=["keyed", "passed through"])
async def test_a_voucher_ends(connect, monkeypatch, settings):
    monkeypatch.setattr(hits, "VOUCHER_SECONDS", 30.0)
    client = await connect(**settings)
    clock = MovedClock()
    client.bench.gateway.cached_hits._now = clock.monotonic
    for _ in range(2):
        await client.ask(fetch())
    for _ in range(2):
        given = client.given
        await client.ask(fetch())
        assert client.given == given + 1
        clock.moved += 30.0
        await client.ask(fetch())
        assert client.given == given + 1


async def test_a_voucher_ends_with_the_grant_that_it_stands_for(connect, patient):
    """What a bearer that was revoked upstream may rely on is the life of a grant, however the fetch is served."""
    client = await connect()
    gateway, clock = client.bench.gateway, MovedClock()
    gateway.grants._clock = clock
    gateway.cached_hits._now = clock.monotonic
    for _ in range(3):
        assert await client.status(fetch()) == 200
    client.bench.upstream.by_target[b"/v2/namespaces/a/metadata"] = answer(401, b"{}", reason=b"Unauthorized")
    clock.moved = 20.0
    given = client.given
    assert await client.status(fetch()) == 200
    assert client.given == given + 1
    clock.moved = 61.0
    assert await client.status(fetch()) == 401
    assert client.given == given + 1


async def test_an_acknowledged_write_is_seen(client):
    cache = client.bench.gateway.cache
    token = await cache.begin_write("a", [KEY])
    asked = len(client.bench.upstream.requests)
    assert b"x-layer-cache: miss\r\n" in await client.ask(fetch())
    assert len(client.bench.upstream.requests) == asked + 1
    await cache.settle(token, WriteOutcome.APPLIED)
    client.bench.upstream.default = answer(200, ROW.replace(b"a film", b"written"))
    assert b"written" in await client.ask(fetch())
    given = client.given
    assert b"written" in await client.ask(fetch())
    assert client.given == given + 1


async def test_a_namespace_that_was_made_anew_is_looked_at_again(client):
    given = client.given
    client.bench.gateway._forget("a")
    await client.ask(fetch())
    assert client.given == given
    await client.ask(fetch())
    assert client.given == given + 1


async def test_a_cache_that_owes_or_fails_answers_nothing_at_once(client):
    cache, given = client.bench.gateway.cache, client.given
    cache._debts.owe("a", [KEY], 0.0)
    await client.ask(fetch())
    assert client.given == given


async def test_pipelined_fetches_are_answered_in_order(client):
    given = client.given
    client.writer.write(fetch() + fetch(b"%641") + fetch() + fetch() + fetch(b"d2") + fetch())
    answers = [await client.read() for _ in range(6)]
    assert [b"x-layer-cache: hit" in each for each in answers] == [True, True, True, True, False, True]
    assert client.given > given


async def test_a_client_that_does_not_read_is_waited_for(connect, patient):
    client = await connect(**KEYED)
    client.bench.upstream.default = answer(200, ROW.replace(b"a film", b"x" * 900_000))
    expected = [await client.ask(fetch()) for _ in range(2)][-1]
    given = client.given
    client.writer.write(fetch() * 20)
    await asyncio.sleep(0.1)
    assert client.given < given + 20
    assert [OWN.sub(b"", await client.read()) for _ in range(20)] == [expected] * 20
    assert client.bench.gateway._requests_in_flight() == 0


async def test_nothing_is_given_by_a_gateway_that_stops(client):
    given = client.given
    client.bench.gateway.drain_state.phase = type(client.bench.gateway.drain_state.phase).REFUSING
    assert await client.status(fetch()) == 503
    assert client.given == given


async def test_lines_of_a_clean_stop_are_all_written(connect, patient):
    client = await connect(**KEYED)
    for _ in range(300):
        await client.ask(fetch())
    assert client.given >= 290
    await client.bench.gateway.stop()
    assert len(client.bench.log_lines.splitlines()) == 300
