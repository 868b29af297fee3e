"""`hevlayer dev` from the outside: it starts, keeps what it acknowledged, drains, and says what is wrong."""

import signal
import threading
import time

import pytest
from dev_process import API_KEY, Dev, run_hevlayer

from hevlayer.cli.main import COMMANDS, EXIT_USAGE

NAMESPACE = "notes"
ROWS = [
    {"id": "a", "vector": [1.0, 0.0], "title": "the first note", "size": 1, "tags": ["x", "y"]},
    {"id": "b", "vector": [0.0, 1.0], "title": "the second note", "size": 2, "tags": []},
    {"id": "c", "vector": [0.6, 0.8], "title": "something else", "size": 3},
]
SCHEMA = {"title": {"type": "string", "full_text_search": True}, "tags": "[]string"}
SLOW_MS = 2_500
DRAIN_DELAY_SECONDS = 2


def write_rows(dev: Dev) -> None:
    answer = dev.client().namespace(NAMESPACE).write(
        upsert_rows=ROWS, distance_metric="cosine_distance", schema=SCHEMA
    )  # fmt: skip
    assert answer.rows_affected == len(ROWS)


def ids_by_vector(dev: Dev) -> list[str]:
    rows = dev.client().namespace(NAMESPACE).query(rank_by=("vector", "ANN", [1.0, 0.1]), top_k=10).rows
    return [row.id for row in rows]


