"""The model's histories, played on the real policies over the real engine: no gateway shows what the model forbids."""

import asyncio
from collections import Counter
from functools import lru_cache
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import pytest
from model_history import History, follow, walk
from model_scenarios import MUTATIONS, SCENARIOS, trap
from replay_house import GatedEngine, House
from replay_mutants import BROKEN_ENGINES, BROKEN_POLICIES
from replay_player import Player

from hevlayer.stores.doccache import DocumentCache

ROUNDS = 40
EMBEDDED_ROUNDS = 14
# A broken implementation is found within so many.
ROUNDS_MAX = 80
STEPS = ("dies", "forgets", "evicts", "takes_effect", "repays", "voids", "joins", "new_epoch", "keeps_house")
PLAYED = {name: scenario for name, scenario in SCENARIOS.items() if not name.startswith("records")}
# The shortest histories that show a broken model: the sound implementation must survive them too.
TRAPS = {name: scenario for name, scenario in MUTATIONS.items() if scenario.patches_kept}


@lru_cache
def traps() -> list[History]:
    return [follow(scenario, trap(name).trace) for name, scenario in TRAPS.items()]


@lru_cache
def histories(number: int) -> list[History]:
    """A round: each scenario with an empty cache, and with the row in it."""
    random, taken = Random(number), Counter[str]()
    return [walk(scenario, random, taken, warm=warm) for scenario in PLAYED.values() for warm in (False, True)]


async def play(rounds: int, directory: Path | None = None, **broken: Any) -> Counter[str]:
    """Raises: AssertionError: a history showed what it must not."""
    counts = Counter[str]()
    houses: dict[bool, House] = {}
    try:
        for history in chain(traps(), *(histories(number) for number in range(rounds))):
            has_board = history.scenario.shared_debts
            if has_board and directory is not None:
                # Processes on one machine need no board: they share memory.
                continue
            if has_board not in houses:
                folder = None if directory is None else directory / str(has_board)
                houses[has_board] = House(2, folder, has_board=has_board, **broken)
            await Player(houses[has_board], history, f"ns{counts['histories']}", counts).play()
            counts["histories"] += 1
            counts["steps"] += len(history.moments)
    finally:
        for house in houses.values():
            await house.close()
    return counts


def check(counts: Counter[str], *steps: str) -> None:
    print(dict(counts))
    # A replay in which nothing is served, or things never happen, shows nothing.
    assert counts["served as in the model"] > counts["histories"] / 2
    for step in (*STEPS, *steps):
        assert counts[step], f"no history has the step {step}"


def test_no_history_shows_what_the_model_forbids_on_the_twin() -> None:
    check(asyncio.run(play(ROUNDS)), "looks", "takes_over")


def test_no_history_shows_what_the_model_forbids_on_one_directory(tmp_path: Path) -> None:
    check(asyncio.run(play(EMBEDDED_ROUNDS, tmp_path)), "restarts")


@pytest.mark.parametrize("name", BROKEN_ENGINES)
def test_a_broken_engine_is_found(name: str) -> None:
    engine: type[GatedEngine] = BROKEN_ENGINES[name]
    with pytest.raises(AssertionError, match=r"the upstream held"):
        asyncio.run(play(ROUNDS_MAX, engine=engine))


@pytest.mark.parametrize("name", BROKEN_POLICIES)
def test_a_broken_policy_is_found(name: str) -> None:
    policy: type[DocumentCache] = BROKEN_POLICIES[name]
    with pytest.raises(AssertionError, match=r"the upstream held"):
        asyncio.run(play(ROUNDS_MAX, policy=policy))
