"""Boards of debts: the one in PostgreSQL does what its twin in memory does."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from hevlayer.errors import LayerError
from hevlayer.stores.debts import DebtBoard, OwnersDebt
from hevlayer.stores.postgres.database import DatabaseError
from hevlayer.stores.postgres.debts import SILENT_SECONDS, PostgresDebtBoard
from hevlayer.testing.clock import FakeClock
from hevlayer.testing.debt_board import MemoryDebtBoard

# Guards against a test that hangs; nothing is asserted about it.
GUARD_SECONDS = 60
ONE, TWO = 7, 2**62 - 1


@dataclass
class Place:
    """Where debts are kept: the views of two gateways, and time."""

    boards: list[DebtBoard]
    pass_time: Callable[[float], Coroutine[Any, Any, None]]


@pytest.fixture(params=["memory", "postgres"])
async def place(request: pytest.FixtureRequest, open_database, url):
    if request.param == "memory":
        clock = FakeClock()
        board = MemoryDebtBoard(clock)
        yield Place([board, board], clock.advance)
        return
    boards = [PostgresDebtBoard(await open_database(), "cache") for _ in range(2)]
    administrator = await asyncpg.connect(url)

    async def pass_time(seconds: float) -> None:
        await administrator.execute(
            "UPDATE hevlayer.cache_debts SET seen_at = seen_at - make_interval(secs => $1)", seconds
        )

    yield Place(boards, pass_time)
    await administrator.close()


def by_owner(found: list[OwnersDebt]) -> dict[int, OwnersDebt]:
    return {each.owner: each for each in found}


async def test_everybody_sees_what_is_owed_until_it_is_withdrawn(place: Place) -> None:
    one, two = place.boards
    assert await one.look(ONE) == []
    await one.publish(ONE, 1, ["films", "\ud800\0 Ω"])
    await two.publish(TWO, 1, None)
    expected = {
        ONE: OwnersDebt(ONE, ("films", "\ud800\0 Ω"), 1, is_silent=False),
        TWO: OwnersDebt(TWO, None, 1, is_silent=False),
    }
    assert by_owner(await one.look(ONE)) == expected
    assert by_owner(await two.look(TWO)) == expected
    await one.publish(ONE, 2, ["films"])
    assert by_owner(await two.look(TWO))[ONE] == OwnersDebt(ONE, ("films",), 2, is_silent=False)
    await one.withdraw(ONE, 3)
    assert list(by_owner(await two.look(TWO))) == [TWO]
    await one.withdraw(ONE, 4)


async def test_what_comes_late_changes_nothing(place: Place) -> None:
    board, _ = place.boards
    await board.publish(ONE, 5, ["new"])
    await board.publish(ONE, 4, ["old"])
    await board.withdraw(ONE, 3)
    assert await board.look(ONE) == [OwnersDebt(ONE, ("new",), 5, is_silent=False)]


async def test_an_owner_that_does_not_look_is_silent_and_can_be_removed(place: Place) -> None:
    one, two = place.boards
    await one.publish(ONE, 1, ["films"])
    await two.publish(TWO, 1, ["films"])
    await place.pass_time(SILENT_SECONDS - 5)
    await two.look(TWO)
    await place.pass_time(10)
    silent = {owner: each.is_silent for owner, each in by_owner(await two.look(TWO)).items()}
    assert silent == {ONE: True, TWO: False}
    assert not await two.remove(TWO)
    assert await two.remove(ONE)
    assert not await two.remove(ONE)
    assert list(by_owner(await two.look(TWO))) == [TWO]


async def test_an_owner_that_is_heard_of_again_is_not_removed(place: Place) -> None:
    one, two = place.boards
    await one.publish(ONE, 1, None)
    await place.pass_time(SILENT_SECONDS + 5)
    await one.look(ONE)
    assert not await two.remove(ONE)


async def test_caches_are_apart(open_database) -> None:
    database = await open_database()
    one, two = PostgresDebtBoard(database, "one"), PostgresDebtBoard(database, "two")
    await one.publish(ONE, 1, None)
    assert await two.look(TWO) == []
    await two.withdraw(ONE, 9)
    assert len(await one.look(ONE)) == 1


async def test_a_debt_outlives_a_crash_of_the_server(server, open_database) -> None:
    board = PostgresDebtBoard(await open_database(), "cache")
    await board.publish(ONE, 1, ["films"])
    killed = server.kill()
    async with asyncio.timeout(GUARD_SECONDS):
        while True:
            with contextlib.suppress(DatabaseError):
                found = await board.look(TWO)
                # A child of the one that was killed may answer for a moment.
                if server.postgres.pid not in (None, killed):
                    assert found == [OwnersDebt(ONE, ("films",), 1, is_silent=False)]
                    return
            await asyncio.sleep(0.02)


async def test_a_frozen_server_is_an_error_within_the_deadline(server, open_database) -> None:
    board = PostgresDebtBoard(await open_database(), "cache")
    await board.look(ONE)
    frozen = server.freeze()
    try:
        with pytest.raises(LayerError, match="did not answer within"):
            await asyncio.wait_for(board.publish(ONE, 1, []), GUARD_SECONDS)
    finally:
        server.thaw(frozen)


async def test_a_statement_that_the_server_refuses_is_soft(open_database, url) -> None:
    board = PostgresDebtBoard(await open_database(), "cache")
    administrator = await asyncpg.connect(url)
    await administrator.execute("DROP TABLE hevlayer.cache_debts")
    await administrator.close()
    with pytest.raises(LayerError, match="refused"):
        await board.look(ONE)
