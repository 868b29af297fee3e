"""The protocol's model: every history within the bounds keeps the promise, and every broken protocol is found out."""

import pytest
from model_checker import explore
from model_scenarios import HOLES, MUTATIONS, SCENARIOS, trap


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_history_shows_a_stale_row(name: str) -> None:
    found = explore(SCENARIOS[name])
    print(f"{name}: {found.states} states, {found.steps} steps")
    assert not found.violation, "\n".join([*found.trace, found.violation])
    # A search that stops short shows nothing.
    assert found.states > 100


@pytest.mark.parametrize("name", [*MUTATIONS, *HOLES])
def test_a_broken_protocol_is_found(name: str) -> None:
    found = trap(name)
    assert found.violation
    assert found.trace
