"""However many namespaces there are, a scrape names as many as it is allowed to."""

from prometheus_client.parser import text_string_to_metric_families
from work_stage import BEARER

NAMESPACES_MAX = 2
NAMES = [f"films-{number}" for number in range(6)]
QUERY = {"rank_by": ["vector", "ANN", [0.5, 1.0, 0.25]], "limit": 3}
ROWS = [{"id": f"doc-{number}", "vector": [float(number), 1.0, 0.5], "title": "the film"} for number in range(5)]


async def use(stage, namespace):
    """Whatever a namespace can be asked."""
    target = f"/v2/namespaces/{namespace}"
    await stage.films(namespace, ROWS)
    await stage.ok("POST", target, {"patch_rows": [{"id": "doc-1", "title": "patched"}]})
    await stage.ok("POST", f"{target}/query", QUERY)
    await stage.ok("POST", f"{target}/query", {"queries": [QUERY, QUERY]})
    await stage.ok("GET", f"{target}/documents/doc-2")
    await stage.ok("POST", f"{target}/documents", {"ids": ["doc-3", "nowhere"]})
    await stage.ok("GET", f"{target}/metadata")
    await stage.ok("GET", f"/v1/namespaces/{namespace}/schema")
    await stage.warm(namespace)
    for mode in ("count", "ids"):
        await stage.call("POST", f"{target}/scans", {"mode": mode, "filters": ["title", "Eq", "patched"]})
    count = {"query": {"field": "title", "fts": "film"}}
    await stage.ok("POST", f"{target}/result-count", count)
    await stage.ok("GET", f"{target}/search-history")
    await stage.ok("GET", f"{target}/clickstream")


async def test_namespaces_past_the_cap_are_other(stages):
    stage = await stages(metrics_namespaces_max=NAMESPACES_MAX)
    for made_up in ("nowhere-1", "nowhere-2", "nowhere-3"):
        missing = await stage.call("POST", f"/v2/namespaces/{made_up}/query", QUERY, headers=[BEARER])
        assert missing.status == 404
    for name in NAMES:
        await use(stage, name)
    answer = await stage.call("GET", "/metrics")
    samples = [
        sample for family in text_string_to_metric_families(answer.body.decode()) for sample in family.samples
    ]  # fmt: skip
    told = {sample.labels["namespace"] for sample in samples if "namespace" in sample.labels}
    assert told == {*NAMES[:NAMESPACES_MAX], "other"}
    # No other label smuggles a name in.
    everything = {value for sample in samples for value in sample.labels.values()}
    assert everything.isdisjoint({*NAMES[NAMESPACES_MAX:], "doc-1", "doc-2", "title"})
    # What is told of the others is told together.
    answered = {
        sample.labels["namespace"]: sample.value
        for sample in samples
        if sample.name == "layer_query_duration_seconds_count" and sample.labels["status"] == "ok"
    }
    assert answered["other"] == (len(NAMES) - NAMESPACES_MAX) * answered[NAMES[0]]
