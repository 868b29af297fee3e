"""A board of debts in memory: the twin of the one in PostgreSQL."""

from collections.abc import Callable, Sequence

from hevlayer.clock import Clock
from hevlayer.errors import CacheUnavailableError
from hevlayer.stores.debts import OwnersDebt

SILENT_SECONDS = 30.0


class MemoryDebtBoard:
    """See `DebtBoard`. Some calls fail while `failure` is set: `before` their effect, `after` it, or so that it comes
    `late`, when a test calls one of `late`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._debts: dict[int, OwnersDebt] = {}
        self._seen_at: dict[int, float] = {}
        self.failure = ""
        self.late: list[Callable[[], None]] = []
        self.publications = 0
        self.removals = 0

    def _is_silent(self, owner: int) -> bool:
        return self._clock.monotonic() - self._seen_at[owner] > SILENT_SECONDS

    def _do(self, effect: Callable[[], None]) -> None:
        if self.failure == "late":
            self.late.append(effect)
        elif self.failure != "before":
            effect()
        if self.failure:
            raise CacheUnavailableError("the board is away")

    async def look(self, owner: int) -> list[OwnersDebt]:
        if self.failure:
            raise CacheUnavailableError("the board is away")
        if owner in self._debts:
            self._seen_at[owner] = self._clock.monotonic()
        return [
            OwnersDebt(each.owner, each.namespaces, each.serial, self._is_silent(each.owner))
            for each in self._debts.values()
        ]

    async def publish(self, owner: int, serial: int, namespaces: Sequence[str] | None) -> None:
        debt = OwnersDebt(owner, None if namespaces is None else tuple(namespaces), serial, is_silent=False)

        def put() -> None:
            if owner not in self._debts or self._debts[owner].serial < serial:
                self._debts[owner] = debt
                self._seen_at[owner] = self._clock.monotonic()
                self.publications += 1

        self._do(put)

    async def withdraw(self, owner: int, serial: int) -> None:
        def take() -> None:
            if owner in self._debts and self._debts[owner].serial < serial:
                del self._debts[owner]

        self._do(take)

    async def remove(self, owner: int) -> bool:
        if self.failure:
            raise CacheUnavailableError("the board is away")
        if owner not in self._debts or not self._is_silent(owner):
            return False
        del self._debts[owner]
        self.removals += 1
        return True
