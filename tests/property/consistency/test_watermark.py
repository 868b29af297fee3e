"""No read at a watermark misses an acknowledged write stamped at or before it that the index had not covered.

The model is the upstream: it applies each write at some moment between its send and, when its answer was lost, the end
of its unknown time; its index covers what was applied up to the moment at which it says that it is up to date.
"""

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from hevlayer.gateway.consistency import COLD, Outcome, Stamper
from hevlayer.gateway.consistency.decide import Seen, judge_poll
from hevlayer.testing.clock import FakeClock

UNKNOWN_SECONDS = 10.0
NAMESPACE = "ns"
STATUSES = st.sampled_from(["up-to-date", "up-to-date", "updating"])
MARGINS = st.sampled_from([0, 1, 500])


class Write:
    def __init__(self, ticket):
        self.ticket = ticket
        self.stamp_ms = ticket.stamp_ms
        self.applied = False
        self.acknowledged = False
        # Monotonic time after which a lost write can no longer take effect.
        self.may_apply_until = None


class Poll:
    def __init__(self, start_ms, window):
        self.start_ms = start_ms
        self.window = window
        self.answer = None


class WatermarkMachine(RuleBasedStateMachine):
    writes = Bundle("writes")
    lost = Bundle("lost")
    polls = Bundle("polls")
    answered = Bundle("answered")

    def __init__(self):
        super().__init__()
        self.clock = FakeClock(now_ms=1_000_000)
        self.stamper = Stamper(self.clock, unknown_write_seconds=UNKNOWN_SECONDS)
        self.view = COLD
        self.applied: list[Write] = []
        self.covered: set[int] = set()

    @rule(seconds=st.sampled_from([0.0004, 0.001, 2.0, 2.0, 11.0]), step=st.sampled_from([0, 0, 0, -5_000, -1, 3_000]))
    def time_passes(self, seconds, step):
        self.clock.move(seconds)
        self.clock.shift_wall(step)

    @rule(target=writes)
    def a_write_begins(self):
        return Write(self.stamper.begin(NAMESPACE))

    @rule(write=writes)
    def the_upstream_applies_it(self, write):
        self._apply(write)

    @rule(write=consumes(writes))
    def it_is_acknowledged(self, write):
        self._apply(write)
        write.acknowledged = True
        write.ticket.settle(Outcome.OK)

    @rule(write=consumes(writes))
    def it_is_refused(self, write):
        if not write.applied:
            write.ticket.settle(Outcome.REFUSED)
        else:
            write.acknowledged = True
            write.ticket.settle(Outcome.OK)

    @rule(target=lost, write=consumes(writes))
    def its_answer_is_lost(self, write):
        write.ticket.settle(Outcome.UNKNOWN)
        write.may_apply_until = self.clock.monotonic() + UNKNOWN_SECONDS
        return write

    @rule(write=lost)
    def a_lost_write_takes_effect(self, write):
        if self.clock.monotonic() < write.may_apply_until:
            self._apply(write)

    def _apply(self, write):
        if not write.applied:
            write.applied = True
            self.applied.append(write)

    def _start(self):
        start_ms = self.stamper.now_ms()
        return Poll(start_ms, self.stamper.open_window(NAMESPACE))

    def _answer(self, poll, status):
        if status == "up-to-date":
            self.covered |= {id(write) for write in self.applied}
        poll.answer = status

    def _arrive(self, poll, margin):
        floor = poll.window.close()
        body = orjson.dumps({"created_at": "then", "schema": {}, "index": {"status": poll.answer}})
        before = self.view.watermark_ms
        result = judge_poll(self.view, 200, body, poll_start_ms=poll.start_ms, floor_ms=floor, margin_ms=margin)
        assert isinstance(result, Seen)
        self.view = result.view
        if before is not None:
            assert self.view.watermark_ms >= before

    @rule(target=polls)
    def a_poll_starts(self):
        return self._start()

    @rule(target=answered, poll=consumes(polls), status=STATUSES)
    def the_upstream_answers(self, poll, status):
        self._answer(poll, status)
        return poll

    @rule(poll=consumes(answered), margin=MARGINS)
    def the_answer_arrives(self, poll, margin):
        self._arrive(poll, margin)

    @rule(margin=MARGINS)
    def a_quick_poll(self, margin):
        poll = self._start()
        self._answer(poll, "up-to-date")
        self._arrive(poll, margin)

    @rule(poll=consumes(polls))
    def a_poll_is_lost(self, poll):
        poll.window.close()

    @invariant()
    def nothing_below_the_watermark_is_missing_from_the_index(self):
        watermark = self.view.watermark_ms
        if watermark is None:
            return
        for write in self.applied:
            assert write.stamp_ms > watermark or id(write) in self.covered

    @invariant()
    def no_stamp_to_come_is_at_or_below_the_watermark(self):
        if self.view.watermark_ms is not None:
            assert self.stamper.now_ms() > self.view.watermark_ms

    @invariant()
    def the_ledger_is_no_larger_than_what_is_open(self):
        if not self.stamper.writing():
            assert self.stamper.floor_ms(NAMESPACE) is None or self.stamper.busy(NAMESPACE)


TestWatermark = WatermarkMachine.TestCase
TestWatermark.settings = settings(max_examples=120, stateful_step_count=40, deadline=None, derandomize=True)
