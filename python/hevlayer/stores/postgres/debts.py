"""Debts of a document cache in PostgreSQL: a row for each gateway that is in debt, and none in good times."""

from collections.abc import Sequence

import asyncpg
import msgspec

from hevlayer.stores.debts import OwnersDebt
from hevlayer.stores.postgres.database import Database, DatabaseError
from hevlayer.stores.postgres.queries import load_queries
from hevlayer.wire.names import decode_name, encode_name

QUERY_SECONDS_MAX = 1.0
# An owner looks several times a second. One that has not for so long is dead, or cut off.
SILENT_SECONDS = 30.0
_SQL = load_queries("debts.sql")
_DECODER = msgspec.json.Decoder(list[str])


class PostgresDebtBoard:
    """The debts of the cache called `cache`; see `DebtBoard`."""

    def __init__(self, database: Database, cache: str) -> None:
        self._database = database
        self._cache = cache

    async def look(self, owner: int) -> list[OwnersDebt]:
        rows = await self._fetch("look", owner=owner, silent_seconds=SILENT_SECONDS)
        return [
            OwnersDebt(row["owner"], _namespaces(row["namespaces"]), row["serial"], row["is_silent"]) for row in rows
        ]

    async def publish(self, owner: int, serial: int, namespaces: Sequence[str] | None) -> None:
        names = None if namespaces is None else msgspec.json.encode([encode_name(each) for each in namespaces]).decode()
        await self._fetch("publish", owner=owner, serial=serial, namespaces=names)

    async def withdraw(self, owner: int, serial: int) -> None:
        await self._fetch("withdraw", owner=owner, serial=serial)

    async def remove(self, owner: int) -> bool:
        return bool(await self._fetch("remove", owner=owner, silent_seconds=SILENT_SECONDS))

    async def _fetch(self, name: str, **values: object) -> list[asyncpg.Record]:
        query = _SQL[name]
        arguments = query.arguments({"cache": self._cache, **values})
        try:
            return await self._database.use(
                lambda connection: connection.fetch(query.sql, *arguments), seconds=QUERY_SECONDS_MAX
            )
        except asyncpg.PostgresError as error:
            raise DatabaseError(f"PostgreSQL refused a debt of the document cache: {error}") from error


def _namespaces(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(decode_name(name) for name in _DECODER.decode(text))
