"""Native scans that take long: who goes away stops them, a deadline ends them, and they have the threads asked for."""

import asyncio
import json
import random
import threading
from types import SimpleNamespace

import pytest
from test_cached_scans import SCANS, count
from work_stage import FILMS

from hevlayer.gateway.scan import request
from hevlayer.gateway.scan.cached import CachedScan
from hevlayer.gateway.snapshots import jobs
from hevlayer.kernels.filters import ScanStoppedError

ROWS = 3_000
# Patterns whose states are too many to be kept, so that a row takes milliseconds and all of them seconds.
SLOW = ["Or", [["text", "Regex", f"[ab]*a[ab]{{{200 + number}}}c?d"] for number in range(4)]]
SLOW_SHORT = ["text", "Regex", "[ab]*a[ab]{200}c?d"]
WAIT_SECONDS = 60


class Watched:
    """A filter that tells of each evaluation when it begins and how it ends."""

    def __init__(self, compiled, log):
        self.compiled = compiled
        self.log = log

    def count(self, source, *, threads, timeout_ms, cancel=None):
        if cancel is None:
            self.log.append(("on the event loop", threads))
            return self.compiled.count(source, threads=threads, timeout_ms=timeout_ms)
        self.log.append(("began", threads))
        try:
            found = self.compiled.count(source, threads=threads, timeout_ms=timeout_ms, cancel=cancel)
        except ScanStoppedError as stopped:
            self.log.append(("stopped", stopped.code))
            raise
        self.log.append(("counted", found))
        return found


@pytest.fixture
def log(monkeypatch):
    """What native counts did."""
    entries, make = [], CachedScan._filter
    monkeypatch.setattr(CachedScan, "_filter", lambda scan: Watched(make(scan), entries))
    return entries


async def slow_stage(stages, *, columns):
    """A namespace that is warm, and where `SLOW` is answered by columns or by rows."""
    stage = await stages(columns_bytes_max=1 << 30 if columns else 0)
    dice = random.Random(3)
    rows = [{"id": number, "text": "".join(dice.choices("ab", k=400)) + str(number)} for number in range(ROWS)]
    await stage.write("films", rows, schema={"text": {"type": "string", "filterable": True, "regex": True}})
    await stage.warm()

    async def answered():
        answer = await count(stage, ["text", "Eq", "none"])
        return answer["served_by"] == "cache" and (stage.answers("columns") > 0) is columns

    await stage.until(answered)
    return stage


async def until(condition):
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def asking(stage, target, body):
    """The connection of a client that has asked, and can go away."""
    content = json.dumps(body).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", stage.gateway.port)
    lines = (
        f"POST {target} HTTP/1.1",
        "host: a",
        "authorization: Bearer tpuf_stage",
        f"content-length: {len(content)}",
    )
    writer.write("\r\n".join([*lines, "", ""]).encode() + content)
    await writer.drain()
    return writer


@pytest.mark.parametrize("columns", [False, True], ids=["rows", "columns"])
async def test_a_client_that_goes_away_stops_its_count(stages, log, columns):
    stage = await slow_stage(stages, columns=columns)
    log.clear()
    body = {"mode": "count", "source": "cache", "filters": SLOW, "timeout_seconds": 300}
    writer = await asking(stage, SCANS, body)
    await until(lambda: log)
    assert [entry[0] for entry in log] == ["began"]
    writer.close()
    await until(lambda: len(log) == 2)
    assert log[1] == ("stopped", "cancelled")
    metrics = (await stage.call("GET", "/metrics")).body.decode()
    (line,) = [each for each in metrics.splitlines() if each.startswith("hevlayer_scan_total") and "cancelled" in each]
    assert 'served_by="cache"' in line
    assert float(line.rsplit(" ", 1)[1]) == 1
    # The pool has both its places again.
    assert (await count(stage, ["text", "Regex", "9$"], "cache"))["count"] == ROWS // 10