def wait_until_fired(dev: Dev) -> None:
    """Until the fault that was set last has met a request."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if dev.call("GET", "/_origin/faults", base_url=dev.origin_url)[2]["rules"][0]["fired"]:
            return
        time.sleep(0.01)
    raise AssertionError("no request met the fault")


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    with Dev(tmp_path_factory.mktemp("dev") / "data") as running:
        yield running


def test_a_row_is_written_queried_and_fetched(dev):
    write_rows(dev)
    assert ids_by_vector(dev) == ["a", "c", "b"]
    namespace = dev.client().namespace(NAMESPACE)
    found = namespace.query(rank_by=("title", "BM25", "note"), top_k=10, filters=("size", "Gt", 1))
    assert [row.id for row in found.rows] == ["b"]
    first, cache = dev.fetch(NAMESPACE, "a")
    assert (first, cache) == ({"title": "the first note", "size": 1, "tags": ["x", "y"]}, "miss")
    assert dev.fetch(NAMESPACE, "a") == (first, "hit")
    assert [each.id for each in dev.client().namespaces()] == [NAMESPACE]


def test_ready_says_where_and_that_it_is(dev):
    assert dev.url.startswith("http://127.0.0.1:")
    assert dev.call("GET", "/ready")[0] == 200
    assert dev.call("GET", "/health")[0] == 200


def test_a_restart_keeps_the_data(tmp_path):
    with Dev(tmp_path / "data") as dev:
        write_rows(dev)
        before, _ = dev.fetch(NAMESPACE, "b")
    with Dev(tmp_path / "data") as dev:
        assert dev.events["origin recovered"]["rows"] == len(ROWS)
        assert ids_by_vector(dev) == ["a", "c", "b"]
        assert dev.fetch(NAMESPACE, "b")[0] == before
        dev.client().namespace(NAMESPACE).write(deletes=["b"])
        assert dev.fetch(NAMESPACE, "b")[0] is None
    with Dev(tmp_path / "data") as dev:
        assert dev.fetch(NAMESPACE, "b")[0] is None
        assert ids_by_vector(dev) == ["a", "c"]


def test_sigterm_lets_the_request_in_flight_finish(tmp_path):
    with Dev(tmp_path / "data", LAYER_DRAIN_DELAY_SECONDS=str(DRAIN_DELAY_SECONDS)) as dev:
        write_rows(dev)
        dev.set_faults({"effect": {"kind": "latency", "ms": SLOW_MS}, "match": {"route": "query"}, "count": 1})
        answers = []
        asking = threading.Thread(target=lambda: answers.append(ids_by_vector(dev)))
        asking.start()
        wait_until_fired(dev)
        dev.process.terminate()
        readiness = 200
        while readiness == 200:
            readiness, _, said = dev.call("GET", "/ready")
        assert readiness == 503
        assert "shutting down" in str(said)
        assert not answers, "the slow request was to be in flight still"
        assert dev.wait() == 0
        asking.join(30)
        assert answers == [["a", "c", "b"]]
        assert "Traceback" not in dev.output()


def test_a_second_process_on_the_same_directory_is_refused(tmp_path):
    with Dev(tmp_path / "data") as dev:
        write_rows(dev)
        second = run_hevlayer("dev", "--port", "0", "--origin-port", "0", "--data-dir", str(tmp_path / "data"))
        assert second.returncode == 1
        assert "another process runs the PostgreSQL of" in second.stderr
        assert "Traceback" not in second.stderr
        # The first one is not disturbed.
        assert ids_by_vector(dev) == ["a", "c", "b"]


@pytest.mark.parametrize("flag", ["--port", "--origin-port"])
def test_a_port_that_is_taken_is_told(dev, tmp_path, flag):
    taken = dev.url.rpartition(":")[2]
    ports = {"--port": "0", "--origin-port": "0", flag: taken}
    refused = run_hevlayer(
        "dev", "--data-dir", str(tmp_path / "other"), *(text for pair in ports.items() for text in pair)
    )
    assert refused.returncode == 1
    assert f"hevlayer dev: cannot listen on 127.0.0.1:{taken}: address already in use" in refused.stderr.lower()
    assert "Traceback" not in refused.stderr


def test_a_data_directory_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused = run_hevlayer("dev", "--port", "0", "--origin-port", "0", "--data-dir", str(tmp_path / "file"))
    assert refused.returncode == 1
    assert "hevlayer dev: Not a directory" in refused.stderr
    assert str(tmp_path / "file") in refused.stderr
    assert "Traceback" not in refused.stderr


def test_every_wrong_setting_is_told_at_once_and_nothing_starts(tmp_path):
    data_dir = tmp_path / "gateway"
    refused = run_hevlayer(
        "gateway", "--port", "99999", "--data-dir", str(data_dir),
        LAYER_CONSISTENCY="sometimes",
        LAYER_UPSTREAM_URL="ftp://somewhere",
        LAYER_CACHE_TIMEOUT_MS="soon",
        TURBOPUFFER_API_KEY="a secret with spaces",
    )  # fmt: skip
    assert refused.returncode == EXIT_USAGE
    problems = refused.stderr.splitlines()
    assert len(problems) == 5
    for named in ("--port", "LAYER_CONSISTENCY", "LAYER_UPSTREAM_URL", "LAYER_CACHE_TIMEOUT_MS", "TURBOPUFFER_API_KEY"):
        assert sum(f"hevlayer gateway: {named} must " in problem for problem in problems) == 1, problems
    assert "a secret" not in refused.stderr
    assert refused.stdout == ""
    assert not data_dir.exists()


def test_wrong_settings_of_the_gateway_stop_dev_too(tmp_path):
    refused = run_hevlayer("dev", "--data-dir", str(tmp_path / "data"), LAYER_CONSISTENCY="x", LAYER_CACHE="y")
    assert refused.returncode == EXIT_USAGE
    assert [line.split()[2] for line in refused.stderr.splitlines()] == ["LAYER_CONSISTENCY", "LAYER_CACHE"]
    assert not (tmp_path / "data").exists()


def test_dev_follows_the_settings_of_the_log(tmp_path):
    with Dev(tmp_path / "data", LAYER_LOG_LEVEL="error", LAYER_ACCESS_LOG="off") as dev:
        write_rows(dev)
    assert '"level":"info"' not in dev.output()


def test_help_lists_the_commands():
    shown = run_hevlayer("--help")
    assert shown.returncode == 0
    for command in ("dev", "gateway", "origin", "version"):
        assert f"\n    {command} " in shown.stdout
    assert run_hevlayer("version").stdout.startswith("hevlayer ")


def test_no_secret_is_ever_printed(tmp_path):
    secrets = {
        "TURBOPUFFER_API_KEY": "tpuf_SECRET_UPSTREAM",
        "LAYER_GATEWAY_API_KEY": "key_SECRET_GATEWAY",
        "LAYER_METRICS_TOKEN": "token_SECRET_METRICS",
    }
    with Dev(tmp_path / "data", LAYER_LOG_LEVEL="debug", **secrets) as dev:
        mine = secrets["LAYER_GATEWAY_API_KEY"]
        path = f"/v2/namespaces/{NAMESPACE}"
        body = {"upsert_rows": ROWS, "distance_metric": "cosine_distance", "schema": SCHEMA}
        assert dev.call("POST", path, body, api_key=mine)[0] == 200
        assert dev.call("POST", path, body, api_key="client_SECRET_WRONG")[0] == 401
        assert dev.call("GET", "/metrics", api_key=secrets["LAYER_METRICS_TOKEN"])[0] == 200
        dev.set_faults({"effect": {"kind": "reset"}, "match": {"route": "query"}})
        assert dev.call("POST", f"{path}/query", {"rank_by": ["id", "asc"], "limit": 1}, api_key=mine)[0] == 502
    assert '"operation":"write","status":200' in dev.output()
    assert "SECRET" not in dev.output()
    for command in COMMANDS:
        assert "SECRET" not in run_hevlayer(command.name, "--help", **secrets).stdout
    refused = run_hevlayer("gateway", "--port", "-1", **{**secrets, "TURBOPUFFER_API_KEY": "key_SECRET_GATEWAY"})
    assert refused.returncode == EXIT_USAGE
    assert "SECRET" not in refused.stdout + refused.stderr


def test_a_bearer_that_dev_was_not_given_is_passed_on(dev):
    assert API_KEY not in dev.output()
    assert dev.call("GET", f"/v2/namespaces/{NAMESPACE}/metadata", api_key="tpuf_someone_else")[0] in (200, 404)


def test_a_second_signal_ends_it_at_once(tmp_path):
    with Dev(tmp_path / "data", LAYER_DRAIN_DELAY_SECONDS="50") as running:
        running.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and running.call("GET", "/ready")[0] == 200:
            time.sleep(0.01)
        assert running.process.poll() is None
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == -signal.SIGTERM
