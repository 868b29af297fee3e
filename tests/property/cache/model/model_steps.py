"""The steps of the protocol's model: what may happen next in a state, each with a sentence that says what.

Every call is one step; a call that fails may take its effect at any later time, or never. The upstream may delay,
refuse, commit, lose its answer and commit late.
"""

from collections.abc import Callable, Iterator
from typing import Any

from model_engines import APPLIED, MISSING, REFUSED, UNKNOWN, Cas, Ideal
from model_state import INITIAL, WHOLE, Gateway, Phase, Reader, Scenario, State, Writer

HALF_ROW = -1


def start_of(scenario: Scenario) -> State:
    """Where every history of a scenario begins."""
    return State(
        history=(INITIAL,),
        writers=tuple(Writer() for _ in scenario.writes),
        readers=tuple(Reader() for _ in scenario.reads),
        gateways=tuple(Gateway() for _ in range(scenario.gateways)),
        cache=scenario.engine(),
        owed_by=frozenset(),
        late=(),
        faults=scenario.faults,
        losses=scenario.losses,
        deaths=scenario.deaths,
        clears=scenario.clears,
    )


def stamps_of(state: State) -> list[int]:
    cache = state.cache
    stamps = list(cache.stamps())
    for reader in state.readers:
        if reader.ticket is not None:
            stamps += cache.ticket_stamps(reader.ticket)
    for call in state.late:
        if call[0] == "fill":
            stamps += cache.ticket_stamps(call[1])
    return stamps


def bypasses(scenario: Scenario, state: State, number: int) -> bool:
    """Whether a gateway does not look into the cache: for its own debts, or another one's that it knows of."""
    gateway = state.gateways[number]
    if scenario.shared_debts and (gateway.knows or not gateway.trusts):
        return True
    return "debts are not honoured" not in scenario.mutations and (
        bool(gateway.owed) or _has_open_debt(scenario, state, number)
    )


def _has_open_debt(scenario: Scenario, state: State, number: int) -> bool:
    """A write of this gateway is under way that could not be marked."""
    for (_, owner), writer in zip(scenario.writes, state.writers, strict=True):
        if owner == number and not writer.is_marked and writer.phase not in (Phase.IDLE, Phase.DONE):
            return True
    return False


# --- calls ------------------------------------------------------------------------------------------------------------


def _carry_out(scenario: Scenario, state: State, call: tuple[Any, ...], now: int) -> tuple[Any, State]:
    """Carries out an engine call: (name, …)."""
    cache = state.cache
    result: Any = None
    match call:
        case ("mark", token, whole):
            cache = cache.mark(token, now, whole=whole)
        case ("settle", token, outcome, row, changed):
            quiet = "settles bring rows in the quiet time" not in scenario.mutations
            result, cache = cache.settle(token, outcome, now, row=row, changed=changed, keeps_quiet=quiet)
        case ("fill", ticket, row, page):
            cache = cache.fill(ticket, row, now, page=page, checked="fills need no ticket" not in scenario.mutations)
        case ("take over", number):
            cache = _bury(scenario, cache, number, now)
        case ("state", number):
            return None, state._replace(owed_by=state.owed_by | {number})
    return result, state._replace(cache=cache)


def _call(
    scenario: Scenario, state: State, label: str, call: tuple[Any, ...], now: int
) -> Iterator[tuple[str, Any, State]]:
    """A call that answers, or fails: then its effect may come at any later time."""
    result, after = _carry_out(scenario, state, call, now)
    yield label, result, after
    is_statement = call[0] == "state"
    if state.faults and (not is_statement or scenario.statements_fail):
        late = state.late if is_statement else tuple(sorted((*state.late, call), key=repr))
        yield f"{label}: fails", "failed", state._replace(faults=state.faults - 1, late=late)


def _set_writer(state: State, index: int, **changes: Any) -> State:
    writer = state.writers[index]._replace(**changes)
    return state._replace(writers=(*state.writers[:index], writer, *state.writers[index + 1 :]))


def _set_reader(state: State, index: int, reader: Reader) -> State:
    return state._replace(readers=(*state.readers[:index], reader, *state.readers[index + 1 :]))


def _set_gateway(state: State, number: int, **changes: Any) -> State:
    gateway = state.gateways[number]._replace(**changes)
    return state._replace(gateways=(*state.gateways[:number], gateway, *state.gateways[number + 1 :]))


# --- steps ------------------------------------------------------------------------------------------------------------