async def test_a_client_that_goes_away_stops_its_count_at_the_upstream(stage, monkeypatch):
    await stage.films(rows=FILMS[:3])
    read, asked, ended = stage.gateway.upstream.read, asyncio.Event(), []

    async def hanging(method, target, bearer, body=b"", **options):
        if not target.endswith(b"/query"):
            return await read(method, target, bearer, body, **options)
        asked.set()
        try:
            await asyncio.sleep(WAIT_SECONDS)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    monkeypatch.setattr(stage.gateway.upstream, "read", hanging)
    for target, body in (
        (SCANS, {"mode": "count", "source": "origin"}),
        ("/v2/namespaces/films/result-count", {"query": {"field": "title", "fts": "man"}}),
    ):
        asked.clear()
        ended.clear()
        writer = await asking(stage, target, body)
        async with asyncio.timeout(WAIT_SECONDS):
            await asked.wait()
        writer.close()
        await until(lambda: ended)
        assert ended == ["cancelled"]


@pytest.mark.parametrize("columns", [False, True], ids=["rows", "columns"])
async def test_a_deadline_ends_a_count_within_it(stages, log, columns):
    stage = await slow_stage(stages, columns=columns)
    log.clear()
    answer = await count(stage, SLOW, "cache", timeout_seconds=0.05)
    assert (answer["timed_out"], answer["bounded"], answer["served_by"]) == (True, True, "cache")
    await until(lambda: len(log) == 2)
    # The kernel looks at its own deadline; the caller's, which comes as soon, tells it as well.
    assert log[1] in (("stopped", "timed_out"), ("stopped", "cancelled"))


async def test_the_threads_that_were_asked_for(stages, log):
    stage = await slow_stage(stages, columns=False)
    for asked, given in ((None, 2), (1, 1), (3, 3), (8, 8), (64, 8)):
        log.clear()
        more = {} if asked is None else {"threads": asked}
        answer = await count(stage, ["text", "Regex", "9$"], "cache", **more)
        assert answer["threads"] == given
        assert log[0] == ("began", given)
        assert answer["count"] == ROWS // 10


async def test_patterns_are_never_tried_on_the_event_loop(stages, log):
    stage = await slow_stage(stages, columns=True)
    for filters, begins in (
        (["text", "Eq", "a"], "on the event loop"),
        (["And", [["id", "Gt", 5], ["text", "Lt", "a"]]], "on the event loop"),
        (SLOW_SHORT, "began"),
        (["Not", ["Or", [["id", "Eq", 1], ["text", "Regex", "^b"]]]], "began"),
    ):
        log.clear()
        assert (await count(stage, filters, "cache"))["served_by"] == "cache"
        assert log[0][0] == begins, filters


MANY = {
    "leaves": b'["Or",[' + b'["year","Eq",1],' * 650_000 + b'["year","Eq",1]]]',
    "empty lists": b"[" + b"[]," * 3_500_000 + b"[]]",
    "values": b'["year","In",[' + b"1," * 5_000_000 + b"1]]",
    "objects": b'{"a":[' + b"{}," * 3_500_000 + b"{}]}",
}


@pytest.mark.parametrize("kind", MANY)
async def test_a_filter_of_millions_of_parts_is_refused_before_it_is_read(stage, monkeypatch, kind):
    """Objects made of it would keep every other request waiting."""
    await stage.films(rows=FILMS[:3])
    read = []
    monkeypatch.setattr(request, "orjson", SimpleNamespace(loads=read.append, JSONDecodeError=ValueError))
    monkeypatch.setattr(jobs, "decode_body", read.append)
    for target, body in ((SCANS, b'{"mode":"count","filters":'), ("films/snapshots", b'{"field":"year","filters":')):
        path = target if target == SCANS else f"/v2/namespaces/{target}"
        refused = await stage.call("POST", path, body + MANY[kind] + b"}")
        assert (refused.status, refused.body["error"]) == (422, "validation_error")
        place = "filters" if target == SCANS else "the body"
        assert refused.body["message"] == f"{place}: has more than 524288 elements and members"
    assert read == []


async def test_large_filters_that_are_allowed_are_read_off_the_event_loop(stage, monkeypatch):
    await stage.films()
    threads, decode = [], request.check_filters

    def noted(filters):
        threads.append(threading.current_thread())
        return decode(filters)

    monkeypatch.setattr(request, "check_filters", noted)
    wanted = [film["id"] for film in FILMS[:7]]
    many = [*wanted, *(f"none-{number:060}" for number in range(65_000))]
    assert (await count(stage, ["id", "In", many], "origin"))["count"] == 7
    assert (await count(stage, ["id", "In", wanted], "origin"))["count"] == 7
    assert [thread is threading.main_thread() for thread in threads] == [False, True]
