"""How changes of the embedded engine are waited for."""

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import DocCacheEngine, DocCacheError
from hevlayer.stores import doccache_embedded
from hevlayer.stores.doccache_changes import Changes
from hevlayer.stores.doccache_embedded import EmbeddedEngine
from hevlayer.testing.clock import FakeClock

SECONDS = 30.0


class Writer:
    """A native engine of which a test says when something was made."""

    def __init__(self) -> None:
        self.begun = 0
        self.bell = -1

    def set_bell(self, descriptor: int) -> None:
        self.bell = os.dup(descriptor)

    def begin(self) -> None:
        self.begun += 1

    def ring(self) -> None:
        os.eventfd_write(self.bell, 1)


class Pending:
    def __init__(self) -> None:
        self.outcome: Any = None

    def result(self) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def staged() -> tuple[Any, Changes]:
    writer: Any = Writer()
    return writer, Changes(writer)


async def test_changes_of_one_turn_are_one_transaction(tmp_path: Path) -> None:
    engine = EmbeddedEngine.open(tmp_path, FakeClock(), upstream="https://upstream", timeout_seconds=SECONDS)
    # As if others were under way, so that none of them is waited for in place.
    engine._changing += 1
    transactions = []
    for round_ in range(20):
        before = await engine.begin_fill("ns")
        tokens = range(58 * round_, 58 * round_ + 58)
        await asyncio.gather(*(engine.mark(token, "ns", [b"\x02%d" % token], SECONDS) for token in tokens))
        assert (await engine.facts("ns")).marked == len(tokens) * (round_ + 1)
        transactions.append(await engine.begin_fill("ns") - before)
        # A writer that has just made something, and did not sleep yet, may take the first of them by themselves.
        if transactions[-1] == 1:
            break
    assert min(transactions) == 1
    await engine.close()


async def test_each_gets_its_own_answer_in_the_order_of_the_writer() -> None:
    writer, changes = staged()
    pending: list[Any] = [Pending() for _ in range(3)]
    waits = [asyncio.ensure_future(changes.made(writer, each, SECONDS)) for each in pending]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert writer.begun == 1, "once for all that were asked for in one turn"
    pending[0].outcome, pending[1].outcome = False, DocCacheError("busy", "too much is waiting")
    writer.ring()
    assert await waits[0] is False
    with pytest.raises(DocCacheError):
        await waits[1]
    assert not waits[2].done()
    pending[2].outcome = 7
    writer.ring()
    assert await waits[2] == 7
    changes.close()


async def test_who_gave_up_keeps_nobody_else_waiting() -> None:
    writer, changes = staged()
    slow: Any = Pending()
    with pytest.raises(CacheUnavailableError, match="time budget"):
        await changes.made(writer, slow, 0.0)
    late: Any = Pending()
    wait = asyncio.ensure_future(changes.made(writer, late, SECONDS))
    await asyncio.sleep(0)
    slow.outcome = late.outcome = True
    writer.ring()
    assert await wait is True
    changes.close()


async def test_who_waits_at_the_end_gets_an_error() -> None:
    writer, changes = staged()
    wait = asyncio.ensure_future(changes.made(writer, Pending(), SECONDS))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    changes.close()
    changes.close()
    with pytest.raises(CacheUnavailableError, match="closed"):
        await wait


def test_another_event_loop_is_listened_to_as_well() -> None:
    writer, changes = staged()

    async def change() -> Any:
        pending: Any = Pending()
        wait = asyncio.ensure_future(changes.made(writer, pending, SECONDS))
        await asyncio.sleep(0)
        pending.outcome = True
        writer.ring()
        return await wait

    assert [asyncio.run(change()) for _ in range(2)] == [True, True]
    changes.close()


async def test_who_waited_in_a_loop_that_was_closed_keeps_nobody_else_waiting() -> None:
    writer, changes = staged()
    left: list[Any] = [Pending() for _ in range(2)]
    other = asyncio.new_event_loop()

    def leave() -> None:
        """In a thread, since this one's loop runs."""
        waits = [other.create_task(changes.made(writer, each, SECONDS)) for each in left]
        other.run_until_complete(asyncio.sleep(0))
        other.close()
        for wait in waits:
            # Not a task that was lost: it was left on purpose.
            wait._log_destroy_pending = False  # type: ignore[attr-defined]

    await asyncio.to_thread(leave)
    late: Any = Pending()
    wait = asyncio.ensure_future(changes.made(writer, late, SECONDS))
    await asyncio.sleep(0)
    left[0].outcome, left[1].outcome, late.outcome = True, DocCacheError("busy", "too much is waiting"), True
    writer.ring()
    async with asyncio.timeout(SECONDS):
        assert await wait is True
    changes.close()


async def test_without_a_descriptor_for_the_bell_the_directory_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()

    def none_left(_initial: int, _flags: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "eventfd", none_left)
        engine = EmbeddedEngine.open(tmp_path, clock, upstream="https://upstream", timeout_seconds=SECONDS)
    with pytest.raises(CacheUnavailableError, match="Too many open files"):
        await engine.clear("ns")
    clock.move(10.0)
    await engine.maintain()
    await engine.clear("ns")
    await engine.close()


async def test_a_directory_that_is_opened_while_the_engine_is_closed_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").touch()
    clock = FakeClock()
    engine = EmbeddedEngine.open(tmp_path / "cache", clock, upstream="https://one", timeout_seconds=SECONDS)
    (tmp_path / "cache").unlink()
    opening, closed = threading.Event(), threading.Event()

    def slow(*args: Any, **options: Any) -> DocCacheEngine:
        opening.set()
        assert closed.wait(SECONDS)
        return DocCacheEngine(*args, **options)

    monkeypatch.setattr(doccache_embedded, "DocCacheEngine", slow)
    clock.move(10.0)
    upkeep = asyncio.ensure_future(engine.maintain())
    assert await asyncio.to_thread(opening.wait, SECONDS)
    await engine.close()
    closed.set()
    with pytest.raises(CacheUnavailableError, match="closed"):
        await upkeep
    monkeypatch.undo()
    other = EmbeddedEngine.open(tmp_path / "cache", clock, upstream="https://two", timeout_seconds=SECONDS)
    await other.clear("ns")
    await other.close()
