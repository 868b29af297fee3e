"""What gateways tell each other that they owe a shared document cache: the port, which `stores.postgres.debts` adapts.

A debt comes here when the cache itself can be told neither of a write nor of the debt. `docs/cache-protocol.md` says
what the others make of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class OwnersDebt:
    """What one gateway process owes."""

    owner: int
    namespaces: tuple[str, ...] | None
    """None: everything."""
    serial: int
    """That of the last `publish` that took effect."""
    is_silent: bool
    """It has not looked at the board for so long that it counts as dead."""


class DebtBoard(Protocol):
    """The debts of one cache. Every method raises LayerError while the board is away.

    What `publish` did, every `look` shows that starts after it returned, and so does a board that was restarted. A call
    that raised may take effect at any later time. Each `publish` and `withdraw` of an owner has a higher serial number
    than the one before; those that come late change nothing.
    """

    async def look(self, owner: int) -> list[OwnersDebt]:
        """All that is owed, what `owner` owes as well; says that `owner` is alive."""

    async def publish(self, owner: int, serial: int, namespaces: Sequence[str] | None) -> None:
        """Puts this in the place of what `owner` owed; None: everything."""

    async def withdraw(self, owner: int, serial: int) -> None:
        """`owner` owes nothing any more."""

    async def remove(self, owner: int) -> bool:
        """Forgets what a silent owner owed, after somebody has taken care of it. False: it has been heard of since."""
