"""The parts of scans that need no gateway: where to read, what a request may be, searches by distance, results."""

import random

import orjson
import pytest

from hevlayer.clock import SystemClock
from hevlayer.errors import (
    CacheColdError,
    NotFoundError,
    PreconditionFailedError,
    UpstreamError,
    ValidationError,
)
from hevlayer.gateway.jobs import JobKind, JobRecord
from hevlayer.gateway.reads import WHOLE
from hevlayer.gateway.scan import bodies
from hevlayer.gateway.scan.bodies import ValueCount
from hevlayer.gateway.scan.plan import FromCache, FromOrigin, plan_source
from hevlayer.gateway.scan.request import FilterSelector, Source, TextSelector, VectorSelector, decode_scan
from hevlayer.gateway.scan.results import Results, ResultsFullError
from hevlayer.gateway.scan.vector import LEG_ROWS_MAX, VectorSearch
from hevlayer.stores.objects import LocalObjects
from hevlayer.wire.bodies import MalformedJsonError

FILTER, TEXT, NEAR = FilterSelector(), TextSelector("t", "x"), VectorSelector("vector", [1.0], 1.0)


@pytest.mark.parametrize(
    ("source", "selector", "through", "unsupported", "expected"),
    [
        (Source.ORIGIN, FILTER, 7, None, FromOrigin()),
        (Source.AUTO, FILTER, 7, None, FromCache(7)),
        (Source.AUTO, FILTER, None, None, FromOrigin(warm=True)),
        (Source.AUTO, FILTER, 7, "needs a text index", FromOrigin()),
        (Source.AUTO, FILTER, None, "needs a text index", FromOrigin()),
        (Source.AUTO, TEXT, 7, None, FromOrigin()),
        (Source.AUTO, NEAR, None, None, FromOrigin()),
        (Source.CACHE, FILTER, 7, None, FromCache(7)),
        (Source.CACHE, FILTER, None, None, CacheColdError),
        (Source.CACHE, FILTER, 7, "needs a text index", ValidationError),
        (Source.CACHE, TEXT, 7, None, ValidationError),
        (Source.CACHE, NEAR, None, None, ValidationError),
        (Source.SNAPSHOT, FILTER, 7, None, PreconditionFailedError),
        (Source.SNAPSHOT, TEXT, 7, None, PreconditionFailedError),
    ],
)
def test_the_source(source, selector, through, unsupported, expected):
    if isinstance(expected, type):
        with pytest.raises(expected):
            plan_source(source, selector, through, unsupported)
    else:
        assert plan_source(source, selector, through, unsupported) == expected


def test_what_is_left_out_has_a_default():
    request = decode_scan(b"")
    assert (request.mode.value, request.source.value, request.filters, request.timeout_seconds) == (
        "ids",
        "auto",
        None,
        30.0,
    )
    assert decode_scan(b'{"mode":null,"filters":null,"page_size":null,"threads":null,"as_of":null}') == request


def test_depth_is_told_from_bad_json():
    for text in (
        b'{"filters":' + b"[" * 129 + b"]" * 129 + b"}",
        b'{"filters":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
    ):
        with pytest.raises(ValidationError, match="nested deeper than 128"):
            decode_scan(text)
    for text in (b'{"filters":' + b"[" * 500, b'{"mode":"ids","mode":"ids"}', b"nope"):
        with pytest.raises(MalformedJsonError):
            decode_scan(text)
    with pytest.raises(ValidationError, match=r"nested deeper than 48|must be"):
        decode_scan(b'{"filters":' + b"[" * 127 + b"]" * 127 + b"}")


class Rows:
    """Rows by distance, as legs of the upstream answer them."""

    def __init__(self, distances):
        self.rows = [{"id": each, "$dist": distance} for each, distance in distances.items()]
        self.legs = []

    async def read(self, span):
        self.legs.append(span)
        inside = [
            row
            for row in self.rows
            if (span.after is None or row["id"] > span.after) and (span.through is None or row["id"] <= span.through)
        ]
        return sorted(inside, key=lambda row: (row["$dist"], row["id"]))[:LEG_ROWS_MAX]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("near", [0, 9_999, 10_000, 10_001, 35_000])
async def test_an_exhaustive_search_finds_each_row_once(seed, near):
    dice = random.Random(seed)
    ids = dice.sample(range(10**9), near + 2_000)
    rows = Rows({each: 0.5 if number < near else 2.0 for number, each in enumerate(ids)})
    taken = []

    async def take(found):
        taken.extend(row["id"] for row in found)

    search = VectorSearch(rows.read, 1.0, exhaustive=True, take=take)
    await search.run()
    assert (search.tally.count, search.tally.bounded) == (near, False)
    assert sorted(taken) == sorted(ids[:near])


async def test_a_bounded_search_is_one_leg():
    rows = Rows({each: each / 20_000 for each in range(20_000)})
    for most, count, bounded in ((0.1, 2_001, False), (0.9, LEG_ROWS_MAX, True)):
        rows.legs.clear()
        search = VectorSearch(rows.read, most, exhaustive=False)
        await search.run()
        assert (search.tally.count, search.tally.bounded, rows.legs) == (count, bounded, [WHOLE])


