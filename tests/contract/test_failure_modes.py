"""The lines of docs/failure-modes.md about the upstream, through a gateway whose origin is broken on purpose."""

from dataclasses import replace

import pytest
from contract_support import Api, Process, Target

NAMESPACE = "films"
QUERY = {"rank_by": ["id", "asc"], "limit": 1}
ROWS = [{"id": "a", "title": "Metropolis"}, {"id": "b", "title": "Alien"}]
KEY = "gateway-key"
DEADLINES = {"--connect-timeout-seconds": "2", "--first-byte-timeout-seconds": "0.5", "--total-timeout-seconds": "2"}


class Broken:
    """A gateway with short deadlines before an origin whose faults are switched here."""

    def __init__(self, folder):
        origin = ("origin", "--port", "0", "--data-dir", str(folder / "origin"), "--control")
        self.origin = Process(*origin)
        origin_url = self.origin.wait_for("origin listening")["url"]
        self.control = Api(Target("control", f"{origin_url}/_origin"))
        self.process = Process(
            *("gateway", "--port", "0", "--data-dir", str(folder / "gateway"), "--access-log", "off"),
            *(word for option in DEADLINES.items() for word in option),
            env={"LAYER_UPSTREAM_URL": origin_url, "LAYER_GATEWAY_API_KEY": KEY, "TURBOPUFFER_API_KEY": "tpuf_x"},
            stream="stderr",
        )
        url = f"http://127.0.0.1:{self.process.wait_for('gateway listening')['port']}"
        self.api = Api(replace(Target("gateway", url), token=KEY))
        self.api.write(NAMESPACE, upsert_rows=ROWS, distance_metric="cosine_distance")
        for row in ROWS:
            self.fetch(row["id"])

    def faults(self, *rules):
        self.control.ok("PUT", "/faults", {"rules": [{"match": {"route": "query"}, **rule} for rule in rules]})

    def query(self):
        return self.api.call("POST", f"/v2/namespaces/{NAMESPACE}/query", QUERY)

    def fetch(self, doc_id):
        return self.api.call("GET", f"/v2/namespaces/{NAMESPACE}/documents/{doc_id}")

    def close(self):
        self.api.close()
        self.control.close()
        for process in (self.process, self.origin):
            if process.running:
                process.kill()


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    made = Broken(tmp_path_factory.mktemp("broken"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def whole_again(broken):
    yield
    if broken.origin.running:
        broken.control.ok("DELETE", "/faults")


def error_of(answer):
    return answer.status, answer.json().get("error")


def test_an_error_comes_back_byte_for_byte(broken):
    broken.faults({"effect": {"kind": "status", "status": 418, "message": "short and stout", "retry_after_seconds": 3}})
    answer = broken.query()
    assert (answer.status, answer.headers["retry-after"]) == (418, "3")
    assert answer.json() == {"status": "error", "error": "short and stout"}


@pytest.mark.parametrize("kind", ["reset", "truncated_body"])
def test_a_connection_that_breaks_is_a_502(broken, kind):
    broken.faults({"effect": {"kind": kind}})
    assert error_of(broken.query()) == (502, "upstream_error")


def test_an_upstream_that_is_slow_is_a_504(broken):
    broken.faults({"effect": {"kind": "latency", "ms": 5_000}})
    assert error_of(broken.query()) == (504, "gateway_timeout")


def test_an_answer_that_trickles_past_the_deadline_is_a_504(broken):
    broken.faults({"effect": {"kind": "slow_body", "bytes_per_second": 5}})
    assert error_of(broken.query()) == (504, "gateway_timeout")


def test_one_broken_query_breaks_no_other(broken):
    broken.faults({"effect": {"kind": "reset"}, "count": 1})
    assert broken.query().status == 502
    assert broken.query().status == 200


def test_what_is_served_while_the_upstream_is_away(broken):
    # Last: the origin does not come back.
    assert broken.fetch("a").headers["x-layer-cache"] == "hit"
    broken.origin.kill()
    assert error_of(broken.query()) == (502, "upstream_error")
    answer = broken.fetch("a")
    assert (answer.status, answer.headers["x-layer-cache"]) == (200, "hit")
    assert answer.json()["attributes"]["title"] == "Metropolis"
    assert error_of(broken.fetch("unheard-of")) == (502, "upstream_error")
    assert error_of(broken.api.call("POST", f"/v2/namespaces/{NAMESPACE}", {"upsert_rows": [{"id": "c"}]}))[0] == 502
    assert broken.api.call("GET", f"/v2/namespaces/{NAMESPACE}/search-history").status == 200
    assert broken.api.call("GET", "/ready").status == 200
    assert broken.api.call("GET", "/health").status == 200
    assert broken.api.call("GET", "/metrics").status == 200