def steps_of(scenario: Scenario, state: State) -> Iterator[tuple[str, State]]:
    now = max(stamps_of(state)) + 1
    for index in range(len(state.writers)):
        yield from _write_steps(scenario, state, index, now)
    for index in range(len(state.readers)):
        yield from _read_steps(scenario, state, index, now)
    for number in range(len(state.gateways)):
        yield from _debt_steps(scenario, state, number, now)
    for index, call in enumerate(state.late):
        rest = state._replace(late=state.late[:index] + state.late[index + 1 :])
        yield f"a late {call[0]} takes effect", _carry_out(scenario, rest, call, now)[1]
    yield from _cache_steps(scenario, state, now)


def _cache_steps(scenario: Scenario, state: State, now: int) -> Iterator[tuple[str, State]]:
    cache = state.cache
    if state.losses:
        for label, after in cache.losses(now):
            yield f"the cache {label}", state._replace(cache=after, losses=state.losses - 1)
    if state.clears:
        yield "a new epoch", state._replace(cache=cache.clear(now), clears=state.clears - 1)
    if isinstance(cache, Cas):
        pages = [
            reader.ticket
            for (kind, _), reader in zip(scenario.reads, state.readers, strict=True)
            if kind == "page" and reader.ticket is not None
        ]
        pages += [call[1] for call in state.late if call[0] == "fill" and call[3]]
        oldest = min(pages, key=lambda ticket: ticket[1], default=(0, 0))
        passed = cache.passes(oldest, may_expire="tombstones are too short" in scenario.mutations)
        if passed is not cache:
            yield "the life of what a write left ends", state._replace(cache=passed)
    elif cache.quiet and not any(_is_under_way(writer) for writer in state.writers):
        yield "the quiet time ends", state._replace(cache=cache._replace(quiet=False))


def _is_under_way(writer: Writer) -> bool:
    return writer.may_commit or writer.phase not in (Phase.IDLE, Phase.DONE)


def written(kind: str, number: int, before: Any) -> Any:
    """What the upstream holds after write `number`; patches change the first half only."""
    if kind in ("delete", "drop"):
        return None
    if kind in ("upsert", "copy"):
        return (number, number)
    return None if before is None else (number, before[1])


def _write_steps(scenario: Scenario, state: State, index: int, now: int) -> Iterator[tuple[str, State]]:
    writer = state.writers[index]
    kind, owner = scenario.writes[index]
    who = f"write {index + 1} ({kind}, gateway {owner})"
    whole = kind in WHOLE
    token = f"w{index}"
    mutations = scenario.mutations
    phase = writer.phase
    if phase == Phase.IDLE:
        if "the mark is skipped" in mutations:
            # Nor does it look, at its end, whether the mark is there: that would repair it.
            yield f"{who} goes out without a mark", _set_writer(state, index, phase=Phase.SENT, is_marked=True)
            return
        for label, result, after in _call(scenario, state, f"{who} marks and goes out", ("mark", token, whole), now):
            if result == "failed":
                yield label, _set_writer(after, index, phase=Phase.UNMARKED)
            else:
                yield label, _set_writer(after, index, phase=Phase.SENT, is_marked=True)
    elif phase == Phase.UNMARKED:
        # What the engine cannot mark, it is asked not to serve; if it cannot be asked, the other gateways are.
        yield from _tell_of_debt(scenario, state, index, now, "goes out", lambda s: _sent(s, index))
    elif phase == Phase.SENT:
        yield f"{who} commits", _commit(scenario, state, index)
        for label, after in _settle(scenario, state, index, REFUSED, now):
            yield f"{who} is refused; {label}", after
        lost = _set_writer(state, index, may_commit=True)
        for label, after in _settle(scenario, lost, index, UNKNOWN, now):
            yield f"the answer to {who} is lost; {label}", after
        if "settle before the answer" in mutations:
            _, after = _carry_out(scenario, state, ("settle", token, APPLIED, MISSING, None), now)
            yield f"{who} settles before its answer", after
    elif phase == Phase.COMMITTED:
        if kind == "patch" and writer.is_marked and scenario.patches_kept:
            beneath = state.cache.beneath_of(token)
            patching = _set_writer(state, index, phase=Phase.PATCHING, beneath=beneath)
            yield f"{who} is answered and asks for the row beneath", patching
        else:
            for label, after in _settle(scenario, state, index, APPLIED, now):
                yield f"{who} is answered; {label}", after
        for label, after in _settle(scenario, state, index, UNKNOWN, now):
            yield f"the answer to {who} is lost; {label}", after
    elif phase == Phase.PATCHING:
        for label, after in _settle(scenario, state, index, APPLIED, now):
            yield f"{who} has looked beneath; {label}", after
    elif phase == Phase.VOIDING:
        # Unmarked, or its mark was lost: a mark that is settled at once.
        for label, result, after in _call(scenario, state, f"{who} voids", ("mark", f"v{index}", whole), now):
            yield label, _set_writer(after, index, phase=Phase.OWING if result == "failed" else Phase.VOIDED)
    elif phase == Phase.VOIDED:
        call = ("settle", f"v{index}", writer.outcome, MISSING, None)
        for label, result, after in _call(scenario, state, f"{who} settles the void", call, now):
            yield label, (_end(after, index) if result is True else _set_writer(after, index, phase=Phase.OWING))
    elif phase == Phase.OWING:
        gateway = state.gateways[owner]
        owing = _set_gateway(state, owner, owed=gateway.owed | {index})
        yield from _tell_of_debt(scenario, owing, index, now, "owes and is answered", lambda s: _end(s, index))
    elif writer.outcome == UNKNOWN:
        yield from _late_steps(scenario, state, index, now)
    if writer.may_commit:
        yield f"{who} commits late", _commit(scenario, state, index)


