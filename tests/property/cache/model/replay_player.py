"""Plays a history of the model on the real thing, sentence by sentence, and looks at every gateway after each.

The judge is a dictionary: what the upstream held of the document, and which of it was there when the last write was
acknowledged. What a gateway serves must be one of those from there on, and one that the model allows too.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from model_history import TIME_PASSES, History, Moment, is_time
from model_state import INITIAL, WHOLE, Phase
from model_steps import written
from replay_house import UNKNOWN_SECONDS, Actor, House

from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache import Miss, WriteOutcome, WriteToken

KEY = b"\x02a"
PLAIN = DocProjection()
# Longer than any wait of the protocol.
TIME_SECONDS = UNKNOWN_SECONDS + 1.0
WRITE_SECONDS = 3_600.0
EMPTY = DocRows(b'{"rows":[]}', [])
Row = tuple[int, int] | None


def rows_of(row: Row) -> DocRows:
    if row is None:
        return EMPTY
    return DocRows(orjson.dumps({"rows": [{"id": "a", "one": row[0], "two": row[1]}]}), [])


def _row(document: bytes) -> Row:
    attributes = orjson.loads(document)["attributes"]
    return attributes["one"], attributes["two"]


@dataclass
class _Write:
    kind: str
    gateway: int
    number: int
    actor: Actor | None = None
    token: WriteToken | None = None
    settles: bool = False
    outcome: WriteOutcome = WriteOutcome.UNKNOWN
    position: int = 0
    """Where its commit stands in the history; 0: not committed."""
    beneath: DocRows | None = None


@dataclass
class _Read:
    kind: str
    gateway: int
    oldest: int = 0
    ticket: int = 0
    is_over: bool = True
    fills: bool = False
    warming: Any = None
    value: Row = None


@dataclass
class Player:
    """One history on one namespace of a house."""

    house: House
    story: History
    namespace: str
    counts: Counter[str] = field(default_factory=Counter)
    played: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.history: list[Row] = [INITIAL]
        self.acknowledged = 0
        self.writes = [
            _Write(kind, gateway, index + 1) for index, (kind, gateway) in enumerate(self.story.scenario.writes)
        ]
        self.reads = [_Read(kind, gateway) for kind, gateway in self.story.scenario.reads]
        self.upkeep: dict[int, Actor] = {}

    async def play(self) -> None:
        """Raises: AssertionError: a gateway showed what it must not; the history is in the message."""
        if self.story.warm:
            self.played.append("the cache has the row")
            await self._fill()
        try:
            for moment in self.story.moments:
                self.played.append(moment.step)
                await self._step(moment)
                await self._end_writes(moment)
                await self._look_around(moment)
            await self._recover()
        except AssertionError as error:
            raise AssertionError("\n".join([*self.played, str(error)])) from error

    # --- the judge ---------------------------------------------------------------------------------------------------

    def _check(self, row: Row, oldest: int, who: str) -> None:
        allowed = self.history[oldest:]
        assert row in allowed, f"{who} got {row}; the upstream held {allowed} since the last answer"

    async def _look_around(self, moment: Moment) -> None:
        """What each gateway would serve now."""
        state = moment.state
        visible = state.cache.visible()
        # They may differ for a while: a failed step of the model may be none of the real thing, which then is earlier.
        in_step = len(self.history) - len(state.history) == self.acknowledged
        for number in range(len(self.house.caches)):
            row = await self._lookup(number)
            if row is None:
                self.counts["nothing served, the model has a row"] += visible != "missing"
                continue
            self._check(row, self.acknowledged, f"gateway {number}")
            assert not in_step or row in state.history, (
                f"gateway {number} serves {row}; the model allows {state.history}"
            )
            self.counts["served"] += 1
            self.counts["served as in the model"] += row == visible

    async def _lookup(self, number: int) -> Row:
        found = await self.house.caches[number].lookup(self.namespace, KEY, PLAIN, None)
        return _row(found) if isinstance(found, bytes) else None

    async def _recover(self) -> None:
        """Whatever happened, a while later a read fills the cache again."""
        await self.house.recover(WRITE_SECONDS + 2 * TIME_SECONDS)
        for write in self.writes:
            # Those that nobody answered have ended by now.
            self._acknowledge(write)
        if self.history[-1] is None:
            return
        await self._fill()
        row = await self._lookup(0)
        assert row is not None, "nothing can be cached any more"
        self._check(row, self.acknowledged, "the last read")

    async def _fill(self) -> None:
        """A read that nothing disturbs."""
        cache = self.house.caches[0]
        found = await cache.lookup(self.namespace, KEY, PLAIN, None)
        if isinstance(found, Miss):
            await cache.fill(self.namespace, [KEY], [found.ticket], rows_of(self.history[-1]))

    def _acknowledge(self, write: _Write) -> None:
        self.acknowledged = max(self.acknowledged, write.position)

    # --- steps -------------------------------------------------------------------------------------------------------

    async def _step(self, moment: Moment) -> None:
        step = moment.step
        if step == TIME_PASSES or is_time(step):
            await self._time_passes(moment)
            return
        for pattern, name in _SENTENCES:
            match = pattern.fullmatch(step)
            if match is not None:
                parts = match.groupdict()
                works = parts.pop("fails", None) is None
                method: Callable[..., Awaitable[None]] = getattr(self, f"_{name}")
                await method(
                    works=works, **{part: int(text) if text.isdigit() else text for part, text in parts.items() if text}
                )
                self.counts[name] += 1
                return
        raise AssertionError(f"a sentence that nobody understands: {step}")

    async def _time_passes(self, moment: Moment) -> None:
        if any(writer.may_commit for writer in moment.state.writers):
            return
        self.house.clock.move(TIME_SECONDS)
        # Writes without an answer have ended, and must show unless their marks were lost: the model knows.
        self.acknowledged = max(self.acknowledged, len(self.history) - len(moment.state.history))
        self.counts["time passes"] += 1

    # Writes.

    async def _end_writes(self, moment: Moment) -> None:
        """Writes whose caller has an answer now: where the model or the real thing says so."""
        for write, writer in zip(self.writes, moment.state.writers, strict=True):
            if write.actor is None or not write.settles:
                continue
            if writer.phase == Phase.DONE:
                await write.actor.finish()
            if write.actor.is_done and write.outcome is WriteOutcome.APPLIED:
                write.actor.task.result()
                self._acknowledge(write)

    def _write(self, number: int) -> _Write:
        return self.writes[number - 1]

    async def _begins(self, *, write: int, works: bool, **_: Any) -> None:
        one = self._write(write)
        keys = None if one.kind in WHOLE else [KEY]
        cache = self.house.caches[one.gateway]
        one.actor = self.house.start(one.gateway, cache.begin_write(self.namespace, keys, WRITE_SECONDS))
        await one.actor.advance(("mark",), works=works)
        if works:
            one.token = await one.actor.finish()

    async def _states(self, *, write: int, works: bool, **_: Any) -> None:
        """A debt is told to the engine, or to the other gateways, and the write goes on."""
        one = self._write(write)
        assert one.actor is not None
        await one.actor.advance(("owe",), works=works)
        if one.token is None:
            one.token = await one.actor.finish()

    async def _commits(self, *, write: int, **_: Any) -> None:
        one = self._write(write)
        self.history.append(written(one.kind, one.number, self.history[-1]))
        one.position = len(self.history) - 1

    async def _looks_beneath(self, *, write: int, **_: Any) -> None:
        one = self._write(write)
        if one.token is not None:
            one.beneath = await self.house.caches[one.gateway].beneath(one.token)

    async def _is_answered(self, *, write: int, works: bool, **_: Any) -> None:
        await self._settles(write, WriteOutcome.APPLIED, works)

    async def _is_refused(self, *, write: int, works: bool, **_: Any) -> None:
        await self._settles(write, WriteOutcome.REFUSED, works)

    async def _is_lost(self, *, write: int, works: bool, **_: Any) -> None:
        await self._settles(write, WriteOutcome.UNKNOWN, works)

    async def _settles(self, number: int, outcome: WriteOutcome, works: bool) -> None:
        one = self._write(number)
        assert one.actor is not None
        if one.token is None:
            one.token = await one.actor.finish()
        one.outcome = outcome
        one.settles = True
        options: dict[str, Any] = {}
        if one.outcome is WriteOutcome.APPLIED:
            if one.kind == "upsert":
                options["rows"] = rows_of((one.number, one.number))
            elif one.kind == "delete":
                options["deleted"] = [KEY]
            elif one.kind == "by_filter_ids":
                options["changed"] = [KEY] if self.history[one.position - 1] is not None else []
            elif one.kind == "patch" and one.beneath is not None and len(one.beneath):
                document = one.beneath.document(KEY, PLAIN)
                assert document is not None
                beneath = _row(document)
                assert beneath is not None
                options["rows"] = rows_of((one.number, beneath[1]))
        cache = self.house.caches[one.gateway]
        one.actor = self.house.start(one.gateway, cache.settle(one.token, one.outcome, **options))
        await one.actor.advance(("settle",), works=works)

    async def _voids(self, *, write: int, works: bool, **_: Any) -> None:
        await self._mends(write, "mark", works)

    async def _settles_void(self, *, write: int, works: bool, **_: Any) -> None:
        await self._mends(write, "settle", works)

    async def _mends(self, number: int, call: str, works: bool) -> None:
        """What the model does at a write's end, the policy may leave to its upkeep."""
        one = self._write(number)
        assert one.actor is not None
        if one.actor.is_done:
            await self._keeps_up(one.gateway, (call,), works=works)
        else:
            await one.actor.advance((call,), works=works)

    async def _never_commits(self, **_: Any) -> None:
        pass

    # Reads.

    async def _finds_nothing(self, *, read: int, **_: Any) -> None:
        one = self.reads[read - 1]
        cache = self.house.caches[one.gateway]
        one.is_over, one.oldest = False, self.acknowledged
        if one.kind == "page":
            one.warming = await cache.begin_warm(self.namespace)
            one.ticket = 0 if one.warming is None else await cache.page_ticket(one.warming)
            return
        found = await cache.lookup(self.namespace, KEY, PLAIN, None)
        if isinstance(found, bytes):
            # Here is a row that the model lost, or never had.
            self._check(_row(found), one.oldest, f"read {read}")
            one.is_over = True
        else:
            one.ticket = found.ticket

    async def _joins(self, *, read: int, other: int, **_: Any) -> None:
        await self._finds_nothing(read=read)
        one, first = self.reads[read - 1], self.reads[other - 1]
        if one.is_over or not one.ticket or one.ticket != first.ticket or first.is_over:
            return
        first.oldest = max(first.oldest, one.oldest)
        one.is_over = True
        if first.fills:
            self._check(first.value, first.oldest, f"read {read}, which joined read {other},")

    async def _asks(self, *, read: int, **_: Any) -> None:
        one = self.reads[read - 1]
        one.value, one.fills = self.history[-1], True

    async def _fills(self, *, read: int, works: bool, **_: Any) -> None:
        one = self.reads[read - 1]
        if one.is_over or not one.fills:
            return
        one.is_over = True
        self._check(one.value, one.oldest, f"read {read}")
        cache, rows = self.house.caches[one.gateway], rows_of(one.value)
        if one.kind == "page":
            if one.warming is None:
                return
            actor = self.house.start(one.gateway, cache.put_page(one.warming, one.ticket, rows))
        else:
            actor = self.house.start(one.gateway, cache.fill(self.namespace, [KEY], [one.ticket], rows))
        await actor.advance(("fill", "fill_page"), works=works)
        await actor.finish()

    async def _ends(self, *, read: int, **_: Any) -> None:
        one = self.reads[read - 1]
        if not one.is_over:
            self._check(one.value, one.oldest, f"read {read}")
        one.is_over = True

    # Gateways and the cache.

    async def _keeps_up(self, gateway: int, calls: tuple[str, ...], *, works: bool) -> None:
        actor = self.upkeep.get(gateway)
        if actor is None or actor.is_done:
            actor = self.upkeep[gateway] = self.house.start(gateway, self.house.caches[gateway].maintain())
        await actor.advance(calls, works=works)

    async def _marks_owed(self, *, gateway: int, works: bool, **_: Any) -> None:
        await self._keeps_up(gateway, ("mark",), works=works)

    async def _repays(self, *, gateway: int, works: bool, **_: Any) -> None:
        await self._keeps_up(gateway, ("settle",), works=works)

    async def _owes_nothing(self, *, gateway: int, **_: Any) -> None:
        await self._keeps_up(gateway, ("owe",), works=True)
        await self.upkeep[gateway].finish()

    async def _keeps_house(self, *, gateway: int, **_: Any) -> None:
        await self._keeps_up(gateway, (), works=True)
        await self.upkeep[gateway].finish()

    async def _restarts(self, **_: Any) -> None:
        await self.house.restart()

    async def _takes_over(self, *, gateway: int, works: bool, **_: Any) -> None:
        await self._keeps_up(gateway, ("take_over",), works=works)

    async def _looks(self, *, gateway: int, **_: Any) -> None:
        await self.house.look(gateway)

    async def _dies(self, *, gateway: int, **_: Any) -> None:
        self.upkeep.pop(gateway, None)
        for write in self.writes:
            if write.gateway == gateway and write.actor is not None:
                write.settles, write.actor = True, None
        for read in self.reads:
            if read.gateway == gateway:
                read.is_over = True
        await self.house.die(gateway)

    async def _takes_effect(self, *, what: str, **_: Any) -> None:
        names = {"fill": ("fill", "fill_page"), "take over": ("take_over",)}.get(what, (what,))
        await self.house.take_effect(names)

    async def _forgets(self, **_: Any) -> None:
        await self.house.forget()

    async def _evicts(self, **_: Any) -> None:
        await self.house.evict(self.namespace)

    async def _new_epoch(self, **_: Any) -> None:
        actor = self.house.start(0, self.house.caches[0].new_epoch(self.namespace))
        await actor.finish()


