"""The front over a real socket and an engine that only records: faults, compression, errors, the pool."""

import asyncio
import gzip
import json
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hevlayer.clock import SystemClock
from hevlayer.http.server import serve
from hevlayer.origin.app import OriginApp
from hevlayer.origin.config import OriginConfig

WAIT_SECONDS = 10
WRITE = ("POST", "/v2/namespaces/a", b'{"upsert_rows":[{"id":1}]}')


class RecordingEngine:
    def __init__(self):
        self.calls = []
        self.lags = []
        self.answer = (200, "application/json", b'{"status":"OK"}')
        self.gate = None
        self.failure = None
        self.entered = threading.Semaphore(0)
        self.inside = 0
        self.inside_max = 0
        self._lock = threading.Lock()

    def handle(self, method, path, query, body):
        with self._lock:
            self.calls.append((method, path, query, body))
            self.inside += 1
            self.inside_max = max(self.inside_max, self.inside)
        self.entered.release()
        if self.gate is not None:
            assert self.gate.wait(WAIT_SECONDS)
        with self._lock:
            self.inside -= 1
        if self.failure is not None:
            raise self.failure
        return self.answer

    def set_index_lag(self, namespace, ms):
        self.lags.append((namespace, ms))


class RecordingClock(SystemClock):
    """Real time, but waits of faults are noted and skipped."""

    def __init__(self):
        self.slept = []

    async def sleep(self, seconds):
        self.slept.append(seconds)
        await asyncio.sleep(0)


class Front:
    def __init__(self, engine, clock, port, app):
        self.engine = engine
        self.clock = clock
        self.port = port
        self.app = app

    async def raw(self, method, path, body=b"", headers=None):
        """Everything the server sent until it closed the connection; ConnectionResetError when it reset it."""
        sent = {"host": "x", "connection": "close", "content-length": str(len(body)), "authorization": "Bearer k"}
        sent |= headers or {}
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items() if value is not None)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            return await asyncio.wait_for(reader.read(), WAIT_SECONDS)
        finally:
            writer.close()

    async def call(self, method, path, body=b"", headers=None):
        raw = await self.raw(method, path, body, headers)
        head, _, rest = raw.partition(b"\r\n\r\n")
        status_line, *lines = head.decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        if "transfer-encoding" not in fields:
            assert len(rest) == int(fields["content-length"])
        return int(status_line.split()[1]), fields, rest

    async def put_faults(self, *rules):
        status, _, body = await self.call("PUT", "/_origin/faults", json.dumps({"rules": rules}).encode())
        assert status == 200, body


@asynccontextmanager
async def running(**settings):
    engine, clock = RecordingEngine(), RecordingClock()
    app = OriginApp(engine, OriginConfig(data_dir=Path(), **{"control": True, **settings}), clock)
    server = await serve(app.handle)
    try:
        yield Front(engine, clock, server.port, app)
    finally:
        await server.close()
        app.close()


@pytest.fixture
async def front():
    async with running() as started:
        yield started


async def test_the_engine_gets_the_canonical_request(front):
    status, fields, body = await front.call("POST", "/region-1/v2/namespaces/%61/query?x=1", b"{}")
    assert (status, body) == (200, b'{"status":"OK"}')
    assert fields["content-type"] == "application/json"
    assert front.engine.calls == [("POST", "/v2/namespaces/a/query", "x=1", b"{}")]


async def test_gzip_both_ways(front):
    front.engine.answer = (200, "application/json", b"x" * 5000)
    packed = gzip.compress(b'{"a":1}')
    headers = {"content-encoding": "gzip", "accept-encoding": "gzip"}
    status, fields, body = await front.call("POST", "/v2/namespaces/a", packed, headers)
    assert front.engine.calls[0][3] == b'{"a":1}'
    assert (status, fields["content-encoding"]) == (200, "gzip")
    assert gzip.decompress(body) == b"x" * 5000


async def test_nothing_reaches_the_engine_without_a_bearer_or_a_route(front):
    assert (await front.call("GET", "/v1/namespaces", headers={"authorization": None}))[0] == 401
    assert (await front.call("GET", "/v1/nothing"))[0] == 404
    status, fields, body = await front.call("POST", "/v2/namespaces/a%20b", b"{}")
    assert (status, fields["content-type"]) == (400, "text/plain; charset=utf-8")
    assert body.startswith(b"Invalid URL: ")
    assert front.engine.calls == []


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "gzip"}])
async def test_a_large_body_is_413(headers):
    async with running(body_bytes_max=100) as front:
        body = gzip.compress(b"0" * 101) if headers else b"0" * 101
        status, _, answer = await front.call("POST", "/v2/namespaces/a", body, headers)
        assert status == 413
        assert "limit is 100 bytes" in json.loads(answer)["error"]
        assert front.engine.calls == []


async def test_engine_calls_are_bounded_by_the_pool():
    async with running(threads=2) as front:
        front.engine.gate = threading.Event()
        calls = [asyncio.create_task(front.call(*WRITE)) for _ in range(6)]
        for _ in range(2):
            assert await asyncio.to_thread(front.engine.entered.acquire, timeout=WAIT_SECONDS)
        front.engine.gate.set()
        assert [status for status, _, _ in await asyncio.gather(*calls)] == [200] * 6
        assert front.engine.inside_max == 2


class PanicError(BaseException):
    """As the extension raises it: not an Exception."""


