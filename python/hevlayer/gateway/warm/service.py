"""Starting warms: one at a time for a namespace, none while it is complete."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hevlayer.clock import Clock
from hevlayer.errors import CacheColdError, UpstreamError
from hevlayer.gateway.auth import Credential
from hevlayer.gateway.consistency import Registry
from hevlayer.gateway.consistency.facts import read_schema
from hevlayer.gateway.fetch.owners import Owners
from hevlayer.gateway.jobs import JobKind, JobRecord, Jobs, RunningJob
from hevlayer.gateway.reads import Reads, ReadTarget
from hevlayer.gateway.warm.warmer import Warmer
from hevlayer.stores.doccache import DocumentCache
from hevlayer.stores.doccache_engine import UNKNOWN_WRITE_SECONDS

DEFAULT_ID_TYPE = "string"

CutOf = Callable[[str], int | None]
"""The stamp up to which every write of a namespace has a definite answer now; None: none is known."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What the upstream told of a namespace just now."""

    id_type: str
    vectors: list[str]
    rows: int
    identity: str | None


def read_origin(metadata: Mapping[str, Any]) -> Origin:
    """Raises: UpstreamError: it is no metadata."""
    facts = read_schema(metadata.get("schema"))
    rows = metadata.get("approx_row_count")
    created = metadata.get("created_at")
    if not isinstance(rows, int):
        raise UpstreamError("the upstream's metadata has no row count")
    return Origin(
        facts.id_type or DEFAULT_ID_TYPE,
        [vector.name for vector in facts.vectors],
        rows,
        created if isinstance(created, str) else None,
    )


@dataclass(frozen=True, slots=True)
class Started:
    """A warm that runs. `is_new`: it was started by this very call."""

    job: JobRecord


@dataclass(frozen=True, slots=True)
class Complete:
    """There is nothing to warm: every row is cached through `through_ms`."""

    through_ms: int


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The namespace has more rows than this caller wants to warm."""

    rows: int


class Warms:
    """Makes warm jobs."""

    def __init__(
        self,
        cache: DocumentCache,
        jobs: Jobs,
        reads: Reads,
        registry: Registry,
        owners: Owners,
        clock: Clock,
        cut_of: CutOf,
        *,
        unknown_write_seconds: float = UNKNOWN_WRITE_SECONDS,
    ) -> None:
        self._cache = cache
        self._jobs = jobs
        self._reads = reads
        self._registry = registry
        self._owners = owners
        self._clock = clock
        self._cut_of = cut_of
        self._unknown_write_seconds = unknown_write_seconds

    def inflight(self, namespace: str) -> bool:
        """Whether a warm of this process is at work there."""
        return bool(self._jobs.running_here(JobKind.WARM, namespace))

    async def start(
        self,
        namespace: str,
        credential: Credential,
        *,
        traceparent: bytes = b"",
        page_rows: int | None = None,
        rows_max: int | None = None,
    ) -> Started | Complete | TooLarge:
        """Asks the upstream for the namespace, and starts a warm or finds the one that runs.

        Raises: CacheColdError: the cache cannot be used. RefusedReadError: the upstream's answer to the metadata read.
            UpstreamError. JobTableFullError, JobStoreError.
        """
        await self.require_cache()
        target = ReadTarget.of(namespace, credential, traceparent=traceparent)
        origin = read_origin(await self._reads.metadata(target))

        async def owned() -> bool:
            return credential.trusted or await self._owners.admit(namespace, origin.identity)

        if not await owned():
            raise CacheColdError("the document cache holds another namespace of this name now; try again in a minute")
        view = self._registry.touch(namespace, credential.scope)
        through_ms = await self._cache.warmed_through(namespace, view.watermark_ms)
        if through_ms is not None:
            return Complete(through_ms)
        if rows_max is not None and origin.rows > rows_max:
            return TooLarge(origin.rows)

        async def work(job: RunningJob) -> None:
            warmer = Warmer(
                self._cache,
                self._reads,
                self._clock,
                ReadTarget.of(namespace, credential, job=job.id),
                origin,
                cut=lambda: self._cut_of(namespace),
                owned=owned,
                unknown_write_seconds=self._unknown_write_seconds,
                rows_expected=origin.rows,
                page_rows=page_rows,
            )
            await warmer.run(job)

        scope = credential.scope.hex()
        return Started(
            await self._jobs.start(JobKind.WARM, namespace, scope, work, exclusive=f"warm {scope} {namespace}")
        )

    async def require_cache(self) -> None:
        """Raises: CacheColdError: there is no document cache, or it does not answer."""
        if not self._cache.enabled:
            raise CacheColdError("this gateway has no document cache")
        if not (await self._cache.stats()).available:
            raise CacheColdError("the document cache is unavailable")
