"""Scans that typed columns of cached rows answer: as rows do, and as the upstream does at the same cut."""

from test_cached_scans import FILTERS, SCANS, count, results, warmed

FIELDS = ("decade", "year", "genres", "href")


async def from_columns(stage, body):
    """Asks until columns have answered; gives that answer."""

    async def answered():
        before = stage.answers("columns")
        answer = await stage.ok("POST", SCANS, {"mode": "count", "source": "cache", **body})
        if stage.answers("columns") > before:
            found.append(answer)
        return bool(found)

    found = []
    await stage.until(answered)
    return found[-1]


async def all_columns(stage):
    """Has every attribute that the tests read in a column."""
    for filters in FILTERS:
        await count(stage, filters, "cache")
        await count(stage, filters, "cache")
    for field in FIELDS:
        await stage.ok("POST", SCANS, {"mode": "count", "source": "cache", "filters": [field, "Eq", None]})
        await stage.ok("POST", SCANS, {"mode": "count", "source": "cache", "filters": [field, "Eq", None]})
    for filters in FILTERS:
        await from_columns(stage, {"filters": filters})


async def test_counts_ids_and_values_come_from_columns(stage):
    await warmed(stage)
    await all_columns(stage)
    before = stage.answers("rows")
    for filters in FILTERS:
        stage.up.clear()
        answer = await count(stage, filters)
        assert (answer["served_by"], stage.queries()) == ("cache", [])
        assert answer["count"] == (await count(stage, filters, "origin"))["count"], filters
        _, found = await results(stage, {"filters": filters, "source": "cache"})
        _, expected = await results(stage, {"filters": filters, "source": "origin"})
        assert found == expected, filters
    for field in FIELDS:
        body = {"mode": "values", "field": field, "filters": ["year", "Gte", 1930]}
        _, found = await results(stage, {**body, "source": "cache"})
        _, expected = await results(stage, {**body, "source": "origin"})
        assert found == expected, field
    assert stage.answers("rows") == before