@pytest.mark.parametrize("failure", [PanicError(), OSError("disk is full")])
async def test_a_failing_engine_is_a_500_and_is_logged_once(front, failure, caplog):
    front.engine.failure = failure
    status, _, body = await front.call(*WRITE)
    assert status == 500
    assert json.loads(body)["error"].startswith("🐡 ")
    assert [record.message for record in caplog.records] == ["engine failed on POST /v2/namespaces/a"]
    front.engine.failure = None
    assert (await front.call(*WRITE))[0] == 200


async def test_status_before_and_after_the_commit(front):
    effect = {"kind": "status", "status": 429, "retry_after_seconds": 1.5, "message": "slow down"}
    for when, calls in (("before", 0), ("after", 1)):
        await front.put_faults({"effect": {**effect, "when": when}})
        status, fields, body = await front.call(*WRITE)
        assert (status, fields["retry-after"]) == (429, "1.5")
        assert json.loads(body) == {"status": "error", "error": "slow down"}
        assert len(front.engine.calls) == calls


async def test_reset_before_and_after_the_commit(front):
    for when, calls in (("before", 0), ("after", 1)):
        await front.put_faults({"effect": {"kind": "reset", "when": when}})
        with pytest.raises(ConnectionResetError):
            await front.raw(*WRITE)
        assert len(front.engine.calls) == calls


async def test_latency_waits_on_its_side(front):
    await front.put_faults(
        {"effect": {"kind": "latency", "ms": 250}},
        {"effect": {"kind": "latency", "ms": 500, "when": "after"}},
        {"effect": {"kind": "latency_log_normal", "mu": 0, "sigma": 0, "when": "after"}},
    )
    assert (await front.call(*WRITE))[0] == 200
    assert front.clock.slept == [0.25, 0.501]


async def test_a_slow_body_arrives_whole_at_its_rate(front):
    front.engine.answer = (200, "application/json", bytes(range(256)) * 4)
    await front.put_faults({"effect": {"kind": "slow_body", "bytes_per_second": 2000}})
    _, _, body = await front.call(*WRITE)
    assert body == front.engine.answer[2]
    assert sum(front.clock.slept) == pytest.approx(1024 / 2000)
    assert len(front.clock.slept) == 11


async def test_a_truncated_body_announces_more_than_it_sends(front):
    front.engine.answer = (200, "application/json", b"y" * 1000)
    await front.put_faults({"effect": {"kind": "truncated_body", "keep_fraction": 0.3}})
    head, _, body = (await front.raw(*WRITE)).partition(b"\r\n\r\n")
    assert b"content-length: 1000" in head.lower()
    assert body == b"y" * 300


async def test_faults_keep_to_their_match_and_can_be_taken_back(front):
    await front.put_faults(
        {"effect": {"kind": "status", "status": 500}, "match": {"route": "write", "namespace": "b*"}}
    )
    assert (await front.call("POST", "/v2/namespaces/a", b"{}"))[0] == 200
    assert (await front.call("POST", "/v2/namespaces/b1", b"{}"))[0] == 500
    shown = json.loads((await front.call("GET", "/_origin/faults"))[2])
    assert shown["rules"][0]["fired"] == 1
    assert json.loads((await front.call("DELETE", "/_origin/faults"))[2]) == {"seed": 0, "rules": []}
    assert (await front.call("POST", "/v2/namespaces/b1", b"{}"))[0] == 200


async def test_index_lag_reaches_the_engine(front):
    assert (await front.call("PUT", "/_origin/index-lag", b'{"ms":50}'))[0] == 200
    assert (await front.call("PUT", "/_origin/index-lag", b'{"ms":0,"namespace":"a"}'))[0] == 200
    assert front.engine.lags == [(None, 50), ("a", 0)]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "part"),
    [
        (
            "PUT",
            "/_origin/faults",
            b'{"rules":[{"effect":{"kind":"reset"},"probability":3}]}',
            422,
            "rules[0].probability",
        ),
        ("PUT", "/_origin/index-lag", b'{"ms":-1}', 422, "$.ms"),
        ("PUT", "/_origin/index-lag", b"{}", 422, "`ms`"),
        ("POST", "/_origin/faults", b"{}", 405, "does not take POST"),
        ("GET", "/_origin/nothing", b"", 404, "no control route"),
        ("PUT", "/_origin/faults", b" " * 2_000_000, 413, ""),
    ],
)
async def test_the_control_route_refuses_by_name(front, method, path, body, status, part):
    found, _, answer = await front.call(method, path, body)
    assert found == status
    assert part in json.loads(answer)["error"]


async def test_the_control_route_is_off_unless_asked_for():
    async with running(control=False) as front:
        assert (await front.call("GET", "/_origin/faults"))[0] == 404


async def test_what_a_caller_that_went_away_began_is_still_under_way(front):
    before = asyncio.get_running_loop().time()
    assert front.app.oldest_begun is None
    front.engine.gate = threading.Event()
    call = asyncio.create_task(front.call(*WRITE))
    await asyncio.to_thread(front.engine.entered.acquire, timeout=WAIT_SECONDS)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    after = asyncio.get_running_loop().time()
    # Another one, which ends the loop's turns that the first one's end would take.
    assert (await front.raw("GET", "/none")).startswith(b"HTTP/1.1 404")
    assert before <= front.app.oldest_begun <= after
    front.engine.gate.set()
    await asyncio.to_thread(front.app.close)
    assert front.app.oldest_begun is None
