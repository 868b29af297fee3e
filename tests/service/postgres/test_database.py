"""The pool under a server that is killed, frozen, busy or not there: an error within the deadline, and back again."""

import asyncio

import asyncpg
import pytest

from hevlayer.clock import SystemClock
from hevlayer.stores.postgres import database as database_module
from hevlayer.stores.postgres.database import Database, DatabaseError
from hevlayer.stores.postgres.queries import parse_queries

# Guards against a test that hangs; nothing is asserted about it.
GUARD_SECONDS = 60
SQL = parse_queries("""
-- add --
-- Two numbers' sum.
SELECT :one::integer + :other::integer AS sum

-- sleep --
-- Longer than any deadline here.
SELECT pg_sleep(:seconds::integer)

-- mine --
-- This connection's server process.
SELECT pg_backend_pid() AS pid
""")


async def add(database: Database) -> int:
    rows = await database.fetch(SQL["add"], one=40, other=2)
    return rows[0]["sum"]


async def add_for_ever(database: Database) -> None:
    while True:
        await add(database)


async def until_it_adds(database: Database) -> None:
    async with asyncio.timeout(GUARD_SECONDS):
        while True:
            try:
                assert await add(database) == 42
            except DatabaseError:
                await asyncio.sleep(0.02)
            else:
                return


async def test_a_query_answers(database):
    assert await add(database) == 42
    assert database.problem is None


async def test_before_it_is_migrated_a_query_says_so(open_database):
    database = await open_database(prepare=False)
    with pytest.raises(DatabaseError, match="not been reached yet"):
        await add(database)


async def test_a_killed_server_is_an_error_and_then_is_back(server, database):
    assert await add(database) == 42
    server.kill()
    with pytest.raises(DatabaseError, match="PostgreSQL"):
        await asyncio.wait_for(add_for_ever(database), GUARD_SECONDS)
    assert database.problem is not None
    await until_it_adds(database)
    assert database.problem is None


async def test_a_frozen_server_costs_the_deadline_only(server, open_database):
    database = await open_database(query_seconds=0.3, connect_seconds=0.3)
    assert await add(database) == 42
    frozen = server.freeze()
    try:
        async with asyncio.timeout(GUARD_SECONDS):
            # The first finds its connection silent, the later ones cannot make a new one.
            for _ in range(3):
                with pytest.raises(DatabaseError, match="did not answer within"):
                    await add(database)
            with pytest.raises(DatabaseError):
                await database.dedicated()
            await database.close()
    finally:
        server.thaw(frozen)


async def test_a_frozen_server_that_thaws_is_used_again(server, open_database):
    database = await open_database(query_seconds=0.3, connect_seconds=5)
    frozen = server.freeze()
    try:
        with pytest.raises(DatabaseError):
            await add(database)
    finally:
        server.thaw(frozen)
    await until_it_adds(database)


async def test_a_query_past_its_deadline_ends_over_there_too(open_database):
    database = await open_database(query_seconds=0.3)
    watcher = await open_database()
    with pytest.raises(DatabaseError, match=r"within 0\.3 s"):
        await database.fetch(SQL["sleep"], seconds=600)
    running = parse_queries("""
-- running --
-- Whether it still sleeps.
SELECT count(*) AS many FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'
    AND datname = current_database()
""")["running"]
    async with asyncio.timeout(GUARD_SECONDS):
        while (await watcher.fetch(running))[0]["many"]:
            await asyncio.sleep(0.02)


async def test_a_caller_that_leaves_gives_its_connection_back(open_database):
    database = await open_database(connections_max=1)
    task = asyncio.create_task(database.fetch(SQL["sleep"], seconds=600))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await add(database) == 42


async def test_a_refused_statement_keeps_the_connection(open_database):
    database = await open_database(connections_max=1)
    before = (await database.fetch(SQL["mine"]))[0]["pid"]
    with pytest.raises(asyncpg.PostgresError):
        await database.use(lambda connection: connection.execute("SELECT nonsense"))
    assert (await database.fetch(SQL["mine"]))[0]["pid"] == before


async def test_a_busy_pool_is_waited_for_within_the_deadline_and_bounded(open_database, monkeypatch):
    monkeypatch.setattr(database_module, "WAITERS_MAX", 2)
    database = await open_database(connections_max=1, query_seconds=1)
    tasks = [asyncio.create_task(database.fetch(SQL["sleep"], seconds=600)) for _ in range(3)]
    await asyncio.sleep(0.1)
    with pytest.raises(DatabaseError, match="2 queries are waiting"):
        await add(database)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, DatabaseError)
    assert await add(database) == 42


async def test_a_server_that_is_not_there_yet_is_found_later(url, tmp_path):
    nowhere = Database("postgres://hevlayer@/postgres?host=" + str(tmp_path), SystemClock())
    assert not await nowhere.prepare()
    assert nowhere.problem is not None
    with pytest.raises(DatabaseError, match="cannot be reached"):
        await add(nowhere)
    await nowhere.close()


async def test_it_connects_by_itself_when_the_server_comes(server, open_database):
    database = await open_database(prepare=False, connect_seconds=0.2, query_seconds=0.2)
    frozen = server.freeze()
    running = asyncio.create_task(database.run())
    try:
        async with asyncio.timeout(GUARD_SECONDS):
            await database.wait_until_tried()
        assert not database.is_ready
    finally:
        server.thaw(frozen)
    async with asyncio.timeout(GUARD_SECONDS):
        await database.wait_until_ready()
        await running
    await until_it_adds(database)


async def test_a_wrong_password_or_database_is_told_without_the_secret(server, url):
    wrong = Database(url.replace("/test_", "/absent_").replace("hevlayer@", "hevlayer:hushword@"), SystemClock())
    assert not await wrong.prepare()
    assert "absent_" in wrong.problem
    assert "hushword" not in wrong.problem
    await wrong.close()
