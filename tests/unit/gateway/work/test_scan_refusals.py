"""Bad and costly scans at a warm cache: refused with their place, or answered, in bounded time."""

import asyncio

from test_cached_scans import IDS, SCANS, count, warmed
from test_scans import REFUSED_SCANS

# What a request of these may take at the very most, evaluation included.
SECONDS_MAX = 15
ROWS = 600
# The kind of text that such patterns need years for where they are tried one way after the other.
TEXT = "x" * 200
PATTERNS = [
    ["text", "Regex", "(x+x+)+y"],
    ["text", "Regex", "(x|x)*y"],
    ["text", "Regex", "(x?){60}x{60}y"],
    ["text", "Regex", "^(([a-z])+.)+[A-Z]([a-z])+$"],
    ["text", "Glob", "*x" * 100 + "y"],
    ["text", "IGlob", "{x,xx}" * 20 + "*y"],
    ["Or", [["text", "Regex", f"(x+x+)+{number}"] for number in range(100)]],
]
TOO_LARGE = [
    ["text", "Regex", "(((x{100}){100}){100}){100}"],
    ["text", "Regex", r"\pL{1000}\pL{1000}\pL{1000}\pL{1000}"],
    ["text", "Regex", "("],
    ["text", "Glob", "["],
]


async def test_what_is_refused_at_the_upstream_is_refused_by_the_cache(stage):
    await warmed(stage)
    for source in ("auto", "cache"):
        for body, status, told in REFUSED_SCANS:
            if "filters" in body and "source" not in body:
                answer = await stage.call("POST", SCANS, {**body, "source": source})
                assert (answer.status, told in answer.body["message"]) == (status, True), (body, answer)
    for levels in (49, 127, 10_000, 1_000_000):
        filters = b'["Not",' * levels + b'["year","Eq",1]' + b"]" * levels
        answer = await stage.call("POST", SCANS, b'{"mode":"count","source":"cache","filters":' + filters + b"}")
        assert (answer.status, "nested deeper" in answer.body["message"]) == (422, True)
    assert (await stage.ok("GET", SCANS))["scans"] == []


async def test_the_largest_filters_that_are_allowed(stage):
    await warmed(stage)
    many = [*IDS[:500], *(f"none-{number}" for number in range(65_000))]
    assert (await count(stage, ["id", "In", many], "cache"))["count"] == 500
    assert (await count(stage, ["Not", ["title", "In", many]], "cache"))["count"] == len(IDS)
    deep = ["year", "Gt", 0]
    for _ in range(48):
        deep = ["Not", deep]
    assert (await count(stage, deep, "cache"))["count"] == len(IDS)


async def test_patterns_are_answered_or_refused_in_bounded_time(stage):
    rows = [{"id": number, "text": TEXT if number % 2 else f"{TEXT}y"} for number in range(ROWS)]
    schema = {"text": {"type": "string", "filterable": True, "regex": True, "glob": True}}
    await stage.write("films", rows, schema=schema)
    await stage.warm()

    async def complete():
        answer = await count(stage, ["text", "Regex", "y$"])
        return (answer["served_by"], answer["count"]) == ("cache", ROWS // 2)

    await stage.until(complete)
    for filters in PATTERNS:
        async with asyncio.timeout(SECONDS_MAX):
            answer = await count(stage, filters, "cache", timeout_seconds=10)
        assert not answer["timed_out"]
        assert answer["count"] == (await count(stage, filters, "origin"))["count"], filters
    for filters in TOO_LARGE:
        for source in ("cache", "auto", "origin"):
            async with asyncio.timeout(SECONDS_MAX):
                refused = await stage.call("POST", SCANS, {"mode": "count", "source": source, "filters": filters})
            assert (refused.status, refused.body["error"]) == (422, "validation_error"), (filters, refused)
        place = ["And", [["id", "Gt", 1], filters]]
        refused = await stage.call("POST", SCANS, {"mode": "count", "source": "cache", "filters": place})
        assert (refused.status, "filters[1][1][2]" in refused.body["message"]) == (422, True), refused
