"""What the document cache tells about itself; health and the namespace listing read it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hevlayer.stores.doccache import DocumentCache


@dataclass(frozen=True, slots=True)
class CacheState:
    """How much of a namespace the document cache holds. `state` is `cold`, `warming` or `warm`."""

    state: str = "cold"
    warmed_through_ms: int | None = None
    warm_inflight: bool = False

    def as_json(self) -> dict[str, object]:
        return {
            "state": self.state,
            "warmed_through_ms": self.warmed_through_ms,
            "warm_inflight": self.warm_inflight,
        }


@dataclass(frozen=True, slots=True)
class CacheConnection:
    """Whether the cache answers. `generation` counts its connections; an embedded engine has one."""

    engine: str
    connected: bool
    generation: int
    notes: tuple[str, ...] = ()
    """What an operator should know."""


class CacheStates(Protocol):
    async def connection(self) -> CacheConnection: ...

    async def cache_state(self, namespace: str, watermark_ms: int | None) -> CacheState: ...


class NothingCached:
    """The answers of a gateway without a document cache."""

    async def connection(self) -> CacheConnection:
        return CacheConnection("none", connected=False, generation=0)

    async def cache_state(self, namespace: str, watermark_ms: int | None) -> CacheState:
        return CacheState()


Warming = Callable[[str], bool]
"""Whether a warm of the namespace is under way."""


class DocumentCacheStates:
    """The answers of the document cache: a namespace is warm while every row of it is there."""

    def __init__(self, cache: DocumentCache, warming: Warming, engine: str = "embedded") -> None:
        self._cache = cache
        self._warming = warming
        self._engine = engine

    async def connection(self) -> CacheConnection:
        if not self._cache.enabled:
            return CacheConnection("none", connected=False, generation=0)
        stats = await self._cache.stats()
        engine = stats.engine
        if engine is None:
            notes = (stats.problem,) if stats.problem else ()
            return CacheConnection(self._engine, connected=False, generation=0, notes=notes)
        return CacheConnection(self._engine, stats.available, generation=engine.connects, notes=engine.notes)

    async def cache_state(self, namespace: str, watermark_ms: int | None) -> CacheState:
        warming = self._warming(namespace)
        through_ms = await self._cache.warmed_through(namespace, watermark_ms)
        if through_ms is not None:
            return CacheState("warm", through_ms, warming)
        return CacheState("warming" if warming else "cold", None, warming)