async def test_a_search_that_is_stopped_is_a_lower_bound():
    rows = Rows(dict.fromkeys(range(40_000), 0.5))

    async def read(span):
        if len(rows.legs) == 3:
            raise TimeoutError
        return await rows.read(span)

    search = VectorSearch(read, 1.0, exhaustive=True)
    with pytest.raises(TimeoutError):
        await search.run()
    assert LEG_ROWS_MAX <= search.tally.count <= 40_000
    assert search.tally.bounded


async def test_rows_without_a_distance_are_no_answer():
    async def read(span):
        return [{"id": 1}]

    with pytest.raises(UpstreamError):
        await VectorSearch(read, 1.0, exhaustive=False).run()


@pytest.mark.parametrize("answer", [{}, {"aggregations": None}, {"aggregations": {"count": "7"}}, {"aggregations": {}}])
def test_what_is_no_count_is_an_error(answer):
    with pytest.raises(UpstreamError):
        bodies.read_count(answer)


@pytest.mark.parametrize("answer", [{}, {"aggregation_groups": [{"decade": "x"}]}, {"aggregation_groups": [7]}])
def test_what_is_no_group_is_an_error(answer):
    with pytest.raises(UpstreamError):
        bodies.read_values(answer, "decade", is_array=False)


def test_an_attribute_called_count_has_values_too():
    answer = {"aggregation_groups": [{"count": "a", "row_count": 2}, {"count": None, "row_count": 9}]}
    assert b'"row_count":["Count"]' in bodies.values_body("count", is_array=False, condition=None, cut=bodies.Cut(None))
    assert bodies.read_values(answer, "count", is_array=False) == ([ValueCount("a", 2)], False)


def job(number=1, created_at_ms=1_700_000_000_000):
    return JobRecord(f"job-{number}", JobKind.SCAN, "films", "", created_at_ms, 0, 0)


def kept(tmp_path, clock=None, **options):
    return Results(LocalObjects(tmp_path), clock or SystemClock(), life_seconds=100.0, **options)


def files(tmp_path):
    return [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_slices_of_parts(tmp_path):
    results = kept(tmp_path)
    writer = results.writer(job())
    parts = [list(range(start, start + rows)) for start, rows in ((40, 3), (0, 7), (7, 1), (43, 10))]
    for part in parts:
        await writer.add_ids(part)
    await writer.add_ids([])
    await writer.finish_ids("uint", truncated=False)
    whole = [str(each) for part in sorted(parts) for each in part]
    for offset in range(len(whole) + 2):
        for limit in (1, 3, 8, 100):
            found = await results.read(job(), offset, limit)
            assert found == {"ids": whole[offset : offset + limit], "total": len(whole), "id_type": "uint"}
    await results.remove(job())
    with pytest.raises(NotFoundError):
        await results.read(job(), 0, 1)
    assert not files(tmp_path)
    assert results.bytes_kept == 0


async def test_pages_stand_in_the_order_in_which_they_came(tmp_path):
    results = kept(tmp_path)
    writer = results.writer(job())
    for number in range(12):
        await writer.add_page(b'["%d"]' % (100 - number), 1)
    await writer.finish_ids("string", truncated=False)
    assert (await results.read(job(), 0, 100))["ids"] == [str(100 - number) for number in range(12)]


async def test_values_of_every_type_are_texts(tmp_path):
    results = kept(tmp_path)
    writer = results.writer(job())
    given = [ValueCount(True, 1), ValueCount(2.5, 3), ValueCount(7, 1), ValueCount("x", 9), ValueCount("é", 1)]
    await writer.finish_values(given, "mixed", truncated=True)
    found = await results.read(job(), 1, 3)
    assert found["values"] == [{"v": "2.5", "n": 3}, {"v": "7", "n": 1}, {"v": "true", "n": 1}]
    assert (found["total"], found["truncated"]) == (5, True)


async def test_the_oldest_results_make_room(tmp_path):
    results = kept(tmp_path, bytes_max=1_000)
    for number in range(1, 5):
        writer = results.writer(job(number))
        await writer.add_page(orjson.dumps(["x" * 300]), 1)
        await writer.finish_ids("string", truncated=False)
    assert results.bytes_kept <= 1_000
    for number, there in ((1, False), (2, False), (3, True), (4, True)):
        if there:
            assert (await results.read(job(number), 0, 1))["total"] == 1
        else:
            with pytest.raises(NotFoundError, match="are gone"):
                await results.read(job(number), 0, 1)
    writer = results.writer(job(5))
    for _ in range(3):
        await writer.add_page(orjson.dumps(["x" * 300]), 1)
    with pytest.raises(ResultsFullError):
        await writer.add_page(orjson.dumps(["x" * 300]), 1)


async def test_what_other_processes_left_is_swept_when_its_time_is_over(tmp_path):
    clock = SystemClock()
    now_ms = clock.now_ms()
    other = kept(tmp_path)
    for number, age_ms in ((1, 101_000), (2, 99_000), (3, 0), (4, 10_000_000)):
        writer = other.writer(job(number, now_ms - age_ms))
        for _ in range(3):
            await writer.add_ids([number])
        await writer.finish_ids("uint", truncated=False)
    results = kept(tmp_path, clock)
    await results.sweep()
    assert len(files(tmp_path)) == 8
    for number, age_ms in ((2, 99_000), (3, 0)):
        assert (await results.read(job(number, now_ms - age_ms), 0, 9))["total"] == 3
