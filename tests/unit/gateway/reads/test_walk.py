"""Every id is read exactly once, however the ranges are split."""

import asyncio
import random
import string
import uuid
from bisect import bisect_right

import pytest

from hevlayer.errors import UpstreamError
from hevlayer.gateway.reads import PageEnd, Scale, Span, Walk

RNG = random.Random(3)
IDS = {
    "dense numbers": ("uint", list(range(5_000))),
    "one number far away": ("uint", [*range(3_000), 2**64 - 1]),
    "random numbers": ("uint", sorted({RNG.getrandbits(64) for _ in range(5_000)})),
    "numbered texts": ("string", sorted(f"film-{number:08}" for number in range(5_000))),
    "texts of any letters": (
        "string",
        sorted({"".join(RNG.choices("aé日🙂\ud7ff\ue000~", k=RNG.randint(1, 9))) for _ in range(4_000)}),
    ),
    "texts that begin alike": ("string", sorted("x" * length for length in range(1, 60))),
    "long texts": ("string", sorted("a" * 60 + "".join(RNG.choices(string.ascii_letters, k=4)) for _ in range(2_000))),
    "uuids": ("uuid", sorted(str(uuid.UUID(int=RNG.getrandbits(128))) for _ in range(5_000))),
    "one": ("uint", [7]),
    "none": ("uint", []),
}


class Shelf:
    """Ids in order, read in pages, with delays in a random order."""

    def __init__(self, ids, page):
        self.ids = ids
        self.page = page
        self.seen = []
        self.pages = 0
        self.reading = 0
        self.reading_max = 0

    async def read_page(self, span):
        self.pages += 1
        self.reading += 1
        self.reading_max = max(self.reading, self.reading_max)
        for _ in range(RNG.randint(1, 4)):
            await asyncio.sleep(0)
        self.reading -= 1
        start = 0 if span.after is None else bisect_right(self.ids, span.after)
        end = len(self.ids) if span.through is None else bisect_right(self.ids, span.through)
        found = self.ids[start : min(end, start + self.page)]
        self.seen += found
        return PageEnd(len(found), found[0] if found else None, found[-1] if found else None, len(found) == self.page)

    async def read_highest(self):
        return self.ids[-1] if self.ids else None


@pytest.mark.parametrize("readers", [1, 4])
@pytest.mark.parametrize("name", IDS)
async def test_every_id_is_met_exactly_once(name, readers):
    id_type, ids = IDS[name]
    shelf = Shelf(ids, 100)
    reports = []
    walk = Walk(
        shelf.read_page, shelf.read_highest, lambda *told: reports.append(told), id_type=id_type, readers_max=readers
    )
    assert await walk.run() == len(ids)
    assert sorted(shelf.seen) == ids
    assert shelf.reading_max <= readers
    if len(ids) > 100:
        assert reports[-1][1] == len(ids)
        assert readers == 1 or reports[-1][0] == 1.0
    # A page that finds nothing is the price of an exact end or a bad guess.
    assert shelf.pages <= len(ids) / 100 + 80


@pytest.mark.parametrize("name", ["dense numbers", "random numbers", "numbered texts", "uuids"])
async def test_pages_are_read_side_by_side(name):
    id_type, ids = IDS[name]
    shelf = Shelf(ids, 100)
    await Walk(shelf.read_page, shelf.read_highest, lambda *_: None, id_type=id_type, readers_max=4).run()
    assert shelf.reading_max == 4


async def test_a_span_of_its_own_is_not_left():
    shelf = Shelf(list(range(1_000)), 10)
    walk = Walk(shelf.read_page, shelf.read_highest, lambda *_: None, id_type="uint", readers_max=3)
    assert await walk.run(Span(99, 499)) == 400
    assert sorted(shelf.seen) == list(range(100, 500))


async def test_ids_that_are_written_above_the_highest_are_met():
    shelf = Shelf(list(range(1_000)), 10)

    async def lower():
        return 500

    assert await Walk(shelf.read_page, lower, lambda *_: None, id_type="uint", readers_max=4).run() == 1_000


async def test_a_reader_that_fails_ends_the_walk():
    shelf = Shelf(list(range(1_000)), 10)
    running = 0

    async def read(span):
        nonlocal running
        if shelf.pages > 20:
            raise UpstreamError("gone")
        running += 1
        try:
            return await shelf.read_page(span)
        finally:
            running -= 1

    with pytest.raises(UpstreamError, match="gone"):
        await Walk(read, shelf.read_highest, lambda *_: None, id_type="uint", readers_max=4).run()
    assert running == 0


async def test_a_walk_that_is_cancelled_leaves_no_reader():
    shelf = Shelf(list(range(100_000)), 10)
    walk = Walk(shelf.read_page, shelf.read_highest, lambda *_: None, id_type="uint", readers_max=4)
    task = asyncio.ensure_future(walk.run())
    for _ in range(200):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert shelf.reading <= 4
    seen = shelf.pages
    for _ in range(50):
        await asyncio.sleep(0)
    assert shelf.pages == seen


def test_a_middle_lies_between():
    for id_type, ids in IDS.values():
        if len(ids) < 2:
            continue
        scale = Scale(ids[0], ids[-1], id_type)
        for _ in range(300):
            low, high = sorted(RNG.sample(ids, 2))
            middle = scale.middle(Span(low, high))
            assert middle is None or low < middle < high
            if isinstance(middle, str):
                assert len(middle.encode()) <= 64
            assert 0 <= scale.width(Span(low, high)) <= 1


def test_ids_of_two_types_have_no_scale():
    with pytest.raises(ValueError, match="uint"):
        Scale(1, "b", "uint")
