"""What only the local origin has: its faults, its index lag, its start and its end."""

import http.client
import json

import pytest
from contract_support import Api, Process, Target, start_origin


@pytest.fixture
def faults(control):
    """Sets rules; takes them back afterwards."""

    def put(*rules, seed=0):
        return control.ok("PUT", "/faults", {"rules": rules, "seed": seed})

    yield put
    control.ok("DELETE", "/faults")


def broken(api, method, path, body):
    """Makes a call whose answer never becomes whole."""
    status = api.target.status("the connection breaks before the answer is whole")
    if status is None:
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            api.call(method, path, body)
        return
    answer = api.call(method, path, body)
    assert (answer.status, answer.error) == (status, "upstream_error")


def test_a_reset_after_the_commit_leaves_the_write(api, ns, faults):
    api.write(ns, upsert_rows=[{"id": 1}])
    faults({"effect": {"kind": "reset", "when": "after"}, "match": {"route": "write"}, "count": 1})
    broken(api, "POST", f"/v2/namespaces/{ns}", {"upsert_rows": [{"id": 2}]})
    assert api.ids(ns) == [1, 2]


def test_a_reset_before_the_commit_leaves_nothing(api, ns, faults):
    api.write(ns, upsert_rows=[{"id": 1}])
    faults({"effect": {"kind": "reset"}, "match": {"route": "write"}, "count": 1})
    broken(api, "POST", f"/v2/namespaces/{ns}", {"upsert_rows": [{"id": 2}]})
    assert api.ids(ns) == [1]


def test_a_status_with_retry_after(api, ns, faults):
    api.write(ns, upsert_rows=[{"id": 1}])
    faults({"effect": {"kind": "status", "status": 429, "retry_after_seconds": 2}, "match": {"namespace": ns}})
    answer = api.call("POST", f"/v2/namespaces/{ns}/query", {"rank_by": ["id", "asc"], "limit": 1})
    assert (answer.status, answer.headers["retry-after"]) == (429, "2")
    assert api.call("GET", "/v1/namespaces").status == 200


def test_a_truncated_body_is_noticed(api, ns, faults):
    api.write(ns, upsert_rows=[{"id": 1}])
    faults({"effect": {"kind": "truncated_body"}, "match": {"route": "query"}, "count": 1})
    broken(api, "POST", f"/v2/namespaces/{ns}/query", {"rank_by": ["id", "asc"], "limit": 1})
    assert api.ids(ns) == [1]


def test_a_bad_rule_is_named(control):
    message = control.refused(422, "PUT", "/faults", {"rules": [{"effect": {"kind": "status", "status": 99}}]})
    assert "$.rules[0].effect.status" in message


def test_index_lag_hides_the_tail_from_eventual_reads(api, ns, control):
    api.write(ns, upsert_rows=[{"id": 1, "vector": [1, 0]}], distance_metric="cosine_distance")
    control.ok("PUT", "/index-lag", {"namespace": ns, "ms": 3_600_000})
    api.write(ns, upsert_rows=[{"id": 2, "vector": [0, 1]}])
    index = api.ok("GET", f"/v2/namespaces/{ns}/metadata")["index"]
    assert index["status"] == "updating"
    assert index["unindexed_bytes"] > 0
    assert index["unindexed_rows"] > 0
    assert 2 in api.ids(ns, consistency={"level": "strong"})
    assert 2 not in api.ids(ns, consistency={"level": "eventual"})
    control.ok("PUT", "/index-lag", {"namespace": ns, "ms": 0})
    assert api.ok("GET", f"/v2/namespaces/{ns}/metadata")["index"] == {"status": "up-to-date"}
    assert api.ids(ns, consistency={"level": "eventual"}) == [1, 2]


def test_faults_from_the_environment_and_no_control_by_default(tmp_path):
    rules = json.dumps({"rules": [{"effect": {"kind": "status", "status": 503}, "match": {"route": "list"}}]})
    process = Process(
        "origin", "--data-dir", str(tmp_path), env={"LAYER_ORIGIN_FAULTS": rules, "LAYER_ORIGIN_PORT": "0"}
    )
    try:
        listening = process.wait_for("origin listening")
        assert listening["control"] is False
        client = Api(Target("origin", listening["url"]))
        assert client.refused(503, "GET", "/v1/namespaces") == "injected fault"
        assert client.call("GET", "/_origin/faults").status == 404
        client.close()
    finally:
        status = process.stop()
    assert status == 0
    assert process.events[-1] == {"event": "origin stopped", "finished": True}


def test_an_acknowledged_write_survives_a_kill(tmp_path):
    process = Process("origin", "--port", "0", "--data-dir", str(tmp_path))
    client = Api(Target("origin", process.wait_for("origin listening")["url"]))
    for number in range(20):
        client.write("kept", upsert_rows=[{"id": number, "vector": [number, 1]}], distance_metric="euclidean_squared")
    client.write("gone", upsert_rows=[{"id": 1}])
    client.ok("DELETE", "/v2/namespaces/gone")
    process.kill()
    client.close()

    again = Process("origin", "--port", "0", "--data-dir", str(tmp_path))
    try:
        client = Api(Target("origin", again.wait_for("origin listening")["url"]))
        recovered = next(event for event in again.events if event["event"] == "origin recovered")
        assert (recovered["namespaces"], recovered["rows"]) == (1, 20)
        assert client.ids("kept") == list(range(20))
        assert [row["id"] for row in client.rows("kept", rank_by=["vector", "ANN", [7, 1]], limit=1)] == [7]
        assert client.ok("GET", "/v1/namespaces")["namespaces"] == [{"id": "kept"}]
        client.close()
    finally:
        again.stop()


def test_a_second_origin_on_one_directory_is_refused(tmp_path):
    with start_origin(tmp_path):
        second = Process("origin", "--port", "0", "--data-dir", str(tmp_path))
        with pytest.raises(AssertionError, match="the process ended before"):
            second.wait_for("origin listening")
        assert second.stop() == 1


def test_a_taken_port_is_a_clear_error(tmp_path):
    with start_origin(tmp_path / "a") as first:
        port = first.base_url.rpartition(":")[2]
        second = Process("origin", "--port", port, "--data-dir", str(tmp_path / "b"))
        with pytest.raises(AssertionError, match="the process ended before"):
            second.wait_for("origin listening")
        assert second.stop() == 1