def _sent(state: State, index: int) -> State:
    return _set_writer(state, index, phase=Phase.SENT)


def _commit(scenario: Scenario, state: State, index: int) -> State:
    value = written(scenario.writes[index][0], index + 1, state.history[-1])
    state = state._replace(history=(*state.history, value))
    phase = Phase.COMMITTED if state.writers[index].phase == Phase.SENT else state.writers[index].phase
    return _set_writer(state, index, phase=phase, position=len(state.history) - 1, may_commit=False)


def _settle(scenario: Scenario, state: State, index: int, outcome: str, now: int) -> Iterator[tuple[str, State]]:
    """The end of a write, before its caller is told."""
    writer = state.writers[index]
    kind, _ = scenario.writes[index]
    mutations = scenario.mutations
    state = _set_writer(state, index, outcome=outcome, beneath=MISSING)
    if "the caller is told before the settle" in mutations and outcome == APPLIED:
        yield "is acknowledged before it settles", _end(state, index)
    if "settle before the answer" in mutations and outcome == APPLIED:
        yield "has settled before", _end(state, index)
    row, changed = MISSING, None
    if outcome == APPLIED and writer.is_marked:
        if kind in ("upsert", "delete"):
            row = written(kind, index + 1, None)
        elif kind == "patch" and writer.beneath != MISSING:
            row = written(kind, index + 1, writer.beneath)
        elif kind == "patch" and "a patch keeps its half" in mutations:
            row = (index + 1, HALF_ROW)
        elif kind == "by_filter_ids":
            # The upstream tells the ids that it changed.
            changed = writer.position == 0 or state.history[writer.position - 1] is not None
    ignores_lost = bool(mutations & {"a lost mark is ignored", "the mark is skipped"})
    told = REFUSED if outcome == UNKNOWN and "unknown counts as refused" in mutations else outcome
    call = ("settle", f"w{index}", told, row, changed)
    for label, result, after in _call(scenario, state, f"it settles as {told}", call, now):
        if outcome == REFUSED or (result is True and writer.is_marked) or ignores_lost:
            yield label, _end(after, index)
        elif result == "failed" and writer.is_marked:
            yield label, _set_writer(after, index, phase=Phase.OWING)
        else:
            yield label, _set_writer(after, index, phase=Phase.VOIDING)


def _end(state: State, index: int) -> State:
    """The caller has its answer: a write that was acknowledged must show from here on."""
    writer = state.writers[index]
    if writer.outcome == APPLIED:
        state = _forget_before(state, writer.position)
    if writer.outcome != UNKNOWN:
        return _set_writer(state, index, phase=Phase.DONE, is_marked=True, outcome="", position=0)
    return _set_writer(state, index, phase=Phase.DONE, is_marked=True)


def _forget_before(state: State, position: int) -> State:
    if not position:
        return state
    return state._replace(
        history=state.history[position:],
        writers=tuple(each._replace(position=max(0, each.position - position)) for each in state.writers),
    )


