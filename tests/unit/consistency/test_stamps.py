"""Stamps never go back, and a write counts until its answer is definite."""

import gc

import pytest

from hevlayer.gateway.consistency.stamps import UNKNOWN_BUCKET_SECONDS, Outcome, Stamper, UnknownWrites
from hevlayer.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock(now_ms=100_000)


@pytest.fixture
def stamper(clock):
    return Stamper(clock, unknown_write_seconds=120)


def test_a_stamp_is_the_clock_and_never_goes_back(clock, stamper):
    stamps = []
    for step in (0, 5, -60_000, 10, 59_985, 20):
        clock.shift_wall(step)
        ticket = stamper.begin("a")
        stamps.append(ticket.stamp_ms)
        ticket.settle(Outcome.OK)
    assert stamps == [100_000, 100_005, 100_005, 100_005, 100_005, 100_020]


def test_the_floor_is_the_oldest_stamp_in_flight(clock, stamper):
    first = stamper.begin("a")
    clock.move(1)
    second = stamper.begin("a")
    other = stamper.begin("b")
    assert stamper.floor_ms("a") == 100_000
    first.settle(Outcome.REFUSED)
    assert stamper.floor_ms("a") == 101_000
    second.settle(Outcome.OK)
    assert stamper.floor_ms("a") is None
    assert stamper.floor_ms("b") == 101_000
    assert stamper.writing()
    other.settle(Outcome.OK)
    assert not stamper.writing()
    assert stamper.oldest_anywhere() is None


def test_an_unknown_outcome_counts_for_its_time(clock, stamper):
    stamper.begin("a").settle(Outcome.UNKNOWN)
    assert stamper.busy("a")
    clock.move(119.5)
    assert stamper.floor_ms("a") == 100_000
    assert stamper.oldest_anywhere() == 100_000
    clock.move(0.5)
    assert stamper.floor_ms("a") is None
    assert stamper.oldest_anywhere() is None
    assert not stamper.busy("a")
    assert stamper.unknown_total == 1


def test_a_second_settlement_changes_nothing(stamper):
    ticket = stamper.begin("a")
    ticket.settle(Outcome.OK)
    ticket.settle(Outcome.UNKNOWN)
    assert stamper.floor_ms("a") is None
    assert stamper.unknown_total == 0


def test_a_dropped_ticket_counts_as_unknown(stamper):
    ticket = stamper.begin("a")
    del ticket
    gc.collect()
    assert stamper.floor_ms("a") == 100_000
    assert stamper.unknown_total == 1


def test_a_window_sees_every_stamp_that_was_in_flight_while_it_was_open(clock, stamper):
    early = stamper.begin("a")
    clock.move(1)
    window = stamper.open_window("a")
    early.settle(Outcome.OK)
    stamper.begin("a").settle(Outcome.OK)
    assert window.close() == 100_000

    window = stamper.open_window("a")
    during = stamper.begin("a")
    during.settle(Outcome.OK)
    assert window.close() == during.stamp_ms
    assert stamper.open_window("a").close() is None


def test_an_unknown_write_that_expires_during_the_window_counts(clock, stamper):
    stamper.begin("a").settle(Outcome.UNKNOWN)
    clock.move(119)
    window = stamper.open_window("a")
    clock.move(2)
    assert window.close() == 100_000


def test_a_recovered_floor_holds_for_every_namespace(clock, stamper):
    stamper.recover(50_000)
    assert stamper.floor_ms("never seen") == 50_000
    ticket = stamper.begin("a")
    assert stamper.floor_ms("a") == 50_000
    ticket.settle(Outcome.OK)
    clock.move(120)
    assert stamper.floor_ms("never seen") is None


def test_an_outage_costs_a_bounded_ledger(clock):
    unknown = UnknownWrites()
    for number in range(20_000):
        clock.move(0.01)
        unknown.add(100_000 + number, clock.monotonic(), 120)
        unknown.oldest(clock.monotonic())
    assert len(unknown) <= 120 / UNKNOWN_BUCKET_SECONDS + 2
    # Merging may hold a stamp a little longer, never shorter.
    oldest = unknown.oldest(clock.monotonic())
    assert oldest is not None
    assert oldest <= 100_000 + 20_000 - 12_000


def test_the_ledger_forgets_settled_namespaces(stamper):
    for number in range(1_000):
        stamper.begin(f"ns-{number}").settle(Outcome.OK)
    stamper.open_window("polled").close()
    assert stamper._flights == {}
