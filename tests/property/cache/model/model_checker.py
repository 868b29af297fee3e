"""An explicit-state model of the document cache's protocol, and the search through all its histories.

Gateways write, read, warm, fail and die around one upstream and one cache, for one id of one namespace. Every call is
one step; a call that fails may take its effect at any later time, or never. The upstream may delay, refuse, commit,
lose its answer and commit late. After every step the invariant is looked at:

    what any gateway would now serve from the cache, and what any read answers, is a whole row that the upstream held
    at or after the moment of the last write that was acknowledged when the read began

`docs/cache-protocol.md` tells the protocol; the steps here carry its names.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from model_engines import MISSING
from model_state import Phase, Reader, Scenario, State
from model_steps import bypasses, stamps_of, start_of, steps_of

STATES_MAX = 3_000_000
# Broken protocols in which a read whose ticket is void does something.
READS_MATTER = frozenset({"fills need no ticket", "reads join any other"})


@dataclass
class Found:
    """What a search saw; `trace` leads to the violation, if there is one."""

    states: int
    steps: int
    violation: str = ""
    trace: list[str] = field(default_factory=list)


def explore(scenario: Scenario, states_max: int = STATES_MAX) -> Found:
    """Every history of a scenario, breadth first; stops at the first violation, with the shortest way to it.

    Raises: AssertionError: there are more states than `states_max`.
    """
    start = start_of(scenario)
    shows_dead_reads = bool(scenario.mutations & READS_MATTER)
    seen = _Seen()
    seen.add(start, None, 0)
    queue = deque([start])
    steps = 0
    while queue:
        state = queue.popleft()
        here = seen.key(state)
        for number, (label, raw) in enumerate(steps_of(scenario, state)):
            steps += 1
            after = canonical(raw if shows_dead_reads else without_dead_reads(scenario, raw))
            if not seen.add(after, here, number):
                continue
            violation = _violation(scenario, after)
            if violation:
                return Found(len(seen.ways), steps, violation, [*seen.trace(scenario, here), label])
            queue.append(after)
        if len(seen.ways) > states_max:
            raise AssertionError(f"more than {states_max} states: {scenario}")
    return Found(len(seen.ways), steps)


_Key = tuple[int, ...]


class _Seen:
    """States that were reached, each by the numbers of its parts, and from where: states are large, parts are few."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}
        self.parts: list[Any] = []
        self.ways: dict[_Key, tuple[_Key | None, int]] = {}

    def key(self, state: State) -> _Key:
        numbers = self.numbers
        key = []
        for part in state:
            # The type tells apart what compares equal: tuples of different kinds.
            number = numbers.get((type(part), part))
            if number is None:
                number = numbers[(type(part), part)] = len(self.parts)
                self.parts.append(part)
            key.append(number)
        return tuple(key)

    def add(self, state: State, before: _Key | None, number: int) -> bool:
        key = self.key(state)
        if key in self.ways:
            return False
        self.ways[key] = (before, number)
        return True

    def trace(self, scenario: Scenario, key: _Key | None) -> list[str]:
        """The labels of the steps that lead to a state, found again by doing them."""
        labels = []
        while key is not None:
            before, number = self.ways[key]
            if before is not None:
                state = State(*(self.parts[part] for part in before))
                labels.append(list(steps_of(scenario, state))[number][0])
            key = before
        return labels[::-1]


def without_dead_reads(scenario: Scenario, state: State) -> State:
    """The state without reads and late fills whose tickets are void for ever.

    All that they may still do is to end: no fill of theirs takes effect, and what they hold back, the life of what a
    write left, may only end earlier without them. So whatever goes wrong in a history with them goes wrong in one
    without. Reads that another one of their gateway may join are kept.
    """
    is_dead = state.cache.is_dead
    dead = [
        number
        for number, (read, reader) in enumerate(zip(scenario.reads, state.readers, strict=False))
        if reader.ticket is not None
        and is_dead(reader.ticket, page=read[0] == "page")
        and (read[0] == "page" or scenario.reads.count(read) == 1)
    ]
    if dead:
        ended = Reader(Phase.DONE)
        state = state._replace(readers=tuple(ended if n in dead else each for n, each in enumerate(state.readers)))
    if any(call[0] == "fill" and is_dead(call[1], page=call[3]) for call in state.late):
        late = tuple(call for call in state.late if call[0] != "fill" or not is_dead(call[1], page=call[3]))
        state = state._replace(late=late)
    return state


def canonical(state: State) -> State:
    """The same state with its moments numbered from 1, in their order."""
    stamps = set(stamps_of(state))
    stamps.discard(0)
    if not stamps or max(stamps) == len(stamps):
        return state
    ranks = {stamp: rank for rank, stamp in enumerate(sorted(stamps), 1)}
    ranks[0] = 0
    cache = state.cache
    return state._replace(
        cache=cache.restamped(ranks),
        readers=tuple(
            reader if reader.ticket is None else reader._replace(ticket=cache.restamped_ticket(reader.ticket, ranks))
            for reader in state.readers
        ),
        late=tuple(
            (call[0], cache.restamped_ticket(call[1], ranks), *call[2:]) if call[0] == "fill" else call
            for call in state.late
        ),
    )


# --- the invariant ----------------------------------------------------------------------------------------------------


def _violation(scenario: Scenario, state: State) -> str:
    """What is wrong in a state: a row that some gateway would serve, or a read would answer, and must not."""
    row = state.cache.visible()
    if row != MISSING and row not in state.history and not state.owed_by:
        for number in range(len(state.gateways)):
            if not bypasses(scenario, state, number):
                return f"gateway {number} would serve {row}; the upstream held {state.history} since the last answer"
    return ""