def _tell_of_debt(
    scenario: Scenario, state: State, index: int, now: int, then: str, go_on: Callable[[State], State]
) -> Iterator[tuple[str, State]]:
    """What this gateway owes must be known to the engine, else to the other gateways, before the write goes on."""
    owner = scenario.writes[index][1]
    who = f"write {index + 1}"
    if "debts are not stated" in scenario.mutations:
        yield f"{who} {then}", go_on(state)
        return
    label = f"gateway {owner} states its debt"
    for told, result, after in _call(scenario, state, label, ("state", owner), now):
        if result != "failed":
            yield f"{told}; {who} {then}", go_on(after)
        elif not scenario.shared_debts:
            yield f"{told}; {who} {then} all the same", go_on(after)
        else:
            # After a while every other gateway has seen it, or has not looked for so long that it trusts no more.
            waits = "nobody waits for the others" not in scenario.mutations
            gateways = [
                each if number == owner or not waits or each.knows else each._replace(trusts=False)
                for number, each in enumerate(after.gateways)
            ]
            after = _set_gateway(after._replace(gateways=tuple(gateways)), owner, published=True)
            yield f"{told}, publishes it and waits; {who} {then}", go_on(after)


def _late_steps(scenario: Scenario, state: State, index: int, now: int) -> Iterator[tuple[str, State]]:
    """After an unknown end: the end of the time in which it may still be committed."""
    writer = state.writers[index]
    owner = scenario.writes[index][1]
    if writer.may_commit:
        yield f"write {index + 1} never commits", _set_writer(state, index, may_commit=False)
        if "unknown marks end early" not in scenario.mutations:
            return
    after = state
    # Those that end a mark too early have had one.
    was_marked = bool(scenario.mutations & {"unknown counts as refused", "unknown marks end early"})
    for token in (f"w{index}", f"v{index}", f"d{owner}"):
        if token[0] != "d" or not _may_still_commit(scenario, state, owner, index):
            ended, after = _carry_out(scenario, after, ("settle", token, APPLIED, MISSING, None), now)
            was_marked = was_marked or ended
    if not writer.may_commit and was_marked:
        # From here on it must show, although nobody ever answered: unless its mark got lost, and nobody knew.
        after = _forget_before(_set_writer(after, index, outcome=""), writer.position)
        after = _set_writer(after, index, position=0)
    if after != state:
        yield f"the time of write {index + 1} is over", after


def _may_still_commit(scenario: Scenario, state: State, owner: int, besides: int) -> bool:
    """Whether another write of a gateway, one that died, may still take effect."""
    return any(
        number == owner and index != besides and _is_under_way(state.writers[index])
        for index, (_, number) in enumerate(scenario.writes)
    )


def _debt_steps(scenario: Scenario, state: State, number: int, now: int) -> Iterator[tuple[str, State]]:
    gateway = state.gateways[number]
    if state.deaths:
        yield f"gateway {number} dies", _die(scenario, state, number, now)
    due = frozenset(index for index in gateway.owed if not state.writers[index].may_commit)
    if due and not gateway.repaying:
        label = f"gateway {number} marks what it owes"
        for told, result, after in _call(scenario, state, label, ("mark", f"r{number}", False), now):
            if result != "failed":
                yield told, _set_gateway(after, number, repaying=due)
    if gateway.repaying:
        call = ("settle", f"r{number}", APPLIED, MISSING, None)
        for label, result, after in _call(scenario, state, f"gateway {number} repays", call, now):
            owed = gateway.owed - gateway.repaying if result is True else gateway.owed
            yield label, _set_gateway(after, number, owed=owed, repaying=frozenset())
    if number in state.owed_by and not gateway.owed and not _has_open_debt(scenario, state, number):
        yield f"gateway {number} owes nothing any more", state._replace(owed_by=state.owed_by - {number})
    if not _may_still_commit(scenario, state, number, -1):
        ended, after = _carry_out(scenario, state, ("settle", f"d{number}", APPLIED, MISSING, None), now)
        if ended:
            yield f"the time of the gateway before {number} is over", after
    if not scenario.shared_debts:
        return
    owes = bool(gateway.owed) or _has_open_debt(scenario, state, number)
    if gateway.published and (not owes or number in state.owed_by):
        yield f"gateway {number} withdraws its debt", _set_gateway(state, number, published=False)
    for other, each in enumerate(state.gateways):
        if each.left:
            call = ("take over", other)
            for label, result, after in _call(scenario, state, f"gateway {number} takes over from {other}", call, now):
                yield label, after if result == "failed" else _set_gateway(after, other, left=False)
    knows = any(each.left or (each.published and other != number) for other, each in enumerate(state.gateways))
    if (gateway.trusts, gateway.knows) != (True, knows):
        yield f"gateway {number} looks at the debts", _set_gateway(state, number, trusts=True, knows=knows)


