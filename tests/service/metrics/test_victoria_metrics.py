"""Everything that the catalog says can be asked of a metrics store that scraped the gateway."""

import asyncio
import shutil
from urllib.parse import quote

from conftest import SCRAPE_SECONDS
from prometheus_client.parser import text_string_to_metric_families

from hevlayer.metrics import Metrics
from hevlayer.metrics.rules import rule_file

ROWS = [{"id": f"doc-{n}", "vector": [float(n), 1.0], "title": f"row {n}"} for n in range(20)]
BY_VECTOR = {"rank_by": ["vector", "ANN", [1.0, 1.0]], "limit": 3}


async def session(stage):
    """One of everything that a client does."""
    films = b"/v2/namespaces/films"
    statuses = []
    for method, target, value in (
        ("POST", films, {"upsert_rows": ROWS, "distance_metric": "cosine_distance"}),
        ("POST", films, {"patch_rows": [{"id": "doc-1", "title": "patched"}]}),
        ("POST", films, {"deletes": ["doc-2"]}),
        ("POST", films + b"/query", BY_VECTOR),
        ("POST", films + b"/query", {"queries": [BY_VECTOR, BY_VECTOR]}),
        ("GET", films + b"/documents/doc-1", None),
        ("GET", films + b"/documents/doc-1", None),
        ("POST", films + b"/documents", {"ids": ["doc-1", "doc-3"]}),
        ("GET", films + b"/metadata", None),
        ("GET", b"/v1/namespaces", None),
    ):
        status, _, answer = await stage.ask(method, target, value)
        statuses.append((status, target, answer))
    assert {status for status, _, _ in statuses} == {200}, statuses


async def catalog_of(stage):
    _, _, answer = await stage.ask("GET", b"/v2/metrics/catalog")
    return answer["entries"]


async def test_each_example_and_each_alert_is_understood(stage):
    await stage.store.start(stage.gateway.port)
    await session(stage)
    await stage.ready()
    await session(stage)
    await asyncio.sleep(2 * SCRAPE_SECONDS)
    _, _, text = await stage.ask("GET", b"/metrics")
    emitted = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text.decode())
        if family.samples
    }
    entries = await catalog_of(stage)
    assert emitted <= {entry["name"] for entry in entries}
    silent = []
    for entry in entries:
        for expression in filter(None, (entry["example_promql"], entry.get("alert", {}).get("expr"))):
            target = b"/v2/metrics/query?query=" + quote(expression, safe="").encode()
            status, _, answer = await stage.ask("GET", target)
            assert (status, answer["status"]) == (200, "success"), (expression, answer)
            example = expression == entry["example_promql"]
            if example and entry["name"] in emitted and not answer["data"]["result"] and await moved(stage, entry):
                silent.append(expression)
    # What was emitted and scraped answers its example: a misspelt label or suffix would find nothing.
    assert silent == []


async def moved(stage, entry):
    """Whether the metric changed while it was scraped: a quantile of no observations is nothing, rightly."""
    if entry["kind"] != "histogram":
        return True
    asked = quote(f"sum(rate({entry['name']}_count[5m])) > 0", safe="").encode()
    _, _, answer = await stage.ask("GET", b"/v2/metrics/query?query=" + asked)
    return bool(answer["data"]["result"])


async def test_the_proxy_answers_as_the_store_itself(stage):
    await stage.store.start(stage.gateway.port)
    await stage.ready()
    now = stage.gateway.clock.now_ms() // 1000
    instant = b"query=process_resident_memory_bytes&time=%d" % now
    window = b"query=count(up)&start=%d&end=%d&step=1s" % (now - 60, now)
    form = [(b"content-type", b"application/x-www-form-urlencoded")]
    for name, asked in ((b"query", instant), (b"query_range", window)):
        for path in (b"/v2/metrics/" + name, b"/v2/metrics/api/v1/" + name):
            status, headers, answer = await stage.ask("GET", path + b"?" + asked)
            _, _, expected = await stage.store_ask(b"/api/v1/" + name + b"?" + asked)
            assert (status, headers[b"content-type"]) == (200, b"application/json")
            assert answer["data"] == expected["data"]
            assert answer["data"]["result"], asked
            status, _, by_form = await stage.ask("POST", path, asked, form)
            assert (status, by_form["status"]) == (200, "success")
    bad = b"query=" + quote("sum(").encode()
    status, _, answer = await stage.ask("GET", b"/v2/metrics/query?" + bad)
    expected_status, _, expected = await stage.store_ask(b"/api/v1/query?" + bad)
    assert (status, answer["status"], answer["errorType"]) == (expected_status, "error", expected["errorType"])


async def test_a_store_that_is_away_is_told_as_prometheus_tells_it(stage):
    status, _, answer = await stage.ask("GET", b"/v2/metrics/query?query=up")
    assert status == 502
    assert (answer["status"], answer["errorType"]) == ("error", "internal")
    assert "the metrics store cannot be reached" in answer["error"]


async def test_the_rule_file_is_one_that_vmalert_loads(tmp_path):
    rules = tmp_path / "rules.yml"
    rules.write_text(rule_file(Metrics().registry.declarations()))
    assert await _dry_run(rules) == 0
    # The check can fail: an expression that is no PromQL is refused.
    rules.write_text(rules.read_text().replace("rate(", "rate((", 1))
    assert await _dry_run(rules) != 0


async def _dry_run(rules):
    binary = shutil.which("vmalert")
    assert binary is not None, "vmalert is not installed: run scripts/system_packages.sh victoria-metrics"
    process = await asyncio.create_subprocess_exec(
        binary, "-dryRun", f"-rule={rules}", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await asyncio.wait_for(process.wait(), 30)
