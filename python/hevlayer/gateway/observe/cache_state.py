"""What the document cache tells about itself; health and the namespace listing read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


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
    """Whether the cache answers. `generation` counts how often it was (re)connected or started empty."""

    engine: str
    connected: bool
    generation: int


class CacheStates(Protocol):
    def connection(self) -> CacheConnection: ...

    def cache_state(self, namespace: str) -> CacheState: ...

    def cached_namespaces(self) -> Sequence[str]:
        """Namespaces of which the cache holds anything; a bounded number."""


class NothingCached:
    """The answers of a gateway without a document cache."""

    def connection(self) -> CacheConnection:
        return CacheConnection("none", connected=False, generation=0)

    def cache_state(self, namespace: str) -> CacheState:
        return CacheState()

    def cached_namespaces(self) -> Sequence[str]:
        return ()
