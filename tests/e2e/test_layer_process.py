"""`layer` against a gateway and its origin, and as a process where that makes a difference."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from dev_process import API_KEY, Dev
from layer_process import LAYER, RUN_SECONDS_MAX, interruptible, run_layer, settings

from hevlayer.cli.layer.app import run
from hevlayer.cli.layer.exits import DONE, INTERRUPTED, REFUSED, UNREACHABLE

FILMS = [
    {"id": number, "vector": [number / 10, 1 - number / 10], "title": f"film {number}", "year": 1990 + number % 3}
    for number in range(1, 10)
]
SETTLE_SECONDS_MAX = 30
SCHEMA = {"title": {"type": "string", "full_text_search": True}}


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    with Dev(tmp_path_factory.mktemp("layer") / "data", "--no-postgres") as running:
        body = {"upsert_rows": FILMS, "distance_metric": "cosine_distance", "schema": SCHEMA}
        assert running.call("POST", "/v2/namespaces/films", body)[0] == 200
        written_ms = time.time() * 1000
        # Counts and scans show what the watermark covers.
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while (running.call("GET", "/v2/namespaces/films/metadata")[2]["layer"]["stable_as_of"] or 0) < written_ms:
            assert time.monotonic() < deadline, "the watermark does not come to the first write"
            time.sleep(0.05)
        yield running


@pytest.fixture
def layer(dev, monkeypatch, capfd):
    """Runs a command line in this process, which saves the start of one. Returns: what a process would have left."""
    for name in list(os.environ):
        if name.startswith(("LAYER_", "TURBOPUFFER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LAYER_GATEWAY_URL", dev.url)
    monkeypatch.setenv("LAYER_GATEWAY_API_KEY", API_KEY)

    def call(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        status = run(arguments)
        out, err = capfd.readouterr()
        assert "\x1b" not in out + err
        assert API_KEY not in out + err
        return subprocess.CompletedProcess(arguments, status, out, err)

    return call


def test_the_way_from_a_search_to_its_record(layer):
    by_text = layer("query", "films", "--bm25", "title", "7", "-i", "title", "--tag", "shell", "--raw-query", "seven")
    assert by_text.returncode == DONE, by_text.stderr
    rows = [line.split() for line in by_text.stdout.splitlines()]
    assert rows[0] == ["id", "$dist", "title"]
    assert (rows[1][0], rows[1][2:]) == ("7", ["film", "7"])
    by_vector = layer("query", "films", "--vector", "-", "-k", "1", "--json", stdin="[0.9, 0.1]")
    assert [row["id"] for row in json.loads(by_vector.stdout)["rows"]] == [9]
    near = layer("query", "films", "--near", "9", "-k", "2", "--filter", '["year","Eq",1990]', "--json")
    assert [int(row["id"]) for row in json.loads(near.stdout)["rows"]] == [9, 6]
    opened = layer("fetch", "films", "7", "--tag", "shell")
    assert opened.stdout == "id     7\ntitle  film 7\nyear   1991\n"
    record = layer("history", "search", "films", "--tag", "shell", "--json")
    assert [json.loads(line)["raw_query"] for line in record.stdout.splitlines()] == ["seven"]
    clicks = layer("history", "clicks", "films", "--json")
    assert [json.loads(line)["doc_id"] for line in clicks.stdout.splitlines()] == ["7"]


def test_scans_and_counts_from_the_origin_and_the_cache(layer):
    selected = ("films", "--filter", '["year","Eq",1991]')
    assert layer("count", *selected).stdout == "3\n"
    assert layer("scan", *selected).stdout == "1\n4\n7\n"
    warm = layer("warm", "start", "films", "--json")
    assert json.loads(warm.stdout)["status"] == "completed"
    cached = json.loads(layer("count", *selected, "--source", "cache", "--json").stdout)
    assert (cached["count"], cached["served_by"]) == (3, "cache")
    values = layer("scan", "films", "--values", "year", "--json")
    assert {each["v"]: each["n"] for each in map(json.loads, values.stdout.splitlines())} == {
        "1990": 3,
        "1991": 3,
        "1992": 3,
    }
    assert layer("scans", "list", "films", "--json").stdout == ""
    listing = layer("namespaces", "list", "--json")
    assert json.loads(listing.stdout)["cache_state"]["state"] == "warm"


def test_the_metrics_of_the_gateway_and_no_store_to_ask(layer):
    catalog = layer("metrics", "catalog", "--json")
    names = [json.loads(line)["name"] for line in catalog.stdout.splitlines()]
    assert "layer_query_duration_seconds" in names
    asked = layer("metrics", "query", "up")
    assert (asked.returncode, asked.stdout) == (REFUSED, "")
    assert "METRICS_BACKEND_URL" in asked.stderr


def test_a_namespace_is_deleted_and_then_not_there(dev, layer):
    body = {"upsert_rows": FILMS[:1], "distance_metric": "cosine_distance"}
    assert dev.call("POST", "/v2/namespaces/short-lived", body)[0] == 200
    assert layer("namespaces", "delete", "short-lived", "--yes").returncode == DONE
    gone = layer("namespaces", "show", "short-lived")
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


def test_an_interruption_ends_a_request_that_hangs():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(RUN_SECONDS_MAX)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        # Nothing but the signal ends it within the test's patience.
        command = [*LAYER, "query", "films", "--order-by", "id", "--url", url, "--timeout", "86400"]
        with subprocess.Popen(
            command,
            env=settings(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=interruptible,
        ) as process:
            try:
                connection, _ = silent.accept()
                with connection:
                    connection.recv(1)
                    process.send_signal(signal.SIGINT)
                    _, errors = process.communicate(timeout=RUN_SECONDS_MAX)
            finally:
                process.kill()
    assert process.returncode == INTERRUPTED, errors
    assert errors.strip() == "layer: interrupted"


def test_a_gateway_that_is_away():
    away = run_layer("count", "films", "--retries", "0", LAYER_GATEWAY_URL="http://127.0.0.1:1")
    assert away.returncode == UNREACHABLE
    assert "no connection" in away.stderr


def test_a_snapshot_is_made_and_shown(layer):
    made = layer("snapshot", "create", "films", "year", "--filter", '["id","Lte",6]', "--json")
    assert made.returncode == DONE, made.stderr
    sha = json.loads(made.stdout)["sha"]
    shown = layer("snapshot", "show", "films", sha)
    assert shown.stdout.splitlines()[-4:] == [
        "year  Documents",
        "1990          2",
        "1991          2",
        "1992          2",
    ]
    jobs = layer("snapshot", "jobs", "films", "--json")
    assert [json.loads(line)["sha"] for line in jobs.stdout.splitlines()] == [sha]
    assert layer("snapshot", "create", "films", "nothing").returncode == REFUSED
