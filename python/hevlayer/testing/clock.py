"""A clock that tests move."""

import asyncio
import heapq
import itertools

# How often the loop is let run after each step: enough for chains of awaits that need no real input or output.
SETTLE_ROUNDS = 12


class FakeClock:
    """Wall time in epoch milliseconds and monotonic seconds; both stand still until `advance`."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._wall_ms = float(now_ms)
        self._monotonic = 1_000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._sequence = itertools.count()

    def now_ms(self) -> int:
        return int(self._wall_ms)

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._sequence), future))
        await future

    def shift_wall(self, milliseconds: int) -> None:
        """Steps the wall clock, also backwards, as a time service may."""
        self._wall_ms += milliseconds

    def move(self, seconds: float) -> None:
        """Moves both clocks without letting anything run; for code that does not sleep."""
        self._wall_ms += seconds * 1000
        self._monotonic += seconds

    async def advance(self, seconds: float) -> None:
        """Moves time, waking each sleeper at its own moment and letting the loop run in between."""
        target = self._monotonic + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            at, _, future = heapq.heappop(self._sleepers)
            self.move(max(0.0, at - self._monotonic))
            if not future.done():
                future.set_result(None)
            await self.settle()
        self.move(max(0.0, target - self._monotonic))

    @staticmethod
    async def settle() -> None:
        for _ in range(SETTLE_ROUNDS):
            await asyncio.sleep(0)