_WRITE = r"write (?P<write>\d) \((?P<kind>\w+), gateway \d\)"
_READ = r"(?:read|page) (?P<read>\d) \(gateway \d\)"
_GATEWAY = r"gateway (?P<gateway>\d)"
_FAILS = r"(?P<fails>: fails)?"
_SENTENCES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (rf"{_WRITE} marks and goes out{_FAILS}", "begins"),
        (rf"{_WRITE} goes out without a mark", "begins"),
        (rf"gateway \d states its debt{_FAILS}(?:, publishes it and waits)?; write (?P<write>\d) .*", "states"),
        (r"write (?P<write>\d) (?:goes out|owes and is answered)", "states"),
        (rf"{_WRITE} commits(?: late)?", "commits"),
        (rf"{_WRITE} is answered and asks for the row beneath", "looks_beneath"),
        (rf"{_WRITE} (?:is answered|has looked beneath); it settles as \w+{_FAILS}", "is_answered"),
        (rf"{_WRITE} is refused; it settles as \w+{_FAILS}", "is_refused"),
        (rf"the answer to {_WRITE} is lost; it settles as \w+{_FAILS}", "is_lost"),
        (rf"{_WRITE} is answered; (?:is acknowledged before it settles|has settled before)", "never_commits"),
        (rf"{_WRITE} settles before its answer", "never_commits"),
        (rf"{_WRITE} voids{_FAILS}", "voids"),
        (rf"{_WRITE} settles the void{_FAILS}", "settles_void"),
        (r"write \d never commits", "never_commits"),
        (rf"{_READ} (?:finds nothing|begins)", "finds_nothing"),
        (rf"{_READ} joins read (?P<other>\d)(?: and answers .*)?", "joins"),
        (rf"{_READ} asks upstream", "asks"),
        (rf"{_READ} fills{_FAILS}", "fills"),
        (rf"{_READ} ends", "ends"),
        (rf"{_GATEWAY} marks what it owes{_FAILS}", "marks_owed"),
        (rf"{_GATEWAY} repays{_FAILS}", "repays"),
        (rf"{_GATEWAY} owes nothing any more", "owes_nothing"),
        (rf"{_GATEWAY} withdraws its debt", "owes_nothing"),
        (rf"{_GATEWAY} takes over from \d{_FAILS}", "takes_over"),
        (rf"{_GATEWAY} looks at the debts", "looks"),
        (rf"{_GATEWAY} dies", "dies"),
        (rf"{_GATEWAY} keeps up", "keeps_house"),
        (r"the cache restarts", "restarts"),
        (r"a late (?P<what>[\w ]+) takes effect", "takes_effect"),
        (r"the cache forgets everything", "forgets"),
        (r"the cache evicts the row", "evicts"),
        (r"a new epoch", "new_epoch"),
    )
]
