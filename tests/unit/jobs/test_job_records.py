"""A job's state machine: it only goes forward."""

import random
from dataclasses import replace

from hevlayer.gateway.jobs import JobStatus, rfc3339
from hevlayer.testing.jobs import NOW_MS, TTL_MS, job


def test_a_new_job_as_callers_see_it():
    told = replace(job(1), details={"mode": "ids", "field": None}).as_json()
    assert told == {
        "id": job(1).id,
        "namespace": "films",
        "status": "running",
        "progress": 0.0,
        "documents_scanned": 0,
        "created_at": "2026-09-21T14:13:20.000Z",
        "mode": "ids",
    }


def test_an_ended_job_as_callers_see_it():
    told = job(1).advanced(progress=0.25, stable_as_of_ms=5).ended(NOW_MS + 7, TTL_MS, "it broke").as_json()
    assert (told["status"], told["progress"], told["error"], told["stable_as_of"]) == ("failed", 0.25, "it broke", 5)
    assert told["completed_at"] == "2026-09-21T14:13:20.007Z"


def test_times_before_the_epoch_and_within_a_second():
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999Z"
    assert rfc3339(1_709_164_800_123) == "2024-02-29T00:00:00.123Z"


def test_no_order_of_reports_makes_a_job_go_back():
    rng = random.Random(7)
    for _ in range(200):
        record = job(1)
        for _ in range(20):
            before = record
            if rng.random() < 0.1:
                record = record.ended(NOW_MS, TTL_MS, rng.choice([None, "why"]))
            else:
                record = record.advanced(progress=rng.uniform(-1, 2), documents_scanned=rng.randrange(100))
            assert 0.0 <= before.progress <= record.progress <= 1.0
            assert before.documents_scanned <= record.documents_scanned
            if not before.is_running:
                assert record == before
            assert record.status is not JobStatus.COMPLETED or record.progress == 1.0
