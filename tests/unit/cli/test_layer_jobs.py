"""`layer scan`, `count`, `warm` and `snapshot`: jobs that are started, waited for, shown and given up."""

import json

import pytest
from layer_server import NS, table

from hevlayer.cli.layer.exits import DONE, REFUSED, UNREACHABLE, USAGE

JOB = {
    "id": "j1",
    "namespace": "films",
    "status": "running",
    "progress": 0.25,
    "documents_scanned": 1000,
    "created_at": "2026-01-02T03:04:05Z",
}
ENDED = {
    **JOB,
    "status": "completed",
    "progress": 1.0,
    "documents_scanned": 4000,
    "completed_at": "2026-01-02T03:04:09Z",
}
SCAN = {"mode": "ids", "source": "auto", "effective_source": "cache"}
SNAPSHOT = {"field": "genre", "source": "auto", "sha": "abc1234"}


def scanning(server, *results, mode: str = "ids") -> None:
    server.answers[f"POST {NS}/scans"] = (202, {**JOB, **SCAN, "mode": mode})
    server.answers[f"GET {NS}/scans/j1"] = [
        (200, {**JOB, **SCAN, "mode": mode}),
        (200, {**ENDED, **SCAN, "mode": mode}),
    ]
    server.answers[f"GET {NS}/scans/j1/results"] = [(200, result) for result in results]
    server.answers[f"DELETE {NS}/scans/j1"] = (200, {"status": "OK"})


def test_a_scan_waits_prints_its_ids_and_is_deleted(server, layer):
    scanning(server, {"ids": ["a", "b"], "total": 3}, {"ids": ["c"], "total": 3})
    status, out, err = layer("scan", "films", "--filter", '["year","Gte",1990]', "--source", "cache", "--threads", "2")
    assert (status, out) == (DONE, "a\nb\nc\n")
    assert err == "layer scan: 4,000 documents read, from cache\n"
    assert server.asked[0].body == {"mode": "ids", "filters": ["year", "Gte", 1990], "source": "cache", "threads": 2}
    assert (server.asked[-1].method, server.asked[-1].path) == ("DELETE", f"{NS}/scans/j1")


def test_a_scan_of_values(server, layer):
    values = {"values": [{"v": "drama", "n": 1200}, {"v": "war", "n": 3}], "total": 2, "truncated": False}
    scanning(server, values, mode="values")
    _, out, _ = layer("scan", "films", "--values", "genre")
    assert out == "Value  Documents\ndrama      1,200\nwar            3\n"
    assert server.asked[0].body == {"mode": "values", "field": "genre"}
    scanning(server, values, mode="values")
    _, out, _ = layer("scan", "films", "--values", "genre", "--json")
    assert [json.loads(line) for line in out.splitlines()] == values["values"]


def test_a_scan_may_be_left_running(server, layer):
    scanning(server)
    status, out, _ = layer("scan", "films", "--detach", "--json")
    assert status == DONE
    assert json.loads(out) == {**JOB, **SCAN}
    assert [asked.method for asked in server.asked] == ["POST"]


def test_a_scan_that_fails_is_refused_and_deleted(server, layer):
    scanning(server)
    server.answers[f"GET {NS}/scans/j1"] = (200, {**JOB, **SCAN, "status": "failed", "error": "the upstream is away"})
    status, out, err = layer("scan", "films")
    assert (status, out) == (REFUSED, "")
    assert err == "layer scan: the upstream is away\n"
    assert server.asked[-1].method == "DELETE"


def test_a_job_that_does_not_end_in_time_has_the_status_of_a_time_out(server, layer):
    server.answers[f"POST {NS}/warm"] = (202, JOB)
    server.answers[f"GET {NS}/warm-jobs/j1"] = (200, JOB)
    status, _, err = layer("warm", "start", "films", "--wait", "0.05")
    assert status == UNREACHABLE
    assert "job j1 did not end in 0.05 s; it goes on" in err


def test_the_results_of_an_earlier_scan(server, layer):
    scanning(server, {"ids": ["a"], "total": 1})
    status, out, _ = layer("scans", "results", "films", "j1")
    assert (status, out) == (DONE, "a\n")
    assert "DELETE" not in [asked.method for asked in server.asked]


def test_scans_are_listed_shown_and_deleted(server, layer):
    scanning(server)
    server.answers[f"GET {NS}/scans"] = (200, {"scans": [{**ENDED, **SCAN}]})
    _, out, _ = layer("scans", "list", "films")
    assert table(out)[1] == [
        "j1",
        "completed",
        "100%",
        "4,000",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:09Z",
        "–",
        "ids",
    ]
    assert ["Progress", "25%"] in table(layer("scans", "show", "films", "j1")[1])
    status, _, err = layer("scans", "delete", "films", "j1")
    assert (status, err) == (DONE, "layer scans delete: the scan j1 is deleted\n")


COUNT = {"count": 36273, "served_by": "origin", "elapsed_ms": 12}


