"""A gateway's watermark stays below the writes of another that it only knows from the board, whatever their clocks say.

The margin is zero here, so that the floors alone must do it. Clocks differ once both are on the board; before that a
gateway that joins with a clock behind is what the margin is for.
"""

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from hevlayer.gateway.consistency import COLD, Outcome, PeerFloors, Stamper
from hevlayer.gateway.consistency.decide import Seen, judge_poll
from hevlayer.gateway.consistency.peers import TRUST_SECONDS
from hevlayer.gateway.consistency.stamps import lower
from hevlayer.stores.floors import Floors
from hevlayer.testing.clock import FakeClock

NAMESPACES = st.sampled_from(["one", "two"])


class Board:
    """One process's view of what all have published."""

    def __init__(self, table: dict[str, Floors], name: str) -> None:
        self.table = table
        self.name = name

    async def publish(self, floors: Floors) -> list[Floors]:
        self.table[self.name] = floors
        return [each for name, each in self.table.items() if name != self.name]

    async def retire(self) -> None:
        self.table.pop(self.name, None)

    async def sweep(self) -> None:
        pass


def now(work) -> None:
    """Runs what never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


class Process:
    def __init__(self, table: dict[str, Floors], name: str) -> None:
        self.clock = FakeClock(now_ms=1_000_000)
        self.stamper = Stamper(self.clock, unknown_write_seconds=10.0)
        self.peers = PeerFloors(Board(table, name), self.stamper, self.clock, namespaces_max=1)

    def publish(self) -> None:
        now(self.peers.publish_once())


class Write:
    def __init__(self, namespace: str, ticket) -> None:
        self.namespace = namespace
        self.ticket = ticket
        self.stamp_ms = ticket.stamp_ms
        self.may_apply_until: float | None = None


class PeerMachine(RuleBasedStateMachine):
    writes = Bundle("writes")
    lost = Bundle("lost")

    def __init__(self) -> None:
        super().__init__()
        table: dict[str, Floors] = {}
        self.here = Process(table, "here")
        self.there = Process(table, "there")
        self.joined = False
        self.views = {}
        self.applied: list[Write] = []
        self.covered: set[int] = set()

    @initialize(skew=st.sampled_from([None, None, -3_000, 0, 3_000]))
    def they_meet(self, skew):
        if skew is not None:
            self.there.clock.shift_wall(skew)
            self.it_joins()
            self.here.publish()

    @precondition(lambda self: not self.joined)
    @rule()
    def it_joins(self):
        self.there.publish()
        self.joined = True

    @rule(seconds=st.sampled_from([0.001, 0.2, 2.0, 2.0, 11.0]))
    def time_passes(self, seconds):
        self.here.clock.move(seconds)
        self.there.clock.move(seconds)

    @precondition(lambda self: self.joined)
    @rule(step=st.sampled_from([-5_000, -1, 3_000]))
    def its_clock_is_set(self, step):
        self.there.clock.shift_wall(step)

    @rule()
    def this_one_publishes(self):
        self.here.publish()

    @precondition(lambda self: self.joined)
    @rule()
    def the_other_publishes(self):
        self.there.publish()

    @precondition(lambda self: self.joined)
    @rule(target=writes, namespace=NAMESPACES)
    def the_other_writes(self, namespace):
        return Write(namespace, self.there.stamper.begin(namespace))

    @rule(write=consumes(writes))
    def it_is_acknowledged(self, write):
        self.applied.append(write)
        write.ticket.settle(Outcome.OK)

    @rule(target=lost, write=consumes(writes))
    def its_answer_is_lost(self, write):
        write.ticket.settle(Outcome.UNKNOWN)
        write.may_apply_until = self.there.clock.monotonic() + 10.0
        return write

    @rule(write=consumes(lost))
    def a_lost_write_takes_effect(self, write):
        if self.there.clock.monotonic() < write.may_apply_until:
            self.applied.append(write)

    @precondition(lambda self: self.joined)
    @rule(namespace=NAMESPACES)
    def both_publish_and_this_one_polls(self, namespace):
        self.there.publish()
        self.here.publish()
        self.this_one_polls(namespace)

    @rule(namespace=NAMESPACES)
    def this_one_polls(self, namespace):
        start_ms = self.here.stamper.now_ms()
        floor = self.here.peers.floor_ms(namespace)
        assert (floor is not None) == self.here.peers.is_trusted
        if floor is None:
            return
        window = self.here.stamper.open_window(namespace)
        self.covered |= {id(write) for write in self.applied if write.namespace == namespace}
        body = orjson.dumps({"created_at": "then", "schema": {}, "index": {"status": "up-to-date"}})
        result = judge_poll(
            self.views.get(namespace, COLD),
            200,
            body,
            poll_start_ms=start_ms,
            floor_ms=lower(window.close(), floor),
            margin_ms=0,
        )
        assert isinstance(result, Seen)
        self.views[namespace] = result.view

    @invariant()
    def nothing_of_the_other_below_the_watermark_is_missing_from_the_index(self):
        for write in self.applied:
            watermark = self.views[write.namespace].watermark_ms if write.namespace in self.views else None
            assert watermark is None or write.stamp_ms > watermark or id(write) in self.covered


TestPeerWatermark = PeerMachine.TestCase
TestPeerWatermark.settings = settings(max_examples=100, stateful_step_count=30, deadline=None, derandomize=True)


def test_a_board_that_went_away_is_trusted_no_longer():
    process = Process({}, "here")
    assert process.peers.floor_ms("one") is None
    process.publish()
    assert process.peers.floor_ms("one") == process.clock.now_ms()
    process.clock.move(TRUST_SECONDS + 0.1)
    assert process.peers.floor_ms("one") is None
