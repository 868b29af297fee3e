"""What every object store promises, on the local directory and over the S3 protocol."""

import asyncio
import random

import pytest

from hevlayer.stores.objects.s3_parts import PART_BYTES
from hevlayer.wire.names import object_key

ODD_NAMES = ["..", ".", "", "a b", "a/b", "ünïcode", "100%", "a+b", "a~b", "a=b&c", "\x00", "-", "a.b"]


async def test_put_get_delete(store):
    key = object_key("deletes", "..")
    assert await store.get(key) is None
    assert await store.put_if_absent(key, b"one")
    assert not await store.put_if_absent(key, b"two")
    assert await store.get(key) == b"one"
    await store.put(key, b"three")
    assert await store.get(key) == b"three"
    assert not await store.put_if_absent(key, b"four")
    assert await store.delete(key)
    assert not await store.delete(key)
    assert await store.get(key) is None
    assert await store.put_if_absent(key, b"five")


@pytest.mark.parametrize("key", ["", "..", "a/../b", "/etc/passwd", "a//b", "a/.b", "a\x00b"])
async def test_a_key_is_made_of_encoded_names(store, key):
    for act in (
        store.get,
        store.delete,
        lambda name: store.put(name, b""),
        lambda name: store.put_if_absent(name, b""),
    ):
        with pytest.raises(ValueError, match="not an encoded name"):
            await act(key)


async def test_any_name_can_be_a_key(store):
    keys = [object_key("names", name) for name in ODD_NAMES]
    for number, key in enumerate(keys):
        assert await store.put_if_absent(key, b"%d" % number)
    assert await store.list_keys("names/") == sorted(keys)
    for number, key in enumerate(keys):
        assert await store.get(key) == b"%d" % number


async def test_bodies_come_back_as_they_went(store):
    rng = random.Random(5)
    for size in (0, 1, 65_535, 1 << 20):
        body = rng.randbytes(size)
        await store.put("bodies/one", body)
        assert await store.get("bodies/one") == body


async def test_a_body_of_several_parts(store):
    body = random.Random(6).randbytes(2 * PART_BYTES + 12_345)
    assert await store.put_if_absent("large/one", body)
    assert await store.get("large/one") == body
    assert not await store.put_if_absent("large/one", body[:-1])
    assert await store.get("large/one") == body
    await store.put("large/one", body[1:])
    assert await store.get("large/one") == body[1:]


async def test_of_many_writers_one_wins(store):
    wins = await asyncio.gather(*(store.put_if_absent("a/b", b"%d" % number) for number in range(20)))
    assert sum(wins) == 1
    assert await store.get("a/b") == b"%d" % wins.index(True)


async def test_of_several_writers_of_large_bodies_one_wins(store):
    bodies = [bytes([number]) * (PART_BYTES + 1) for number in range(3)]
    wins = await asyncio.gather(*(store.put_if_absent("large/race", body) for body in bodies))
    assert sum(wins) == 1
    assert await store.get("large/race") == bodies[wins.index(True)]


async def test_a_reader_sees_one_whole_body_while_it_is_replaced(store):
    bodies = [bytes([number]) * 300_000 for number in range(4)]
    await store.put("a/b", bodies[0])

    async def write():
        for number in range(20):
            await store.put("a/b", bodies[number % len(bodies)])

    writing = asyncio.create_task(write())
    while not writing.done():
        assert await store.get("a/b") in bodies
    await writing


async def test_listing(store):
    rng = random.Random(7)
    names = ["a", "a-b", "a.b", "b", "aa", "~2e", "B", "0"]
    nested = sorted({f"{rng.choice(names)}/{rng.choice(names)}/{rng.choice(names)}" for _ in range(60)})
    await asyncio.gather(*(store.put(key, b"") for key in nested))

    def expected(prefix, after="", before=""):
        return [key for key in nested if key.startswith(prefix) and key > after and (not before or key < before)]

    for prefix in ("", "a", "a/", "a-", "a/b/", "b/~2e", "zz", "~"):
        for after in ("", "a", "a/a", "a/b/b", "a-b/b/b", "b", "zz"):
            assert await store.list_keys(prefix, after=after) == expected(prefix, after)
        assert await store.list_keys(prefix, before="a/b") == expected(prefix, before="a/b")
        assert await store.list_keys(prefix, limit=3) == expected(prefix)[:3]
    assert await store.list_keys("", after="a/", before="a0") == expected("", "a/", "a0")
    with pytest.raises(ValueError, match="limit is 0"):
        await store.list_keys("", limit=0)


async def test_listing_goes_over_pages(store, monkeypatch):
    monkeypatch.setattr("hevlayer.stores.objects.s3.PAGE_KEYS_MAX", 20)
    keys = [f"pages/{number:05d}" for number in range(83)]
    await asyncio.gather(*(store.put(key, b"") for key in keys))
    assert await store.list_keys("pages/", limit=5_000) == keys
    assert await store.list_keys("pages/", limit=41) == keys[:41]
    assert await store.list_keys("pages/", after=keys[10], before=keys[70], limit=500) == keys[11:70]
