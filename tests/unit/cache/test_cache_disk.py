"""The embedded engine on a full disk, on directories that cannot be used, and under writes that nobody reads."""

import contextlib
import logging
import resource
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import orjson
import pytest

from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache_embedded import REOPEN_SECONDS, EmbeddedEngine
from hevlayer.stores.doccache_engine import WriteOutcome
from hevlayer.testing.clock import FakeClock

PLAIN = DocProjection()
KEY = b"\x02a"
UNKNOWN_SECONDS = 120.0


@contextlib.contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Within, a write past `size` bytes of any file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def opened(directory: Path, clock: FakeClock, capacity_bytes: int = 1 << 30) -> EmbeddedEngine:
    return EmbeddedEngine.open(
        directory,
        clock,
        upstream="u",
        capacity_bytes=capacity_bytes,
        timeout_seconds=30.0,
        unknown_write_seconds=UNKNOWN_SECONDS,
    )


def rows(name: str, value: str) -> DocRows:
    return DocRows(orjson.dumps({"rows": [{"id": name, "t": value}]}), [])


async def look(engine: EmbeddedEngine, key: bytes = KEY) -> object:
    found = await engine.lookup("ns", key, PLAIN, None)
    return orjson.loads(found)["attributes"]["t"] if isinstance(found, bytes) else None


async def put(engine: EmbeddedEngine, name: str, value: str) -> int:
    key = b"\x02" + name.encode()
    ticket = await engine.lookup("ns", key, PLAIN, None)
    assert isinstance(ticket, int)
    return await engine.fill("ns", rows(name, value), [key], [ticket])


async def fails_softly(call: Awaitable[object]) -> bool:
    try:
        await call
    except CacheUnavailableError:
        return True
    return False


def longest_file(directory: Path) -> int:
    """Of those that grow while the engine is used."""
    return max(path.stat().st_size for path in [*directory.glob("*.seg"), directory / "data.mdb"])


async def write(engine: EmbeddedEngine, token: int, name: str, value: str) -> bool:
    """A write as the policy makes one; False when it could not be marked or settled, and is owed now."""
    key = b"\x02" + name.encode()
    if await fails_softly(engine.mark(token, "ns", [key], 600.0)):
        await engine.owe(1, ["ns"])
        return False
    settled = engine.settle(token, "ns", [key], WriteOutcome.APPLIED, rows=rows(name, value))
    if await fails_softly(settled):
        await engine.owe(1, ["ns"])
        return False
    return True


async def test_a_full_disk_is_soft_and_never_shows_an_old_row(tmp_path: Path) -> None:
    """Whatever is the first file that cannot grow, a row that is served is that of the last acknowledged write."""
    clock = FakeClock()
    engine = opened(tmp_path, clock)
    names = [f"row{number}" for number in range(40)]
    for name in names:
        await put(engine, name, "old")
    failures, token = 0, 0
    for eighths in range(10):
        with files_no_longer_than(longest_file(tmp_path) * eighths // 8):
            for name in names:
                token += 1
                value = str(token) + "x" * 500
                failures += not await write(engine, token, name, value)
                assert await look(engine, b"\x02" + name.encode()) in (None, value)
        await engine.owe(1, [])
        if not await fails_softly(engine.clear("ns")):
            assert await look(engine, b"\x02row0") is None
    assert 0 < failures < token, "the disk was full now and then"
    await engine.close()


async def test_what_a_full_disk_made_owed_is_not_served_after_a_crash(tmp_path: Path) -> None:
    clock = FakeClock()
    engine = opened(tmp_path, clock)
    assert await put(engine, "a", "old")
    with files_no_longer_than(0):
        assert not await write(engine, 1, "a", "new")
        assert await look(engine) is None
    engine._native = None  # as a process that dies: without a close
    engine = opened(tmp_path, clock)
    assert await look(engine) is None
    assert await put(engine, "a", "maybe old") == 0, "the write may still be on its way"
    clock.move(UNKNOWN_SECONDS)
    assert await put(engine, "a", "new") == 1
    await engine.close()


async def test_a_row_that_did_not_fit_leaves_its_neighbours_whole(tmp_path: Path) -> None:
    clock = FakeClock()
    engine = opened(tmp_path, clock)
    await put(engine, "a", "old")
    size = longest_file(tmp_path)
    with files_no_longer_than(size + 100):
        assert await fails_softly(put(engine, "b", "x" * 2 * size))
    assert await look(engine) == "old"
    assert await put(engine, "c", "later") == 1
    assert await write(engine, 1, "a", "new")
    engine._native = None
    engine = opened(tmp_path, clock)
    assert (await look(engine), await look(engine, b"\x02c")) == ("new", "later")
    assert await look(engine, b"\x02b") is None
    await engine.close()


async def test_writes_that_nobody_reads_stay_within_the_capacity(tmp_path: Path) -> None:
    capacity = 8 << 20
    engine = opened(tmp_path, FakeClock(), capacity)
    keys = [b"\x02row-%d" % number for number in range(10_000)]
    for token in range(20):
        await engine.mark(token, "ns", keys, 600.0)
        assert await engine.settle(token, "ns", keys, WriteOutcome.APPLIED)
        await engine.maintain()
    assert (await engine.stats()).bytes <= capacity
    await engine.close()


def a_file(directory: Path) -> None:
    directory.write_text("this is no directory")


def a_foreign_lock(directory: Path) -> None:
    (directory / "lock").mkdir(parents=True)


def a_foreign_index(directory: Path) -> None:
    directory.mkdir()
    (directory / "data.mdb").mkdir()


@pytest.mark.parametrize("occupy", [a_file, a_foreign_lock, a_foreign_index])
async def test_a_directory_that_cannot_be_used_is_soft_and_tried_again(
    tmp_path: Path, occupy: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    directory, clock = tmp_path / "cache", FakeClock()
    occupy(directory)
    with caplog.at_level(logging.WARNING):
        engine = opened(directory, clock)
        for _ in range(3):
            clock.move(REOPEN_SECONDS)
            with pytest.raises(CacheUnavailableError, match="the cache directory cannot be used") as raised:
                await engine.maintain()
            assert raised.value.fields["cause"] == "unopened"
        assert await fails_softly(look(engine))
        assert await fails_softly(engine.mark(1, "ns", [KEY], 60.0))
    assert len(caplog.records) == 1, "the reason is logged once"
    directory.rename(tmp_path / "aside")
    clock.move(REOPEN_SECONDS)
    await engine.maintain()
    assert await put(engine, "a", "new") == 1
    assert await look(engine) == "new"
    await engine.close()


@pytest.mark.parametrize("keep_bytes", [0, 3_000, 9_000])
async def test_an_index_that_is_damaged_is_thrown_away_with_its_rows(tmp_path: Path, keep_bytes: int) -> None:
    clock = FakeClock()
    engine = opened(tmp_path, clock)
    for number in range(200):
        await put(engine, f"row{number}", "old")
    await engine.close()
    index = tmp_path / "data.mdb"
    index.write_bytes(index.read_bytes()[:keep_bytes])
    engine = opened(tmp_path, clock)
    assert await look(engine, b"\x02row0") is None
    clock.move(UNKNOWN_SECONDS)
    assert await put(engine, "row0", "new") == 1
    await engine.close()


async def test_an_index_of_other_bytes_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no index " * 4_000)
    clock = FakeClock()
    engine = opened(tmp_path, clock)
    clock.move(UNKNOWN_SECONDS)
    assert await put(engine, "a", "new") == 1
    await engine.close()
