"""Whole runs against a server that records what it gets: the counts add up, and the namespaces go."""

import asyncio
import xml.etree.ElementTree as ElementTree
from collections import Counter

import orjson
import pytest

from hevlayer.bench import endpoint
from hevlayer.bench.markdown import render_markdown
from hevlayer.bench.picture import render_picture
from hevlayer.bench.plan import BenchPlan, Kind, Operation, Target
from hevlayer.bench.report import ALL, build_report
from hevlayer.bench.run import BenchRun
from hevlayer.clock import Backoff, SystemClock
from hevlayer.testing.recording import Canned, RecordingUpstream, answer

KEY = "key-of-the-upstream"
MIX = dict.fromkeys(Operation, 1)
BUSY = answer(429, b'{"status":"error","error":"slow down"}', reason=b"Too Many Requests")


def plan_of(direct: RecordingUpstream, gateway: RecordingUpstream | None = None, **changes) -> BenchPlan:
    targets = [Target(Kind.DIRECT, direct.url, KEY)]
    if gateway:
        targets.append(Target(Kind.GATEWAY, f"{gateway.url}/region", KEY))
    settings = {
        "documents": 60,
        "dimensions": 3,
        "mix": MIX,
        "concurrency": 3,
        "duration_seconds": 0.3,
        "warm_up_seconds": 0.1,
        "slice_seconds": 0.1,
        "timeout_seconds": 5.0,
        "index_wait_seconds": 0.0,
    }
    return BenchPlan(tuple(targets), **{**settings, **changes}).check()


async def run(plan: BenchPlan, stop: asyncio.Event | None = None, watch=lambda _progress: None):
    return await BenchRun(plan, "r1", SystemClock(), watch).run(stop or asyncio.Event())


def lines(upstream: RecordingUpstream) -> Counter[tuple[str, str]]:
    """Requests by method and by what follows the namespace's name in the path."""
    found: Counter[tuple[str, str]] = Counter()
    for request in upstream.requests:
        method, target, _ = request.line.decode().split(" ")
        tail = target.partition("/namespaces/")[2].partition("/")[2]
        found[method, "documents" if tail.startswith("documents/") else tail] += 1
    return found


async def test_what_the_report_counts_is_what_the_servers_got():
    async with RecordingUpstream() as direct, RecordingUpstream() as gateway:
        plan = plan_of(direct, gateway)
        report = build_report(await run(plan))
        assert report["problems"] == []
        for name, upstream in (("direct", direct), ("gateway", gateway)):
            target = report["targets"][name]
            assert sum(target["requests"].values()) == len(upstream.requests)
            operations = target["operations"]
            assert operations[ALL]["requests"] == target["requests"]["measure"]
            assert operations[ALL]["requests"] == sum(operations[each]["requests"] for each in report["operations"])
            assert operations[ALL]["latency_ms"]["count"] == operations[ALL]["succeeded"] == operations[ALL]["requests"]
            assert {request.header(b"authorization") for request in upstream.requests} == {f"Bearer {KEY}".encode()}
            assert target["requests"]["load"] == 1
            assert target["requests"]["index"] == target["requests"]["cleanup"] == 1
        # A document by its id is a route of the gateway's alone.
        assert lines(direct)["GET", "documents"] == 0
        assert lines(gateway)["GET", "documents"] > 0
        assert all(b" /region/v" in request.line for request in gateway.requests)


async def test_both_targets_get_the_same_documents_and_start_with_the_same_requests():
    async with RecordingUpstream() as direct, RecordingUpstream() as gateway:
        mix = {Operation.VECTOR: 1, Operation.TEXT: 1}
        await run(plan_of(direct, gateway, documents=1300, mix=mix, concurrency=1, warm_up_seconds=0.0))
        bodies = [[request.body for request in each.requests if request.body] for each in (direct, gateway)]
        assert sorted(bodies[0][:3]) == sorted(bodies[1][:3])
        assert len(orjson.loads(bodies[0][0])["upsert_rows"]) == 500
        # One may have been quicker than the other.
        both = min(map(len, bodies))
        assert bodies[0][3:both] == bodies[1][3:both] != []


async def test_each_target_has_a_namespace_of_its_own_and_both_are_deleted():
    async with RecordingUpstream() as upstream:
        result = await run(plan_of(upstream, upstream))
        names = set(result.namespaces.values())
        assert names == {"layer-bench-r1-direct", "layer-bench-r1-gateway"}
        deleted = [request.target.decode() for request in upstream.requests if request.line.startswith(b"DELETE")]
        assert deleted == [
            "/v2/namespaces/layer-bench-r1-direct",
            "/region/v2/namespaces/layer-bench-r1-gateway?purge_history=true",
        ]


async def test_namespaces_are_kept_when_that_is_asked_for():
    async with RecordingUpstream() as upstream:
        await run(plan_of(upstream, keep=True))
        assert not [request for request in upstream.requests if request.line.startswith(b"DELETE")]


async def test_an_interrupted_run_cleans_up_and_keeps_what_it_measured():
    stop = asyncio.Event()

    def watch(progress) -> None:
        if progress.phase == "measure" and progress.done:
            stop.set()

    async with RecordingUpstream() as upstream:
        result = await run(plan_of(upstream, duration_seconds=600.0, warm_up_seconds=0.0), stop, watch)
        assert result.interrupted
        assert result.error is None
        assert upstream.requests[-1].line.startswith(b"DELETE")
        report = build_report(result)
        assert sum(report["targets"]["direct"]["requests"].values()) == len(upstream.requests)
        assert report["targets"]["direct"]["operations"][ALL]["succeeded"] > 0
        assert "**Interrupted" in render_markdown(report, None)


