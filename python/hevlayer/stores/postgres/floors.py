"""What each gateway has in flight, as the others may know it: one row a process."""

import msgspec

from hevlayer.stores.floors import Floors
from hevlayer.stores.postgres.database import Database
from hevlayer.stores.postgres.queries import load_queries
from hevlayer.wire.names import decode_name, encode_name

PUBLISH_SECONDS_MAX = 1.0
_SQL = load_queries("floors.sql")
_DECODER = msgspec.json.Decoder(dict[str, int])


class PostgresFloors:
    """The table of floors, seen by one process."""

    def __init__(self, database: Database, process: str, *, hold_seconds: float) -> None:
        """`hold_seconds`: for which this process's floors count after its last word."""
        self._database = database
        self._process = process
        self._hold_seconds = hold_seconds
        self._is_durable = False

    async def publish(self, floors: Floors) -> list[Floors]:
        """Replaces this process's floors. Returns: the other processes'. Raises: DatabaseError."""
        query = _SQL["publish"]
        arguments = query.arguments(
            {
                "process": self._process,
                "floor_ms": floors.general_ms,
                "namespaces": msgspec.json.encode(
                    {encode_name(name): floor for name, floor in floors.namespaces.items()}
                ).decode(),
                "hold_seconds": self._hold_seconds,
                "synchronous_commit": "off" if self._is_durable else "on",
            }
        )
        rows = await self._database.use(
            lambda connection: connection.fetch(query.sql, *arguments), seconds=PUBLISH_SECONDS_MAX
        )
        self._is_durable = True
        return [
            Floors(
                row["floor_ms"],
                {decode_name(name): floor for name, floor in _DECODER.decode(row["namespaces"]).items()},
            )
            for row in rows
        ]

    async def retire(self) -> None:
        """Takes this process's row away. Raises: DatabaseError."""
        self._is_durable = False
        await self._database.fetch(_SQL["retire"], process=self._process)

    async def sweep(self) -> None:
        """Removes rows that count no more. Raises: DatabaseError."""
        await self._database.fetch(_SQL["sweep"])
