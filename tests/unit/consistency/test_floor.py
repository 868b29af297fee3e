"""What a restart knows of the writes that the last process had in flight."""

import asyncio
import threading
from pathlib import Path

import pytest

from hevlayer.gateway.consistency import FloorKeeper, Outcome, Stamper
from hevlayer.gateway.consistency.floor import Recovery, plan_recovery
from hevlayer.testing.clock import FakeClock


@pytest.mark.parametrize(
    ("content", "floor"),
    [
        (None, None),
        (b'{"clean":true,"floor_ms":5}', None),
        (b'{"clean":false,"floor_ms":5}', 5),
        (b"", 0),
        (b'{"clean":false,"floor', 0),
        (b'{"clean":"no","floor_ms":5}', 0),
        (b"[]", 0),
        (b'{"clean":true,"floor_ms":5,"by":' + b"[" * 5_000 + b"]" * 5_000 + b"}", 0),
    ],
)
def test_what_the_file_of_an_earlier_process_means(content, floor):
    assert plan_recovery(content) == Recovery(floor)


class Process:
    """One life of a gateway on a state directory."""

    def __init__(self, clock, directory):
        self.stamper = Stamper(clock)
        self.keeper = FloorKeeper(clock, self.stamper, directory)


async def floor_becomes(clock, path, holds):
    """Moves time until the recorded floor is as wanted; a thread writes the file, so each step lets it run."""
    for _ in range(500):
        await clock.advance(0.2)
        await asyncio.sleep(0.001)
        floor = plan_recovery(path.read_bytes()).floor_ms
        if holds(floor):
            return
    raise AssertionError(f"the floor stayed at {floor}")


async def test_a_clean_stop_leaves_nothing(tmp_path):
    clock = FakeClock()
    first = Process(clock, tmp_path)
    assert (await first.keeper.start()).floor_ms is None
    first.stamper.begin("a").settle(Outcome.OK)
    await first.keeper.stop()
    second = Process(clock, tmp_path)
    assert (await second.keeper.start()).floor_ms is None
    assert second.stamper.floor_ms("a") is None


async def test_an_unclean_stop_bounds_every_write_of_the_last_life(tmp_path):
    clock = FakeClock()
    first = Process(clock, tmp_path)
    await first.keeper.start()
    clock.move(30)
    ticket = first.stamper.begin("a")
    second = Process(clock, tmp_path)
    recovery = await second.keeper.start()
    assert recovery.floor_ms is not None
    assert recovery.floor_ms <= ticket.stamp_ms
    assert second.stamper.floor_ms("a") == recovery.floor_ms
    third = Process(clock, tmp_path)
    assert (await third.keeper.start()).floor_ms == recovery.floor_ms
    clock.move(120)
    assert third.stamper.floor_ms("a") is None


async def test_an_unknown_outcome_makes_a_stop_unclean(tmp_path):
    clock = FakeClock()
    first = Process(clock, tmp_path)
    await first.keeper.start()
    stamp = first.stamper.begin("a").stamp_ms
    await first.keeper.stop()
    second = Process(clock, tmp_path)
    assert (await second.keeper.start()).floor_ms == stamp


async def test_the_recorded_floor_follows_the_writes_in_flight(tmp_path):
    clock = FakeClock()
    process = Process(clock, tmp_path)
    await process.keeper.start()
    path = tmp_path / "writes-in-flight-0.json"
    loop = asyncio.get_running_loop().create_task(process.keeper.run())
    idle = path.stat().st_mtime_ns
    await clock.advance(9)
    assert path.stat().st_mtime_ns == idle
    ticket = process.stamper.begin("a")
    await floor_becomes(clock, path, lambda floor: floor == ticket.stamp_ms)
    await clock.advance(5)
    assert plan_recovery(path.read_bytes()).floor_ms == ticket.stamp_ms
    ticket.settle(Outcome.OK)
    await floor_becomes(clock, path, lambda floor: floor > ticket.stamp_ms)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_a_clean_stop_wins_over_a_write_under_way(tmp_path, monkeypatch):
    clock = FakeClock()
    process = Process(clock, tmp_path)
    await process.keeper.start()
    replace, release, entered = Path.replace, threading.Event(), threading.Event()

    def slow(path, target):
        entered.set()
        release.wait(5)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", slow)
    loop = asyncio.get_running_loop().create_task(process.keeper.run())
    ticket = process.stamper.begin("a")
    await clock.advance(0.2)
    assert await asyncio.to_thread(entered.wait, 5)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    ticket.settle(Outcome.OK)
    stopping = asyncio.get_running_loop().create_task(process.keeper.stop())
    await clock.settle()
    release.set()
    await stopping
    assert (await Process(clock, tmp_path).keeper.start()).floor_ms is None


async def test_a_state_directory_that_cannot_be_written_stops_the_start(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError, match=r".*"):
        await Process(FakeClock(), blocked / "state").keeper.start()
