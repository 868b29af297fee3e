"""One PostgreSQL database: a pool whose every wait has a deadline, migrated before its first use.

Soft by design: a gateway whose database is away goes on serving what needs none, and connects when it is back.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from hevlayer.clock import Backoff, Clock
from hevlayer.errors import ServiceUnavailableError, Source
from hevlayer.stores.postgres.migrations import MigrationError, migrate
from hevlayer.stores.postgres.queries import Query
from hevlayer.stores.postgres.settings import CONNECT_SECONDS, CONNECTIONS_MAX, QUERY_SECONDS

MIGRATION_SECONDS = 120.0
# Callers that wait for a connection at one time; more are refused at once.
WAITERS_MAX = 1_000
CONNECTION_IDLE_SECONDS = 300.0
RETRY_BACKOFF = Backoff(initial_seconds=0.2, cap_seconds=10.0)
APPLICATION_NAME = "hevlayer"

# A gateway that vanished from the network keeps its session, and what belongs to it, for so long at most.
_KEEPALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}

T = TypeVar("T")
if TYPE_CHECKING:
    # The driver's classes take type arguments in the stubs only.
    Connection = asyncpg.Connection[asyncpg.Record]
    Pooled = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

log = logging.getLogger("hevlayer.postgres")

# What says something about the server or the way to it, not about the statement.
_UNAVAILABLE = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.PostgresSystemError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    asyncpg.exceptions.InvalidAuthorizationSpecificationError,
    asyncpg.exceptions.InvalidCatalogNameError,
)


class DatabaseError(ServiceUnavailableError):
    """PostgreSQL is away, over its time budget or not yet migrated."""

    source = Source.STORE


class Database:
    """Run `run` under a supervisor and `close` at the end."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        query_seconds: float = QUERY_SECONDS,
        connections_max: int = CONNECTIONS_MAX,
        rng: random.Random | None = None,
    ) -> None:
        self._url = url
        self._clock = clock
        self._connect_seconds = connect_seconds
        self._query_seconds = query_seconds
        self._rng = rng or random.Random()  # noqa: S311 -- jitter, not a secret
        self._pool: asyncpg.Pool[asyncpg.Record] = asyncpg.create_pool(
            url,
            min_size=0,
            max_size=connections_max,
            timeout=connect_seconds,
            max_inactive_connection_lifetime=CONNECTION_IDLE_SECONDS,
            server_settings={
                "application_name": APPLICATION_NAME,
                # What we gave up must not go on over there.
                "statement_timeout": str(int(query_seconds * 1000)),
                "idle_in_transaction_session_timeout": str(int(query_seconds * 1000)),
            },
        )
        self._waiting = 0
        self._migrated = asyncio.Event()
        self._tried = asyncio.Event()
        self._opened = False
        self._warned = False
        self.problem: str | None = "PostgreSQL has not been reached yet"
        """Why the last attempt failed; None while the last one went well."""

    @property
    def is_ready(self) -> bool:
        """Migrated by this process; a query may still find the server away."""
        return self._migrated.is_set()

    async def wait_until_ready(self) -> None:
        """Until the database has been reached and migrated."""
        await self._migrated.wait()

    async def wait_until_tried(self) -> None:
        """Until the first attempt of `run` is over, for at most the connect and the query deadline together."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._connect_seconds + self._query_seconds):
                await self._tried.wait()

    async def run(self) -> None:
        """Connects and migrates, again and again until it goes well."""
        attempt = 0
        while not self.is_ready:
            reached = await self.prepare()
            self._tried.set()
            if reached:
                return
            await self._clock.sleep(RETRY_BACKOFF.delay(attempt, self._rng))
            attempt += 1

    async def prepare(self) -> bool:
        """One attempt to reach and migrate the database. False: it failed, and `problem` says why."""
        try:
            await self._with_connection(migrate, MIGRATION_SECONDS)
        except (DatabaseError, MigrationError, asyncpg.PostgresError) as error:
            self._note(str(error))
            return False
        self._migrated.set()
        return True

    async def fetch(self, query: Query, /, **values: object) -> list[asyncpg.Record]:
        """Rows of one statement, which is its own transaction. Raises: DatabaseError; asyncpg.PostgresError."""
        arguments = query.arguments(values)
        return await self.use(lambda connection: connection.fetch(query.sql, *arguments))

    async def use(self, work: "Callable[[Pooled], Awaitable[T]]", *, seconds: float | None = None) -> T:
        """Does `work` with a connection, all of it within the query deadline (or `seconds`).

        Raises: DatabaseError; asyncpg.PostgresError: the statement itself is refused.
        """
        if not self.is_ready:
            raise DatabaseError(self.problem or "PostgreSQL is not ready")
        return await self._with_connection(work, self._query_seconds if seconds is None else seconds)

    async def dedicated(self) -> "Connection":
        """A connection outside the pool, for what belongs to a session. Close it with `terminate`.

        Raises: DatabaseError.
        """
        if not self.is_ready:
            raise DatabaseError(self.problem or "PostgreSQL is not ready")
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await asyncpg.connect(
                    self._url,
                    timeout=self._connect_seconds,
                    server_settings={"application_name": f"{APPLICATION_NAME} leases", **_KEEPALIVE},
                )
        except TimeoutError as error:
            raise DatabaseError(f"PostgreSQL did not answer within {self._connect_seconds:g} s") from error
        except _UNAVAILABLE as error:
            raise DatabaseError(f"PostgreSQL cannot be reached: {_brief(error)}") from error

    async def close(self) -> None:
        """Ends every connection at once."""
        if self._opened:
            self._pool.terminate()

    async def _with_connection(self, work: "Callable[[Pooled], Awaitable[T]]", seconds: float) -> T:
        if self._waiting >= WAITERS_MAX:
            raise DatabaseError(f"{WAITERS_MAX} queries are waiting for PostgreSQL already")
        self._waiting += 1
        waiting = True
        try:
            async with asyncio.timeout(seconds):
                if not self._opened:
                    await self._pool
                    self._opened = True
                connection = await self._pool.acquire()
                self._waiting -= 1
                waiting = False
                try:
                    result = await work(connection)
                except asyncpg.PostgresError:
                    raise
                except BaseException:
                    # A statement that was given up may still run, and asking a hung server to stop it would hang.
                    connection.terminate()
                    raise
                finally:
                    await self._pool.release(connection)
        except TimeoutError as error:
            self._note(f"PostgreSQL did not answer within {seconds:g} s")
            raise DatabaseError(f"PostgreSQL did not answer within {seconds:g} s") from error
        except _UNAVAILABLE as error:
            self._note(_brief(error))
            raise DatabaseError(f"PostgreSQL cannot be reached: {_brief(error)}") from error
        finally:
            if waiting:
                self._waiting -= 1
        self._note(None)
        return result

    def _note(self, problem: str | None) -> None:
        """Says once that it went away, and once that it is back."""
        if problem is not None and (self.problem is None or not self._warned):
            log.warning("PostgreSQL is away", extra={"reason": problem})
            self._warned = True
        elif problem is None and self._warned:
            log.info("PostgreSQL is back")
            self._warned = False
        self.problem = problem


def _brief(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n", 1)[0] or type(error).__name__
