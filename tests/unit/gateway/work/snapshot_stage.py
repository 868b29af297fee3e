"""What tests of snapshots ask and expect, on the stage of a whole gateway."""

import collections

from work_stage import FILMS

NS = "/v2/namespaces/films"
WATCHED = {
    "facet_fields": '{"films": ["genres", "year"]}',
    "snapshot_min_interval_ms": 0,
    "turbopuffer_api_key": "tpuf_own",
}


def expected(field, films=FILMS):
    """What a plain count of the films gives."""
    counts = collections.Counter()
    for film in films:
        value = film.get(field)
        counts.update(set(value) if isinstance(value, list) else [] if value is None else [value])
    return {str(value): count for value, count in counts.items()}


def counts_of(body, field):
    (facet,) = [each for each in body["fields"] if each["name"] == field]
    return {each["v"]: each["n"] for each in facet["values"]}


async def asked(stage, field, **more):
    job = await stage.ok("POST", f"{NS}/snapshots", {"field": field, **more}, 202)
    assert (job["status"], job["field"]) == ("running", field)
    return await stage.done(f"{NS}/snapshot-jobs/{job['id']}")


async def shown(stage, sha):
    return await stage.ok("GET", f"{NS}/snapshots/{sha}")


async def history(stage, **asked_for):
    query = "&".join(f"{name}={value}" for name, value in asked_for.items())
    return await stage.ok("GET", f"{NS}/history?{query}")


async def until_written(stage, number=1):
    async def written():
        return len(await history(stage)) >= number

    await stage.until(written)
    return await history(stage)


async def outcomes(stage, outcome):
    """How often the writer came to this."""
    text = (await stage.call("GET", "/metrics", headers=())).body.decode()
    name = f'layer_snapshot_duration_seconds_count{{namespace="films",outcome="{outcome}"}} '
    return sum(int(float(line.removeprefix(name))) for line in text.splitlines() if line.startswith(name))


async def until_outcome(stage, outcome, number=1):
    """A body is there for others before the writer has counted it."""

    async def counted():
        return await outcomes(stage, outcome) >= number

    await stage.until(counted)
    assert await outcomes(stage, outcome) == number
