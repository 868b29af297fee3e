"""Leases as advisory locks of one session: the server gives them to another when the session ends, however it ends."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from hevlayer.clock import Clock
from hevlayer.stores.leases import Lease
from hevlayer.stores.postgres.database import Database, DatabaseError
from hevlayer.stores.postgres.queries import Query, load_queries

if TYPE_CHECKING:
    from hevlayer.stores.postgres.database import Connection

BEAT_SECONDS = 2.0
ANSWER_SECONDS = 3.0
_SQL = load_queries("leases.sql")

T = TypeVar("T")


class _PostgresLease:
    def __init__(self, leases: "PostgresLeases", name: str) -> None:
        self._leases = leases
        self._name = name
        self.gone = asyncio.Event()

    async def lost(self) -> None:
        await self.gone.wait()

    async def release(self) -> None:
        await self._leases.give_back(self._name, self)


class PostgresLeases:
    """The leases of one process, all on one connection. Run `run` under a supervisor: it notices a session that died.

    From the end of a session until its holder stops the work it takes at most the time between two beats and one
    answer's deadline; the server may have given the lease away meanwhile.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        beat_seconds: float = BEAT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._database = database
        self._clock = clock
        self._beat_seconds = beat_seconds
        self._answer_seconds = answer_seconds
        self._connection: Connection | None = None
        # A session takes one statement at a time.
        self._turn = asyncio.Lock()
        self.held: dict[str, _PostgresLease] = {}

    async def try_acquire(self, name: str) -> Lease | None:
        async with self._turn:
            if name in self.held:
                return None
            if self._connection is None or self._connection.is_closed():
                self._drop()
                self._connection = await self._database.dedicated()
                self._connection.add_termination_listener(self._terminated)
            if not await self._ask(_SQL["try_acquire"], lock_key(name)):
                return None
            lease = self.held[name] = _PostgresLease(self, name)
            return lease

    async def give_back(self, name: str, lease: _PostgresLease) -> None:
        async with self._turn:
            if self.held.get(name) is not lease:
                return
            del self.held[name]
            with contextlib.suppress(DatabaseError):
                await self._ask(_SQL["release"], lock_key(name))

    async def run(self) -> None:
        """Beats while anything is held."""
        while True:
            await self._clock.sleep(self._beat_seconds)
            if self.held:
                async with self._turn:
                    with contextlib.suppress(DatabaseError):
                        await self._ask(_SQL["beat"])

    async def close(self) -> None:
        """Ends the session; the server frees its locks."""
        self._drop()

    async def _ask(self, query: Query, *arguments: object) -> Any:
        """Raises: DatabaseError: no answer; then the session is given up, and every lease with it."""
        if self._connection is None:
            raise DatabaseError("the session of the leases has ended")
        try:
            return await _within(self._connection.fetchval(query.sql, *arguments), self._answer_seconds)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self._drop()
            raise DatabaseError(f"the session of the leases has ended: {error or 'no answer in time'}") from error
        except BaseException:
            # Cancelled half way: whether the lock was taken is not known.
            self._drop()
            raise

    def _terminated(self, _connection: object) -> None:
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        held, self.held = self.held, {}
        for lease in held.values():
            lease.gone.set()
        if connection is not None and not connection.is_closed():
            connection.remove_termination_listener(self._terminated)
            connection.terminate()


async def _within(work: Awaitable[T], seconds: float) -> T:
    async with asyncio.timeout(seconds):
        return await work


def lock_key(name: str) -> int:
    """A lease's number among the database's advisory locks, a signed 64-bit integer."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, person=b"hevlayer-lease")
    return int.from_bytes(digest.digest(), "big", signed=True)
