"""`layer bench` against a gateway and its origin: its figures are what the gateway counted, and it leaves nothing."""

import json
import re
import signal
import subprocess

import pytest
from dev_process import Dev
from layer_process import LAYER, RUN_SECONDS_MAX, run_layer, settings

from hevlayer.cli.layer.exits import DONE, INTERRUPTED, REFUSED, UNREACHABLE

METRICS = (
    "layer_query_duration_seconds_count",
    "layer_fetch_duration_seconds_count",
    "layer_upsert_duration_seconds_count",
)
QUANTILES = ("p50", "p90", "p99", "p99.9")
SMALL = ("--documents", "300", "--dimensions", "8", "--concurrency", "4", "--slice", "0.5")


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    with Dev(tmp_path_factory.mktemp("bench") / "data", "--no-postgres") as running:
        yield running


def targets(dev: Dev) -> tuple[str, ...]:
    return ("--direct", dev.origin_url, "--gateway", dev.url)


def namespaces(dev: Dev) -> list[str]:
    status, _, listing = dev.call("GET", "/v1/namespaces", base_url=dev.origin_url)
    assert status == 200
    return [each["id"] for each in listing["namespaces"]]


def counted(dev: Dev, name: str) -> float:
    """The sum of a counter over its labels."""
    text = dev.call("GET", "/metrics")[2]
    samples = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, samples))


def test_a_run_side_by_side_reports_what_the_gateway_counted(dev, tmp_path):
    before = {name: counted(dev, name) for name in METRICS}
    mix = "vector=5,text=2,filter=1,fetch=4,write=1"
    command = ("bench", *targets(dev), *SMALL, "--duration", "2", "--warm-up", "0", "--mix", mix)
    # So few documents that some are asked for twice, however slow the machine is.
    finished = run_layer(*command, "--documents", "20", "--output", str(tmp_path))
    assert finished.returncode == DONE, finished.stderr
    assert "\x1b" not in finished.stdout + finished.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["problems"] == []
    gateway = report["targets"]["gateway"]
    figures = gateway["operations"]
    queries = sum(figures[name]["requests"] for name in ("vector", "text", "filter"))
    writes = figures["write"]["requests"] + gateway["requests"]["load"]
    counts = {name: counted(dev, name) - before[name] for name in METRICS}
    assert counts == {METRICS[0]: queries, METRICS[1]: figures["fetch"]["requests"], METRICS[2]: writes}
    assert figures["fetch"]["cache"]["hit"] > 0
    assert namespaces(dev) == []
    lines = finished.stdout.splitlines()
    assert lines[0].split() == ["Operation", "Target", "Requests", "Failed", "Per", "second", *QUANTILES, "max"]
    assert lines[-1] == f"Report: {tmp_path / 'report.md'}"
    assert len(lines) == 1 + 2 * 6 + 2
    assert (tmp_path / "latency.svg").read_bytes().startswith(b"<?xml")


def test_the_open_loop_prints_its_report_as_json(dev, tmp_path):
    command = ("bench", *targets(dev), *SMALL, "--duration", "2", "--warm-up", "0.5", "--rate", "100", "--json")
    finished = run_layer(*command, "--output", str(tmp_path))
    assert finished.returncode == DONE, finished.stderr
    report = json.loads(finished.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["loop"]["kind"] == "open"
    # The arrivals are drawn from the seed, so both targets are meant to get the same number.
    requests = [report["targets"][name]["operations"]["all"]["requests"] for name in ("direct", "gateway")]
    assert requests[0] == requests[1] > 100


def test_an_interrupted_run_deletes_its_namespaces_and_keeps_its_report(dev, tmp_path):
    command = [*LAYER, "bench", *targets(dev), *SMALL, "--duration", "600", "--output", str(tmp_path)]
    with subprocess.Popen(
        command, env=settings(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if line.startswith("measuring"):
                break
        assert len(namespaces(dev)) == 2
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=RUN_SECONDS_MAX)
    assert process.returncode == INTERRUPTED
    assert namespaces(dev) == []
    assert json.loads((tmp_path / "report.json").read_text())["interrupted"]


def test_a_server_that_is_not_there_and_one_that_refuses_have_statuses_of_their_own(dev, tmp_path):
    away = run_layer("bench", "--direct", "http://127.0.0.1:1", *SMALL, "--output", str(tmp_path))
    assert away.returncode == UNREACHABLE
    assert "direct: cannot load documents: unreachable" in away.stderr
    refused = run_layer(
        *("bench", "--direct", dev.origin_url, *SMALL, "--output", str(tmp_path)), TURBOPUFFER_API_KEY=""
    )
    assert refused.returncode == REFUSED
    assert "direct: cannot load documents: status 401" in refused.stderr
