"""Histories of the model: walks through its steps, each step a sentence, with what the model allows after it.

They drive the real thing (`replay_player.py`). Time is the one step that is made anew: in the model each wait ends by
itself, but on the real thing one clock ends them all.
"""

from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from model_checker import canonical
from model_state import INITIAL, Phase, Scenario, State
from model_steps import start_of, steps_of

TIME_PASSES = "time passes"
_ENDS_OF_WAITS = ("the time of ", "the quiet time ends")
WALK_STEPS_MAX = 80
# Steps that end much of what there was to see; they come less often.
_ENDINGS = ("is refused", "is lost", " dies", "forgets everything", "a new epoch")
ENDING_WEIGHT = 0.2
# What the real thing may do at any time, and the model knows nothing of: how often it comes after a step.
KEEPS_UP, RESTARTS = "gateway {} keeps up", "the cache restarts"
KEEPS_UP_SHARE = 0.05
RESTARTS_SHARE = 0.01


class Moment(NamedTuple):
    """A step of a history and the model's state after it."""

    step: str
    state: State


def is_time(step: str) -> bool:
    return step.startswith(_ENDS_OF_WAITS)


def is_under_way(state: State) -> bool:
    return any(writer.phase not in (Phase.IDLE, Phase.DONE) for writer in state.writers)


def _after_time(scenario: Scenario, state: State) -> State | None:
    """The state when all waits are over; None when a write that they wait for may still do something."""
    if any(writer.may_commit for writer in state.writers) or (state.cache.quiet and is_under_way(state)):
        return None
    found = None
    while ended := [after for step, after in steps_of(scenario, state) if is_time(step)]:
        found = state = canonical(ended[0])
    return found


class History(NamedTuple):
    scenario: Scenario
    moments: list[Moment]
    warm: bool = False
    """The cache has the row when it begins."""


def walk(scenario: Scenario, random: Random, taken: Counter[str], *, warm: bool) -> History:
    """One history to its end. `taken` counts the sentences of all histories: rare ones are preferred."""
    state = start_of(scenario)
    if warm:
        state = state._replace(cache=state.cache._replace(row=INITIAL))
    moments: list[Moment] = []
    while len(moments) < WALK_STEPS_MAX:
        choices = [Moment(step, after) for step, after in steps_of(scenario, state) if not is_time(step)]
        later = _after_time(scenario, state)
        if later is not None:
            choices.append(Moment(TIME_PASSES, later))
        if not choices:
            break
        weights = [
            (1 + taken[step]) ** -0.5 * (ENDING_WEIGHT if any(each in step for each in _ENDINGS) else 1)
            for step, _ in choices
        ]
        step, after = random.choices(choices, weights)[0]
        taken[step] += 1
        state = canonical(after)
        moments.append(Moment(step, state))
        if random.random() < KEEPS_UP_SHARE:
            moments.append(Moment(KEEPS_UP.format(random.randrange(scenario.gateways)), state))
        if random.random() < RESTARTS_SHARE:
            moments.append(Moment(RESTARTS, state))
    return History(scenario, moments, warm)


def follow(scenario: Scenario, steps: Iterable[str]) -> History:
    """The history with these sentences, such as the trace of a search."""
    state = start_of(scenario)
    moments = []
    for step in steps:
        state = canonical(next(after for each, after in steps_of(scenario, state) if each == step))
        moments.append(Moment(step, state))
    return History(scenario, moments)
