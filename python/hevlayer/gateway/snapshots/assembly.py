"""Puts the parts of snapshots together over the gateway's."""

import random
from collections.abc import Mapping

from hevlayer.clock import Clock, Supervisor
from hevlayer.gateway.auth import BackgroundBearers, Grants
from hevlayer.gateway.config import GatewayConfig
from hevlayer.gateway.consistency import Registry
from hevlayer.gateway.jobs import Jobs
from hevlayer.gateway.namespaces import Deletion
from hevlayer.gateway.reads import Reads
from hevlayer.gateway.router import RouteHandler
from hevlayer.gateway.snapshots.jobs import OpensScans, SnapshotJobs
from hevlayer.gateway.snapshots.latest import LatestSnapshots
from hevlayer.gateway.snapshots.mirror import Mirror, RowCache
from hevlayer.gateway.snapshots.place import place_of
from hevlayer.gateway.snapshots.policy import Policies, read_configured
from hevlayer.gateway.snapshots.routes import SettledCut, SnapshotRoutes
from hevlayer.gateway.snapshots.store import SnapshotStore
from hevlayer.gateway.snapshots.writer import LEASE, SnapshotMetrics, SnapshotWriter
from hevlayer.stores.leases import Leases, run_leased
from hevlayer.stores.objects import ObjectStore


class Snapshots:
    """Facet snapshots of a gateway. `start` once what it stands on runs.

    Attributes:
        latest: the latest snapshot of a namespace, for those who count from it.
        writer: the automatic writer.
    """

    def __init__(
        self,
        config: GatewayConfig,
        objects: ObjectStore,
        cache: RowCache,
        reads: Reads,
        bearers: BackgroundBearers,
        registry: Registry,
        metrics: SnapshotMetrics,
        leases: Leases,
        clock: Clock,
        *,
        trusted: bool,
        rng: random.Random,
    ) -> None:
        """`trusted`: callers show the gateway's own key, so a namespace is known by its name alone."""
        self._clock = clock
        self._reads = reads
        self._registry = registry
        self._leases = leases
        self._trusted = trusted
        self._store = SnapshotStore(objects, clock)
        self._policies = Policies(
            objects, read_configured(config.facet_fields), min_interval_ms=config.snapshot_min_interval_ms
        )
        self.latest = LatestSnapshots(self._store, Mirror(cache), clock)
        self.writer = SnapshotWriter(
            self._store, self.latest, self._policies, reads, bearers, registry, metrics, clock, trusted=trusted, rng=rng
        )

    def serve(self, jobs: Jobs, scans: OpensScans, grants: Grants, settled: SettledCut) -> Mapping[str, RouteHandler]:
        """The handlers, by their names in the route table."""
        made = SnapshotJobs(self._store, self.latest, jobs, self._reads, scans)
        routes = SnapshotRoutes(
            self._store, self._policies, made, self.writer, jobs, self._registry, grants, self._clock, settled
        )
        return routes.handlers

    def start(self, supervisor: Supervisor) -> None:
        supervisor.start("snapshot writer", self._write)

    async def _write(self) -> None:
        await run_leased(self._leases, LEASE, self.writer.run, self._clock)

    async def forget(self, deletion: Deletion) -> None:
        """Removes a deleted namespace's bodies and its policy. Raises: ObjectStoreError."""
        place = place_of(deletion.namespace, self._trusted, deletion.created_at)
        self.latest.forget(place)
        await self._store.delete(place, deletion.started_at_ms, deletion.created_at)
        await self._policies.delete(place, deletion.started_at_ms)
        self.latest.forget(place)
