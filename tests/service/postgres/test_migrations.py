"""Migrations on a real server: from each version, at once, and on a database of another build."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from hevlayer.stores.postgres.migrations import Migration, MigrationError, load_migrations, migrate

KNOWN = load_migrations()
SHAPE = """
    SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
    WHERE table_schema = 'hevlayer' ORDER BY 1, 2
"""
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'hevlayer' ORDER BY 1"


@pytest.fixture
async def connection(url):
    opened = await asyncpg.connect(url, timeout=60)
    yield opened
    await opened.close()


async def shape_of(connection) -> list[tuple[object, ...]]:
    return [tuple(row) for row in (*await connection.fetch(SHAPE), *await connection.fetch(INDEXES))]


async def test_every_version_comes_to_the_same_shape(connection):
    shapes = []
    for version in range(len(KNOWN) + 1):
        await connection.execute("DROP SCHEMA IF EXISTS hevlayer CASCADE")
        assert await migrate(connection, KNOWN[:version]) == version
        assert await migrate(connection) == len(KNOWN) - version
        assert await migrate(connection) == 0
        shapes.append(await shape_of(connection))
    assert shapes[0]
    assert all(shape == shapes[0] for shape in shapes)


async def test_processes_that_start_at_once_migrate_once(open_database, connection):
    databases = [await open_database(prepare=False, connections_max=1) for _ in range(8)]
    assert await asyncio.gather(*(each.prepare() for each in databases)) == [True] * 8
    rows = await connection.fetch("SELECT version FROM hevlayer.migrations ORDER BY version")
    assert [row["version"] for row in rows] == [each.version for each in KNOWN]


async def test_a_migration_that_was_changed_is_refused(connection):
    await migrate(connection)
    changed = (*KNOWN[:-1], replace(KNOWN[-1], sql=KNOWN[-1].sql + " -- edited"))
    with pytest.raises(MigrationError, match=f"migration {KNOWN[-1].version:04}"):
        await migrate(connection, changed)


async def test_a_newer_database_is_left_alone(connection):
    newer = Migration(len(KNOWN) + 1, "of_tomorrow", "CREATE TABLE hevlayer.tomorrow (x integer)")
    await migrate(connection, (*KNOWN, newer))
    assert await migrate(connection) == 0


async def test_a_migration_that_fails_leaves_nothing(connection):
    good = Migration(len(KNOWN) + 1, "good", "CREATE TABLE hevlayer.half (x integer)")
    bad = Migration(len(KNOWN) + 2, "bad", "SELECT nothing_of_the_kind")
    with pytest.raises(asyncpg.PostgresError):
        await migrate(connection, (*KNOWN, good, bad))
    assert await connection.fetchval("SELECT to_regclass('hevlayer.half')") is None
    assert await migrate(connection) == len(KNOWN)


async def test_a_database_that_cannot_be_migrated_says_why(open_database, connection):
    await migrate(connection)
    await connection.execute("UPDATE hevlayer.migrations SET fingerprint = 'another' WHERE version = 1")
    database = await open_database(prepare=False)
    assert not await database.prepare()
    assert "belongs to another build" in database.problem