def test_a_count_is_a_bare_number(server, layer):
    server.answers[f"POST {NS}/scans"] = (200, COUNT)
    status, out, err = layer("count", "films", "--fts", "title", "war peace", "--exhaustive")
    assert (status, out) == (DONE, "36273\n")
    assert err == "layer count: from origin, 12 ms\n"
    assert server.asked[0].body == {
        "mode": "count",
        "fts": {"field": "title", "query": "war peace"},
        "exhaustive": True,
    }
    assert json.loads(layer("count", "films", "--json")[1]) == COUNT


def test_a_count_that_is_not_exact_says_so(server, layer):
    server.answers[f"POST {NS}/scans"] = (200, {**COUNT, "bounded": True, "approximate": True, "timed_out": True})
    status, out, err = layer("count", "films", "--ann", "[1,2]", "--radius", "0.5", "--server-timeout", "3")
    assert (status, out) == (REFUSED, "36273\n")
    assert "at least this, approximate, from origin, 12 ms" in err
    assert server.asked[0].body == {
        "mode": "count",
        "ann": {"vector": [1, 2], "radius": 0.5},
        "timeout_seconds": 3,
    }


@pytest.mark.parametrize(
    "options", [["--ann", "[1]"], ["--radius", "1"], ["--fts", "a", "b", "--ann", "[1]", "--radius", "1"]]
)
def test_selectors_that_contradict_each_other_are_not_sent(server, layer, options):
    assert layer("count", "films", *options)[0] == USAGE
    assert server.asked == []


def test_a_warm_is_waited_for(server, layer):
    server.answers[f"POST {NS}/warm"] = (202, JOB)
    server.answers[f"GET {NS}/warm-jobs/j1"] = [(200, JOB), (200, ENDED)]
    status, out, _ = layer("warm", "start", "films", "--page-size", "500")
    assert status == DONE
    assert ["Status", "completed"] in table(out)
    assert "page_size=500" in server.asked[0].path
    assert json.loads(layer("warm", "start", "films", "--detach", "--json")[1]) == JOB


def test_watching_and_cancelling_take_the_warm_that_runs(server, layer):
    older = {**ENDED, "id": "j0"}
    server.answers[f"GET {NS}/warm-jobs"] = (200, {"warm_jobs": [older, JOB]})
    server.answers[f"GET {NS}/warm-jobs/j1"] = (200, ENDED)
    server.answers[f"DELETE {NS}/warm-jobs/j1"] = (200, {"status": "OK"})
    assert layer("warm", "watch", "films")[0] == DONE
    status, _, err = layer("warm", "cancel", "films")
    assert (status, err) == (DONE, "layer warm cancel: the warm j1 is cancelled\n")
    assert len(table(layer("warm", "list", "films")[1])) == 3
    server.answers[f"GET {NS}/warm-jobs"] = (200, {"warm_jobs": [older]})
    status, _, err = layer("warm", "cancel", "films")
    assert (status, err) == (REFUSED, "layer warm cancel: no warm of films runs\n")
    server.answers[f"GET {NS}/warm-jobs"] = (200, {"warm_jobs": []})
    assert layer("warm", "watch", "films")[0] == REFUSED


def test_a_snapshot_is_made_listed_and_shown(server, layer):
    server.answers[f"POST {NS}/snapshots"] = (202, {**JOB, **SNAPSHOT, "sha": None})
    server.answers[f"GET {NS}/snapshot-jobs/j1"] = (200, {**ENDED, **SNAPSHOT})
    status, out, _ = layer("snapshot", "create", "films", "genre", "--filter", '["year","Gte",1990]')
    assert status == DONE
    assert ["SHA", "abc1234"] in table(out)
    assert server.asked[0].body == {"field": "genre", "filters": ["year", "Gte", 1990]}
    server.answers[f"GET {NS}/history"] = (
        200,
        [{"watermark_ms": 1767323045000, "sha": "abc1234", "tags": ["nightly"]}],
    )
    _, out, _ = layer("snapshot", "list", "films", "--limit", "5")
    assert table(out)[1] == ["2026-01-02 03:04:05", "1767323045000", "abc1234", '["nightly"]']
    body = {
        "namespace": "films",
        "watermark_ms": 1767323045000,
        "sha": "abc1234",
        "row_count": 36273,
        "fields": [{"name": "genre", "values": [{"v": "drama", "n": 1200}, {"v": "war", "n": 3}]}],
        "fields_skipped": [{"name": "title", "reason": "exceeded_cap", "distinct_observed": 30000, "cap": 10000}],
    }
    server.answers[f"GET {NS}/snapshots/abc1234"] = (200, body)
    _, out, err = layer("snapshot", "show", "films", "abc1234", "--top", "1")
    assert table(out)[-2:] == [["genre", "Documents"], ["drama", "1,200"]]
    assert "genre: 1 more values; --top shows more" in err
    assert "title is left out: 30,000 values, more than 10,000" in err
    assert json.loads(layer("snapshot", "show", "films", "abc1234", "--json")[1]) == body
    assert layer("snapshot", "show", "films", "abc1234", "--field", "nothing")[0] == REFUSED
    server.answers[f"GET {NS}/snapshot-jobs"] = (200, {"snapshot_jobs": [{**ENDED, **SNAPSHOT}]})
    assert table(layer("snapshot", "jobs", "films")[1])[1][-2:] == ["genre", "abc1234"]