def _bury(scenario: Scenario, cache: Any, number: int, now: int) -> Any:
    """What the cache does about a gateway that died in debt. A write that it could not mark may be under way, or may
    have been acknowledged while a marked one of another gateway is: that one must not bring its row."""
    cache = cache.clear(now)
    only_clears = "a death in debt only clears" in scenario.mutations
    return cache if only_clears else cache.mark(f"d{number}", now, whole=True)


def _die(scenario: Scenario, state: State, number: int, now: int) -> State:
    """A gateway ends without a word; another one takes its place with nothing in memory."""
    state = state._replace(deaths=state.deaths - 1)
    if number in state.owed_by and "a death pays no debt" not in scenario.mutations:
        cache = _bury(scenario, state.cache, number, now)
        state = state._replace(cache=cache, owed_by=state.owed_by - {number})
    for index, (_, owner) in enumerate(scenario.writes):
        writer = state.writers[index]
        if owner != number or writer.phase in (Phase.IDLE, Phase.DONE):
            continue
        may_commit = writer.may_commit or writer.phase == Phase.SENT
        # Nobody settles it; its mark, if there is one, ends with its time.
        state = _set_writer(
            state, index, phase=Phase.DONE, outcome=UNKNOWN, may_commit=may_commit, is_marked=True, beneath=MISSING
        )
    for index, (_, owner) in enumerate(scenario.reads):
        if owner == number and state.readers[index].phase != Phase.IDLE:
            state = _set_reader(state, index, Reader(Phase.DONE))
    gateway = state.gateways[number]
    return _set_gateway(
        state,
        number,
        owed=frozenset(),
        repaying=frozenset(),
        published=False,
        left=(gateway.published or gateway.left) and "nobody takes over" not in scenario.mutations,
        knows=False,
        # The one in its place has not looked yet.
        trusts=not scenario.shared_debts,
    )


def _read_steps(scenario: Scenario, state: State, index: int, now: int) -> Iterator[tuple[str, State]]:
    reader = state.readers[index]
    kind, number = scenario.reads[index]
    who = f"{kind} {index + 1} (gateway {number})"
    if reader.phase == Phase.IDLE:
        yield from _begin_read(scenario, state, index, now)
    elif reader.phase == Phase.LOOKED:
        asked = reader._replace(phase=Phase.ASKED, value=state.history[-1])
        yield f"{who} asks upstream", _set_reader(state, index, asked)
    elif reader.phase == Phase.ASKED:
        seen = reader.ticket[1] if isinstance(reader.ticket, tuple) else reader.ticket
        done = _set_reader(state, index, Reader(Phase.DONE))
        if seen <= 0 and "fills need no ticket" not in scenario.mutations:
            yield f"{who} ends", done
        elif not bypasses(scenario, state, number):
            call = ("fill", reader.ticket, reader.value, kind == "page")
            for label, _, after in _call(scenario, done, f"{who} fills", call, now):
                yield label, after


def _begin_read(scenario: Scenario, state: State, index: int, now: int) -> Iterator[tuple[str, State]]:
    kind, number = scenario.reads[index]
    who = f"{kind} {index + 1} (gateway {number})"
    if bypasses(scenario, state, number) or state.owed_by:
        return
    if kind == "page":
        ticket = state.cache.page(now)
        yield f"{who} begins", _set_reader(state, index, Reader(Phase.LOOKED, ticket))
        return
    if state.cache.visible() != MISSING:
        return
    ticket, cache = state.cache.lookup(now)
    after = state._replace(cache=cache)
    for other, reader in enumerate(state.readers):
        joins = reader.ticket == ticket or "reads join any other" in scenario.mutations
        if reader.phase in (Phase.LOOKED, Phase.ASKED) and scenario.reads[other] == ("read", number) and joins:
            # It gets the other's answer.
            if reader.phase == Phase.ASKED and reader.value not in state.history:
                after = after._replace(history=(), cache=cache)
                yield f"{who} joins read {other + 1} and answers {reader.value}", _stale(after, reader.value)
                return
            yield f"{who} joins read {other + 1}", _set_reader(after, index, Reader(Phase.DONE))
            return
    yield f"{who} finds nothing", _set_reader(after, index, Reader(Phase.LOOKED, ticket))


def _stale(state: State, value: Any) -> State:
    """A state that says of itself that a read answered what it must not."""
    return state._replace(cache=Ideal(row=("a read answered", value)), late=(), readers=(), owed_by=frozenset())
