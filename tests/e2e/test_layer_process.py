"""`layer` as a process against a gateway and its origin: what a shell sees."""

import json
import signal
import subprocess
import time

import pytest
from dev_process import API_KEY, Dev
from layer_process import LAYER, RUN_SECONDS_MAX, run_layer, settings

from hevlayer.cli.layer.exits import DONE, INTERRUPTED, REFUSED, UNREACHABLE

FILMS = [
    {"id": number, "vector": [number / 10, 1 - number / 10], "title": f"film {number}", "year": 1990 + number % 3}
    for number in range(1, 10)
]
SCHEMA = {"title": {"type": "string", "full_text_search": True}}
SLOW_MS = 20_000


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    with Dev(tmp_path_factory.mktemp("layer") / "data", "--no-postgres") as running:
        body = {"upsert_rows": FILMS, "distance_metric": "cosine_distance", "schema": SCHEMA}
        assert running.call("POST", "/v2/namespaces/films", body)[0] == 200
        yield running


def layer(dev: Dev, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    finished = run_layer(*arguments, stdin=stdin, LAYER_GATEWAY_URL=dev.url, LAYER_GATEWAY_API_KEY=API_KEY)
    assert "\x1b" not in finished.stdout + finished.stderr
    assert API_KEY not in finished.stdout + finished.stderr
    return finished


def test_the_way_from_a_search_to_its_record(dev):
    by_text = layer(
        dev, "query", "films", "--bm25", "title", "7", "-i", "title", "--tag", "shell", "--raw-query", "seven"
    )
    assert by_text.returncode == DONE, by_text.stderr
    rows = [line.split() for line in by_text.stdout.splitlines()]
    assert rows[0] == ["id", "$dist", "title"]
    assert (rows[1][0], rows[1][2:]) == ("7", ["film", "7"])
    by_vector = layer(dev, "query", "films", "--vector", "-", "-k", "1", "--json", stdin="[0.9, 0.1]")
    assert [row["id"] for row in json.loads(by_vector.stdout)["rows"]] == [9]
    near = layer(dev, "query", "films", "--near", "9", "-k", "2", "--filter", '["year","Eq",1990]', "--json")
    assert [int(row["id"]) for row in json.loads(near.stdout)["rows"]] == [9, 6]
    opened = layer(dev, "fetch", "films", "7", "--tag", "shell")
    assert opened.stdout == "id     7\ntitle  film 7\nyear   1991\n"
    record = layer(dev, "history", "search", "films", "--tag", "shell", "--json")
    assert [json.loads(line)["raw_query"] for line in record.stdout.splitlines()] == ["seven"]
    clicks = layer(dev, "history", "clicks", "films", "--json")
    assert [json.loads(line)["doc_id"] for line in clicks.stdout.splitlines()] == ["7"]


def test_scans_and_counts_from_the_origin_and_the_cache(dev):
    selected = ("films", "--filter", '["year","Eq",1991]')
    assert layer(dev, "count", *selected).stdout == "3\n"
    assert layer(dev, "scan", *selected).stdout == "1\n4\n7\n"
    warm = layer(dev, "warm", "start", "films", "--json")
    assert json.loads(warm.stdout)["status"] == "completed"
    cached = json.loads(layer(dev, "count", *selected, "--source", "cache", "--json").stdout)
    assert (cached["count"], cached["served_by"]) == (3, "cache")
    values = layer(dev, "scan", "films", "--values", "year", "--json")
    assert {each["v"]: each["n"] for each in map(json.loads, values.stdout.splitlines())} == {
        "1990": 3,
        "1991": 3,
        "1992": 3,
    }
    assert layer(dev, "scans", "list", "films", "--json").stdout == ""
    listing = layer(dev, "namespaces", "list", "--json")
    assert json.loads(listing.stdout)["cache_state"]["state"] == "warm"


def test_the_metrics_of_the_gateway_and_no_store_to_ask(dev):
    catalog = layer(dev, "metrics", "catalog", "--json")
    names = [json.loads(line)["name"] for line in catalog.stdout.splitlines()]
    assert "layer_query_duration_seconds" in names
    asked = layer(dev, "metrics", "query", "up")
    assert (asked.returncode, asked.stdout) == (REFUSED, "")
    assert "METRICS_BACKEND_URL" in asked.stderr


def test_a_namespace_is_deleted_and_then_not_there(dev):
    body = {"upsert_rows": FILMS[:1], "distance_metric": "cosine_distance"}
    assert dev.call("POST", "/v2/namespaces/short-lived", body)[0] == 200
    assert layer(dev, "namespaces", "delete", "short-lived", "--yes").returncode == DONE
    gone = layer(dev, "namespaces", "show", "short-lived")
    assert gone.returncode == REFUSED
    assert "404" in gone.stderr
    assert "was not found" in gone.stderr


def test_a_reader_that_has_enough_ends_it_quietly(dev):
    command = " ".join([*LAYER, "scan", "films", "--json"])
    finished = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | true"],
        env=settings(LAYER_GATEWAY_URL=dev.url, LAYER_GATEWAY_API_KEY=API_KEY),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert "Traceback" not in finished.stderr
    assert "BrokenPipe" not in finished.stderr
    assert finished.returncode == DONE


def test_an_interruption_ends_a_request_that_hangs(dev):
    dev.set_faults({"kind": "latency", "ms": SLOW_MS, "match": {"route": "query"}})
    try:
        with subprocess.Popen(
            [*LAYER, "query", "films", "--order-by", "id"],
            env=settings(LAYER_GATEWAY_URL=dev.url, LAYER_GATEWAY_API_KEY=API_KEY),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            wait_until_fired(dev)
            process.send_signal(signal.SIGINT)
            # Were it to wait for the answer it would end with 0.
            _, errors = process.communicate(timeout=RUN_SECONDS_MAX)
    finally:
        dev.call("DELETE", "/_origin/faults", base_url=dev.origin_url)
    assert process.returncode == INTERRUPTED, errors
    assert "layer: interrupted" in errors
    assert "Traceback" not in errors


def wait_until_fired(dev: Dev) -> None:
    """Until the fault that was set last has met a request."""
    deadline = time.monotonic() + RUN_SECONDS_MAX
    while time.monotonic() < deadline:
        if dev.call("GET", "/_origin/faults", base_url=dev.origin_url)[2]["rules"][0]["fired"]:
            return
        time.sleep(0.02)
    raise AssertionError("the fault never met a request")


def test_a_gateway_that_is_away_and_one_that_is_too_slow(dev):
    away = run_layer("count", "films", "--retries", "0", LAYER_GATEWAY_URL="http://127.0.0.1:1")
    assert away.returncode == UNREACHABLE
    dev.set_faults({"kind": "latency", "ms": SLOW_MS, "match": {"route": "query"}})
    try:
        slow = layer(dev, "query", "films", "--order-by", "id", "--timeout", "0.2", "--retries", "0", "--json")
    finally:
        dev.call("DELETE", "/_origin/faults", base_url=dev.origin_url)
    assert slow.returncode == UNREACHABLE
    assert json.loads(slow.stderr)["status"] is None
