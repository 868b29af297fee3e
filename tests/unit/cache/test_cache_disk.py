"""The embedded engine on a disk that is full, and under writes that nobody reads."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from hevlayer.kernels.doccache import DocCacheEngine, DocCacheError, DocProjection, DocRows
from hevlayer.stores.doccache_embedded import EmbeddedEngine
from hevlayer.stores.doccache_engine import WriteOutcome
from hevlayer.testing.clock import FakeClock

KEY = b"\x02a"
LATER_MS = 10**12


@contextlib.contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Within, a write past `size` bytes of any file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def open_native(directory: Path) -> DocCacheEngine:
    return DocCacheEngine(
        str(directory), identity="u", capacity_bytes=1 << 30, ttl_ms=LATER_MS, unknown_write_ms=1000, now_ms=0
    )


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def fill(engine: DocCacheEngine, id_text: str, value: str) -> None:
    ticket = engine.lookup("ns", b"\x02" + id_text.encode(), DocProjection(), None, 0, wait=True)
    assert isinstance(ticket, int)
    assert ticket > 0
    rows = DocRows(b'{"rows":[{"id":"%b","t":"%b"}]}' % (id_text.encode(), value.encode()), [])
    engine.fill("ns", rows, ticket, 0, wait=True)


def test_writes_on_a_full_disk_open_no_files_and_nothing_stale_is_served_afterwards(tmp_path: Path) -> None:
    engine = open_native(tmp_path)
    fill(engine, "a", "old")
    [segment] = segments(tmp_path)
    with files_no_longer_than(segment.stat().st_size + 10):
        for token in range(50):
            assert engine.mark(token, "ns", [KEY], LATER_MS, wait=True)
            assert engine.settle(token, "applied", 0, wait=True)
        assert segments(tmp_path) == [segment]
        assert isinstance(engine.lookup("ns", KEY, DocProjection(), None, 0, wait=True), int)
    del engine  # without a close: the process was killed
    engine = open_native(tmp_path)
    assert not isinstance(engine.lookup("ns", KEY, DocProjection(), None, 0, wait=True), bytes)


def test_a_fill_that_did_not_fit_hides_no_later_mark_from_a_restart(tmp_path: Path) -> None:
    engine = open_native(tmp_path)
    fill(engine, "a", "old")
    [segment] = segments(tmp_path)
    with files_no_longer_than(segment.stat().st_size + 40), contextlib.suppress(DocCacheError):
        fill(engine, "b", "x" * 100)
    assert engine.mark(1, "ns", [KEY], LATER_MS, wait=True)
    assert engine.settle(1, "applied", 0, wait=True)
    del engine
    engine = open_native(tmp_path)
    assert isinstance(engine.lookup("ns", KEY, DocProjection(), None, 0, wait=True), int)


async def test_writes_that_nobody_reads_stay_within_the_capacity(tmp_path: Path) -> None:
    capacity = 1 << 20
    engine = EmbeddedEngine.open(tmp_path, FakeClock(), upstream="u", capacity_bytes=capacity, timeout_seconds=30.0)
    keys = [b"\x02row-%d" % number for number in range(10_000)]
    for token in range(20):
        await engine.mark(token, "ns", keys, 600.0)
        assert await engine.settle(token, "ns", keys, WriteOutcome.APPLIED)
        await engine.maintain()
    assert (await engine.stats()).bytes <= capacity
    await engine.close()