async def test_a_run_interrupted_while_loading_cleans_up():
    stop = asyncio.Event()
    async with RecordingUpstream() as upstream:
        upstream.script.append(Canned(before=asyncio.Event()))
        work = asyncio.create_task(run(plan_of(upstream), stop))
        await upstream.arrived(1)
        stop.set()
        result = await work
        assert result.interrupted
        assert upstream.requests[-1].line.startswith(b"DELETE")
        render_picture(build_report(result))


async def test_refusals_of_the_load_are_told_with_the_servers_words():
    refusal = answer(403, b'{"status":"error","error":"no writing here"}', reason=b"Forbidden")
    async with RecordingUpstream(default=refusal) as upstream:
        result = await run(plan_of(upstream))
        assert result.error is not None
        assert not result.error.unreachable
        assert "direct: cannot load documents: status 403: " in str(result.error)
        assert "no writing here" in str(result.error)
        assert "may be left behind" in result.problems[0]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(endpoint, "RETRY", Backoff(initial_seconds=0.001, cap_seconds=0.001))


async def test_a_server_that_is_not_there_is_unreachable_and_leaves_nothing_behind():
    async with RecordingUpstream() as upstream:
        plan = plan_of(upstream, timeout_seconds=0.5)
    result = await run(plan)
    assert result.error is not None
    assert result.error.unreachable
    assert result.problems == []


async def test_failed_requests_are_counted_by_what_failed_and_stay_out_of_the_distribution():
    async with RecordingUpstream() as upstream:
        plan = plan_of(upstream, mix={Operation.VECTOR: 1}, warm_up_seconds=0.0)
        path = b"/v2/namespaces/layer-bench-r1-direct/query"
        upstream.by_target[path] = BUSY
        report = build_report(await run(plan))
        figures = report["targets"]["direct"]["operations"]["vector"]
        assert figures["outcomes"] == {"429": figures["requests"]}
        assert figures["failed"] == figures["requests"] > 0
        assert figures["latency_ms"] is None
        assert "| direct | vector | 429 |" in render_markdown(report, None)


async def test_passing_refusals_of_the_preparation_are_tried_again():
    async with RecordingUpstream() as upstream:
        upstream.script.append(BUSY)
        report = build_report(await run(plan_of(upstream)))
        assert report["problems"] == []
        assert report["targets"]["direct"]["requests"]["load"] == 2


async def test_an_index_that_never_catches_up_is_told():
    async with RecordingUpstream() as upstream:
        path = b"/v1/namespaces/layer-bench-r1-direct/metadata"
        upstream.by_target[path] = answer(body=b'{"index":{"status":"updating"}}')
        result = await run(plan_of(upstream))
        assert not result.indexed
        assert "direct: not indexed after 0 s" in result.problems[0]
        assert result.error is None


@pytest.fixture(scope="module")
def report():
    async def make():
        async with RecordingUpstream() as direct, RecordingUpstream() as gateway:
            return build_report(await run(plan_of(direct, gateway)))

    return asyncio.run(make())


def test_the_report_is_json_without_the_keys(report):
    text = orjson.dumps(report).decode()
    assert KEY not in text
    assert report["format"] == 1
    assert report["loop"]["kind"] == "closed"
    assert report["plan"]["mix"]["vector"] == 1
    assert report["machine"]["cores"] >= 1
    assert report["versions"]["hdrhistogram"]


def test_the_quantiles_of_a_report_grow_and_end_at_the_maximum(report):
    latency = report["targets"]["gateway"]["operations"][ALL]["latency_ms"]
    values = [*latency["quantiles"].values()]
    assert values == sorted(values)
    assert latency["min"] <= values[0]
    assert values[-1] <= latency["max"]
    assert latency["curve"][-1][1] == 1
    assert latency["curve"][-1][0] == latency["max"]


def test_the_comparison_divides_the_gateway_by_the_direct_endpoint(report):
    ratios = report["comparison"]["ratios"]
    assert set(ratios) == {*(operation.value for operation in Operation), ALL}
    direct, gateway = (
        report["targets"][name]["operations"]["text"]["latency_ms"]["quantiles"]["p50"]
        for name in ("direct", "gateway")
    )
    assert ratios["text"]["p50"] == pytest.approx(gateway / direct, rel=1e-4)
    speeds = [report["targets"][name]["operations"][ALL]["per_second"] for name in ("direct", "gateway")]
    assert ratios[ALL]["per_second"] == pytest.approx(speeds[1] / speeds[0], rel=1e-4)
    # A throughput of one operation within a mix would say nothing.
    assert [name for name, values in ratios.items() if "per_second" in values] == [ALL]


def test_the_page_has_a_row_for_each_operation_and_target_and_links_the_picture(report):
    page = render_markdown(report, "latency.svg")
    for operation in (*Operation, ALL):
        for name in ("direct", "gateway"):
            assert f"| {operation} | {name} | " in page
    assert "![Latency by quantile](latency.svg)" in page
    assert "coordinated omission" in page
    assert KEY not in page


def test_the_picture_is_svg_that_fetches_and_runs_nothing(report):
    picture = render_picture(report)
    root = ElementTree.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"script", "image", "use", "foreignObject"}
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not {name for name in attributes if name.endswith("href")}
    names = {text for element in root.iter() if (text := (element.text or "").strip())}
    assert {"vector, direct", "vector, gateway"} <= names
