import orjson
import pytest

from hevlayer.errors import ValidationError
from hevlayer.origin.faults import FaultBook, Reset, SlowBody, TruncatedBody, decode_faults


def book(*rules, seed=0):
    return FaultBook(decode_faults(orjson.dumps({"rules": list(rules), "seed": seed})))


def rule(kind, /, match=None, probability=1.0, count=None, **effect):
    return {"effect": {"kind": kind, **effect}, "match": match or {}, "probability": probability, "count": count}


def test_an_empty_book_plans_nothing():
    assert FaultBook().plan("write", "POST", "a") is None


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ({}, True),
        ({"route": "write"}, True),
        ({"route": "query"}, False),
        ({"method": "POST"}, True),
        ({"method": "GET"}, False),
        ({"namespace": "test-*"}, True),
        ({"namespace": "test-?"}, True),
        ({"namespace": "TEST-*"}, False),
        ({"namespace": "other"}, False),
        ({"route": "write", "method": "POST", "namespace": "test-1"}, True),
    ],
)
def test_a_rule_needs_route_method_and_namespace_to_match(match, hit):
    assert (book(rule("reset", match)).plan("write", "POST", "test-1") is not None) is hit


def test_both_sides_of_the_commit_are_apart():
    plan = book(
        rule("latency", ms=5),
        rule("latency", ms=7, when="after"),
        rule("latency", ms=3),
        rule("reset", when="after"),
        rule("status", status=503, when="after"),
    ).plan("write", "POST", "a")
    assert (plan.before.delay_ms, plan.before.failure) == (8, None)
    assert plan.after.delay_ms == 7
    assert plan.after.failure == Reset(when="after")


def test_the_first_body_effect_wins():
    plan = book(rule("slow_body", bytes_per_second=10), rule("truncated_body")).plan("query", "POST", "a")
    assert plan.body == SlowBody(bytes_per_second=10)


def test_a_count_runs_out():
    faults = book(rule("reset", count=2))
    assert [faults.plan("write", "POST", "a") is not None for _ in range(4)] == [True, True, False, False]
    assert faults.describe()["rules"][0]["fired"] == 2


def test_a_miss_does_not_use_up_the_count():
    faults = book(rule("reset", {"route": "query"}, count=1))
    assert faults.plan("write", "POST", "a") is None
    assert faults.plan("query", "POST", "a") is not None


def drawn(faults, n=2000):
    return [faults.plan("write", "POST", "a") is not None for _ in range(n)]


def test_a_seed_repeats_its_draws_and_hits_the_probability():
    first = drawn(book(rule("reset", probability=0.2), seed=7))
    assert first == drawn(book(rule("reset", probability=0.2), seed=7))
    assert first != drawn(book(rule("reset", probability=0.2), seed=8))
    assert 300 < sum(first) < 500


def test_a_rule_draws_independently_of_the_rules_before_it():
    def second_rule(first_probability):
        faults = book(rule("latency", ms=1, probability=first_probability), rule("reset", probability=0.5), seed=1)
        plans = [faults.plan("write", "POST", "a") for _ in range(200)]
        return [plan is not None and plan.before.failure is not None for plan in plans]

    assert second_rule(0.1) == second_rule(0.9)


def test_zero_never_fires_and_one_always_does():
    assert not any(drawn(book(rule("reset", probability=0)), 200))
    assert all(drawn(book(rule("reset", probability=1)), 200))


def test_log_normal_latency_has_its_median_and_its_cap():
    faults = book(rule("latency_log_normal", mu=3.0, sigma=0.5, cap_ms=30), seed=3)
    waits = sorted(faults.plan("write", "POST", "a").before.delay_ms for _ in range(1001))
    assert 18.5 < waits[500] < 21.7  # exp(3) is 20.1
    assert waits[-1] == 30
    assert waits[0] > 0


def test_replacing_starts_afresh():
    faults = book(rule("reset", count=1))
    faults.plan("write", "POST", "a")
    faults.replace(decode_faults(b'{"rules":[{"effect":{"kind":"truncated_body","keep_fraction":0.25}}]}'))
    assert faults.plan("query", "POST", "a").body == TruncatedBody(keep_fraction=0.25)
    faults.replace(decode_faults(b"{}"))
    assert faults.plan("query", "POST", "a") is None


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "Input data was truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"rules":[{}]}', r"missing required field `effect` - at `\$\.rules\[0\]`"),
        (b'{"rules":[{"effect":{"kind":"melt"}}]}', r"\$\.rules\[0\]\.effect\.kind"),
        (b'{"rules":[{"effect":{"kind":"latency"}}]}', "missing required field `ms`"),
        (b'{"rules":[{"effect":{"kind":"latency","ms":-1}}]}', r"\$\.rules\[0\]\.effect\.ms"),
        (b'{"rules":[{"effect":{"kind":"latency","ms":1,"when":"never"}}]}', r"\$\.rules\[0\]\.effect\.when"),
        (b'{"rules":[{"effect":{"kind":"status","status":200}}]}', r"\$\.rules\[0\]\.effect\.status"),
        (b'{"rules":[{"effect":{"kind":"slow_body","bytes_per_second":0}}]}', r"effect\.bytes_per_second"),
        (b'{"rules":[{"effect":{"kind":"truncated_body","keep_fraction":1}}]}', r"effect\.keep_fraction"),
        (b'{"rules":[{"effect":{"kind":"reset"},"probability":1.5}]}', r"\$\.rules\[0\]\.probability"),
        (b'{"rules":[{"effect":{"kind":"reset"},"count":-1}]}', r"\$\.rules\[0\]\.count"),
        (b'{"rules":[{"effect":{"kind":"reset"},"match":{"route":"wrote"}}]}', r"'wrote'.*\[0\]\.match\.route"),
        (b'{"rules":[{"effect":{"kind":"reset"},"match":{"method":"PUT"}}]}', r"'PUT'.*\[0\]\.match\.method"),
        (b'{"rules":[],"sed":1}', "unknown field `sed`"),
    ],
)
def test_a_bad_rule_is_refused_by_field(body, where):
    with pytest.raises(ValidationError, match=where):
        decode_faults(body)
