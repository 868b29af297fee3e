"""What gateways tell each other of their writes in flight: the port; `stores.postgres.floors` is its one adapter."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Floors:
    """Lower bounds of the stamps of all writes of one process that are in flight or will be: `general_ms` for every
    namespace that `namespaces` does not name. They never lose their truth, since stamps never go back; they only lag.
    """

    general_ms: int
    namespaces: Mapping[str, int] = field(default_factory=dict)

    def of(self, namespace: str) -> int:
        return self.namespaces.get(namespace, self.general_ms)


class FloorBoard(Protocol):
    """Where processes publish their floors; every method raises LayerError while it is away."""

    async def publish(self, floors: Floors) -> list[Floors]:
        """Replaces this process's floors. Returns: those of the other processes."""

    async def retire(self) -> None:
        """Takes this process's floors away."""

    async def sweep(self) -> None:
        """Removes floors that count no more."""
