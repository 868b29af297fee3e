"""Who is watched, and when each is due."""

import pytest

from hevlayer.gateway.consistency import COLD, Outcome, Registry, Stamper
from hevlayer.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def stamper(clock):
    return Stamper(clock)


@pytest.fixture
def registry(clock, stamper):
    return Registry(clock, stamper, interval_seconds=1.0, namespaces_max=3, idle_seconds=600)


def test_a_look_registers_nothing_and_a_use_does(registry, clock):
    assert registry.view("a") is COLD
    assert len(registry) == 0
    assert registry.touch("a") is COLD
    entry = registry.take_due(clock.monotonic())
    assert entry is not None
    assert entry.namespace == "a"
    assert registry.take_due(clock.monotonic()) is None


def test_a_use_of_a_quiet_namespace_makes_it_due_at_once(registry, clock):
    registry.touch("a")
    entry = registry.take_due(clock.monotonic())
    registry.plan(entry, clock.monotonic() + 60)
    assert registry.take_due(clock.monotonic()) is None
    registry.touch("a")
    assert registry.take_due(clock.monotonic()) is entry


def test_a_use_does_not_hurry_a_namespace_whose_polls_fail(registry, clock):
    registry.touch("a")
    entry = registry.take_due(clock.monotonic())
    entry.failures = 5
    registry.plan(entry, clock.monotonic() + 30)
    registry.touch("a")
    assert registry.take_due(clock.monotonic()) is None


def test_the_least_recently_used_makes_room(registry, clock):
    for name in ("a", "b", "c"):
        registry.touch(name)
    registry.touch("a")
    registry.touch("d")
    assert [name for name in "abcd" if name in registry] == ["a", "c", "d"]


def test_a_write_in_flight_and_configuration_keep_their_place(registry, stamper):
    registry.configure("a")
    registry.touch("b")
    ticket = stamper.begin("b")
    registry.touch("c")
    registry.touch("d")
    assert "a" in registry
    assert "b" in registry
    assert "c" not in registry
    stamper_only = stamper.begin("d")
    assert registry.touch("e") is COLD
    assert "e" not in registry
    assert registry.refused_total == 1
    ticket.settle(Outcome.OK)
    stamper_only.settle(Outcome.OK)


def test_an_idle_namespace_is_forgotten_unless_it_is_pinned_or_writes(registry, clock, stamper):
    for name in ("idle", "writing"):
        registry.touch(name)
    registry.configure("pinned")
    ticket = stamper.begin("writing")
    clock.move(600)
    due = set()
    while (entry := registry.take_due(clock.monotonic())) is not None:
        due.add(entry.namespace)
    assert due == {"writing", "pinned"}
    assert "idle" not in registry
    ticket.settle(Outcome.OK)


def test_a_denied_name_is_not_asked_for_at_each_read(registry, clock):
    heard = []
    registry.on_epoch(lambda namespace, reason: heard.append((namespace, reason)))
    registry.touch("a")
    registry.mark_gone(registry.take_due(clock.monotonic()))
    assert heard == [("a", "gone")]
    assert "a" not in registry
    registry.touch("a")
    assert registry.take_due(clock.monotonic()) is None
    clock.move(1.0)
    assert registry.take_due(clock.monotonic()) is not None


def test_a_forgotten_entry_is_never_due(registry, clock):
    registry.touch("a")
    registry.forget("a")
    assert registry.take_due(clock.monotonic()) is None
    registry.touch("a")
    first = registry.take_due(clock.monotonic())
    registry.forget("a")
    registry.touch("a")
    assert not registry.is_current(first)
