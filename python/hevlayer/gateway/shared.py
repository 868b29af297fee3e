"""What gateways share through PostgreSQL: jobs, leases, floors, debts of a shared document cache.

Without one, what a process has of these by itself.
"""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from hevlayer.clock import Clock, Supervisor
from hevlayer.gateway.adapters import shared_cache_name
from hevlayer.gateway.config import GatewayConfig
from hevlayer.gateway.consistency import PeerFloors, Stamper
from hevlayer.gateway.jobs import JobStore, MemoryJobStore
from hevlayer.stores.doccache_shared import SharedDebts
from hevlayer.stores.leases import FileLeases, Leases

if TYPE_CHECKING:
    from hevlayer.stores.postgres.database import Database
    from hevlayer.stores.postgres.leases import PostgresLeases


class SharedState:
    """The adapters that a configuration asks for. `start` before the first write, `stop` after the last job.

    Attributes:
        jobs: where jobs are kept.
        leases: who runs what should run once.
        debts: what gateways owe the document cache that they share; None when they share none, or no database.
    """

    def __init__(self, config: GatewayConfig, clock: Clock, stamper: Stamper, data_dir: Path) -> None:
        self._database: Database | None = None
        self._beating: PostgresLeases | None = None
        self._peers: PeerFloors | None = None
        self.debts: SharedDebts | None = None
        self.jobs: JobStore = MemoryJobStore()
        self.leases: Leases = FileLeases(data_dir / "leases")
        if config.database_url:
            self._connect(config, clock, stamper)

    def _connect(self, config: GatewayConfig, clock: Clock, stamper: Stamper) -> None:
        # The driver's import takes longer than the rest of a gateway that has no database.
        from hevlayer.gateway.jobs.durable import PostgresJobStore
        from hevlayer.stores.postgres.database import Database
        from hevlayer.stores.postgres.debts import PostgresDebtBoard
        from hevlayer.stores.postgres.floors import PostgresFloors
        from hevlayer.stores.postgres.leases import PostgresLeases

        database = self._database = Database(
            config.database_url,
            clock,
            connect_seconds=config.database_connect_timeout_seconds,
            query_seconds=config.database_timeout_seconds,
            connections_max=config.database_connections_max,
        )
        self.jobs = PostgresJobStore(database)
        self.leases = self._beating = PostgresLeases(database, clock)
        board = PostgresFloors(database, str(uuid.uuid4()), hold_seconds=config.unknown_write_seconds)
        self._peers = PeerFloors(board, stamper, clock)
        cache = shared_cache_name(config)
        if cache is not None:
            self.debts = SharedDebts(PostgresDebtBoard(database, cache), clock)

    def peer_floor(self, namespace: str) -> int | None:
        """A stamp that no watermark of a poll that starts now may reach, as far as the other gateways say."""
        return None if self._peers is None else self._peers.floor_ms(namespace)

    def note(self) -> str | None:
        """A sentence for `/ready` while the database is away."""
        problem = None if self._database is None else self._database.problem
        return None if problem is None else f"PostgreSQL is away, each gateway works alone: {problem}"

    async def start(self, supervisor: Supervisor) -> None:
        """Starts the loops; waits for the first attempt to reach the database, and no longer."""
        if self._database is None or self._beating is None or self._peers is None:
            return
        supervisor.start("database", self._database.run)
        await self._database.wait_until_tried()
        # Before this process's first stamp: the others count on hearing of a process before it writes.
        await self._peers.publish_once()
        supervisor.start("floors", self._peers.run)
        if self.debts is not None:
            await self.debts.look_once()
            supervisor.start("cache debts", self.debts.run)
        supervisor.start("leases", self._beating.run)

    async def stop(self) -> None:
        """After the supervisor's loops have ended. Never waits longer than one query."""
        await self.leases.close()
        if self._peers is not None:
            await self._peers.stop()
        if self._database is not None:
            await self._database.close()
