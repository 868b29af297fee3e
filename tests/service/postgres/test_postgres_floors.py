"""Floors between gateways in a real PostgreSQL."""

import asyncio
import contextlib

import asyncpg
import pytest

from hevlayer.stores.floors import Floors
from hevlayer.stores.postgres.database import DatabaseError
from hevlayer.stores.postgres.floors import PostgresFloors

# Guards against a test that hangs; nothing is asserted about it.
GUARD_SECONDS = 60


@pytest.fixture
async def boards(open_database):
    """Three gateways' views."""
    return [PostgresFloors(await open_database(), f"process-{number}", hold_seconds=60.0) for number in range(3)]


async def test_each_sees_the_others_last_word(boards):
    one, two, three = boards
    assert await one.publish(Floors(10)) == []
    assert await two.publish(Floors(20, {"a": 5, "\ud800\0": 6})) == [Floors(10)]
    await one.publish(Floors(30))
    seen = await three.publish(Floors(40))
    assert sorted(seen, key=lambda each: each.general_ms) == [Floors(20, {"a": 5, "\ud800\0": 6}), Floors(30)]
    await two.retire()
    assert await three.publish(Floors(50)) == [Floors(30)]


async def test_the_word_of_a_dead_process_counts_for_a_while_and_is_swept_later(boards, open_database, url):
    one, two, _ = boards
    dead = PostgresFloors(await open_database(), "dead", hold_seconds=30.0)
    await dead.publish(Floors(1))
    assert await one.publish(Floors(2)) == [Floors(1)]
    administrator = await asyncpg.connect(url)
    age = "UPDATE hevlayer.floors SET published_at = published_at - make_interval(secs => {}) WHERE process = 'dead'"
    await administrator.execute(age.format(31))
    assert await one.publish(Floors(3)) == []
    count = "SELECT count(*) FROM hevlayer.floors"
    await two.sweep()
    assert await administrator.fetchval(count) == 2
    await administrator.execute(age.format(100))
    await two.sweep()
    assert await administrator.fetchval(count) == 1
    await administrator.close()


async def test_a_process_is_not_forgotten_by_a_server_that_crashes(server, boards):
    one, two, _ = boards
    await one.publish(Floors(10))
    server.kill()
    async with asyncio.timeout(GUARD_SECONDS):
        while True:
            with contextlib.suppress(DatabaseError):
                assert await two.publish(Floors(20)) == [Floors(10)]
                return
            await asyncio.sleep(0.02)


async def test_a_frozen_server_is_an_error_within_the_deadline(server, boards):
    one, *_ = boards
    await one.publish(Floors(10))
    frozen = server.freeze()
    try:
        with pytest.raises(DatabaseError, match="did not answer within"):
            await asyncio.wait_for(one.publish(Floors(11)), GUARD_SECONDS)
    finally:
        server.thaw(frozen)


async def test_many_publish_at_once(boards):
    for number in range(20):
        await asyncio.gather(*(board.publish(Floors(number)) for board in boards))
    assert [each.general_ms for each in await boards[0].publish(Floors(99))] == [19, 19]
