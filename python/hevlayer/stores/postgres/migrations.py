"""Brings a database to the version of this code: one transaction a migration, one process at a time.

A file of `sql/migrations` is `NNNN_name.sql`. What has been applied never changes; a migration only adds, so that
gateways of the version before go on working beside it.
"""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hevlayer.stores.postgres.queries import SQL_DIRECTORY, load_queries

LOCK_WAIT_MS = 60_000
STATEMENT_MS = 100_000
_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_SQL = load_queries("migrations.sql")

log = logging.getLogger("hevlayer.postgres")


class MigrationError(Exception):
    """The database is not one that this code may change; the text is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


class Connection(Protocol):
    """What a migration asks of a connection."""

    def transaction(self) -> Any: ...

    async def execute(self, query: str, *arguments: object) -> str: ...

    async def fetch(self, query: str, *arguments: object) -> Sequence[Any]: ...


def load_migrations() -> tuple[Migration, ...]:
    """The migrations of this code, by version; they are numbered without a gap from 1.

    Raises: ValueError: a file breaks that.
    """
    found = []
    for path in sorted((SQL_DIRECTORY / "migrations").iterdir()):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise ValueError(f"not a migration's name: {path.name}")
        found.append(Migration(int(match[1]), match[2], path.read_text(encoding="utf-8")))
    if [each.version for each in found] != list(range(1, len(found) + 1)):
        raise ValueError("the migrations are not numbered without a gap from 0001")
    return tuple(found)


def plan_migrations(known: Sequence[Migration], applied: dict[int, str]) -> tuple[Migration, ...]:
    """What is left to apply.

    Args:
        applied: fingerprints by version. Versions above the known ones are a newer gateway's and are left alone.
    Raises: MigrationError: an applied migration is not the one that this code knows.
    """
    for each in known:
        if applied.get(each.version, each.fingerprint) != each.fingerprint:
            raise MigrationError(
                f"migration {each.version:04} ({each.name}) was applied with another text: the database belongs to "
                "another build"
            )
    return tuple(each for each in known if each.version not in applied)


async def migrate(connection: Connection, known: Sequence[Migration] | None = None) -> int:
    """Applies what is left. Returns: how many. Concurrent callers wait for each other.

    Raises: MigrationError; what the driver raises.
    """
    known = load_migrations() if known is None else known
    async with connection.transaction():
        await connection.execute(_SQL["bound_waits"].sql, str(LOCK_WAIT_MS), str(STATEMENT_MS))
        await connection.execute(_SQL["lock"].sql)
        await connection.execute(_SQL["create_schema"].sql)
        await connection.execute(_SQL["create_table"].sql)
        rows = await connection.fetch(_SQL["applied"].sql)
        left = plan_migrations(known, {row["version"]: row["fingerprint"] for row in rows})
        for each in left:
            await connection.execute(each.sql)
            await connection.execute(_SQL["record"].sql, each.version, each.name, each.fingerprint)
    for each in left:
        log.info("database migrated", extra={"version": each.version, "migration": each.name})
    return len(left)
