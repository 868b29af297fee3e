"""The ledger of the upstream's permits: our own reads of a namespace share it, so that they leave room for callers'.

The upstream runs 16 queries of a namespace at a time and refuses what waits too long. Reads that a request of ours
waits for take from all 16; background work takes at most 4, dealt out in turn between jobs. What callers send through
the gateway is theirs to bound and takes nothing here.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from typing import Protocol

from hevlayer.clock import Clock
from hevlayer.errors import ServiceUnavailableError, Source

PERMITS = 16
BACKGROUND_PERMITS = 4
FOREGROUND_WAIT_SECONDS = 30.0
BACKGROUND_WAIT_SECONDS = 300.0
WAITERS_MAX = 1_000

# What one request takes.
QUERY_COST = 1
KNN_COST = 2
AGGREGATE_COST = 4


class Lane(Enum):
    """Whose read it is: a request's, or a job's that no request waits for."""

    FOREGROUND = "foreground"
    BACKGROUND = "background"


class PermitTimeoutError(ServiceUnavailableError):
    """No permit for an upstream read came free in time, or too many wait for one."""

    source = Source.UPSTREAM


class PermitMetrics(Protocol):
    """What the ledger measures."""

    def observe_permit_wait(self, lane: str, seconds: float, *, granted: bool) -> None: ...


class _Waiter:
    __slots__ = ("cost", "granted")

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Account:
    """One namespace of one scope: what is held, and who waits."""

    __slots__ = ("background", "foreground", "held", "jobs", "waiting")

    def __init__(self) -> None:
        self.held = 0
        self.background = 0
        self.waiting = 0
        self.foreground: deque[_Waiter] = deque()
        # In the order of their turns.
        self.jobs: OrderedDict[str, deque[_Waiter]] = OrderedDict()

    @property
    def idle(self) -> bool:
        return not self.held and not self.waiting


class PermitLedger:
    """Permits by namespace and scope. First come, first served within a request's lane and within a job."""

    def __init__(
        self,
        clock: Clock,
        metrics: PermitMetrics,
        *,
        permits: int = PERMITS,
        background_permits: int = BACKGROUND_PERMITS,
    ) -> None:
        self._now = clock.monotonic
        self._metrics = metrics
        self._permits = permits
        self._background_permits = background_permits
        self._accounts: dict[tuple[str, bytes], _Account] = {}

    def held(self, lane: Lane) -> int:
        """Permits held now in all namespaces."""
        if lane is Lane.BACKGROUND:
            return sum(account.background for account in self._accounts.values())
        return sum(account.held - account.background for account in self._accounts.values())

    @property
    def waiting(self) -> int:
        return sum(account.waiting for account in self._accounts.values())

    @asynccontextmanager
    async def foreground(
        self, namespace: str, scope: bytes, cost: int = QUERY_COST, *, seconds: float = FOREGROUND_WAIT_SECONDS
    ) -> AsyncIterator[None]:
        """Holds permits for one read that a request waits for. Raises: PermitTimeoutError."""
        account = await self._take(namespace, scope, cost, None, seconds)
        try:
            yield
        finally:
            self._give_back(namespace, scope, account, cost, Lane.FOREGROUND)

    @asynccontextmanager
    async def background(
        self,
        namespace: str,
        scope: bytes,
        job: str,
        cost: int = QUERY_COST,
        *,
        seconds: float = BACKGROUND_WAIT_SECONDS,
    ) -> AsyncIterator[None]:
        """Holds permits for one read of a job. Raises: PermitTimeoutError."""
        account = await self._take(namespace, scope, cost, job, seconds)
        try:
            yield
        finally:
            self._give_back(namespace, scope, account, cost, Lane.BACKGROUND)

    async def _take(self, namespace: str, scope: bytes, cost: int, job: str | None, seconds: float) -> _Account:
        lane = Lane.FOREGROUND if job is None else Lane.BACKGROUND
        most = self._permits if job is None else self._background_permits
        if not 1 <= cost <= most:
            raise ValueError(f"a {lane.value} read takes 1..{most} permits, not {cost}")
        account = self._accounts.setdefault((namespace, scope), _Account())
        if account.waiting >= WAITERS_MAX:
            raise PermitTimeoutError(f"{WAITERS_MAX} reads of namespace '{namespace}' wait for the upstream already")
        waiter = _Waiter(cost)
        if job is None:
            account.foreground.append(waiter)
        else:
            account.jobs.setdefault(job, deque()).append(waiter)
        account.waiting += 1
        started = self._now()
        self._grant(account)
        try:
            async with asyncio.timeout(seconds):
                await waiter.granted
        except BaseException as error:
            if waiter.granted.done() and not waiter.granted.cancelled():
                # Granted and cancelled in one turn of the loop.
                self._give_back(namespace, scope, account, cost, lane)
            else:
                self._withdraw(namespace, scope, account, waiter, job)
            self._metrics.observe_permit_wait(lane.value, self._now() - started, granted=False)
            if isinstance(error, TimeoutError):
                text = f"no permit for a read of namespace '{namespace}' came free within {seconds:g} s"
                raise PermitTimeoutError(text) from error
            raise
        self._metrics.observe_permit_wait(lane.value, self._now() - started, granted=True)
        return account

    def _grant(self, account: _Account) -> None:
        """Hands out what is free: requests first, then the jobs in turn. Nobody overtakes one that needs more."""
        while (first := _first(account.foreground)) is not None and account.held + first.cost <= self._permits:
            self._hand(account, account.foreground.popleft(), Lane.FOREGROUND)
        while account.jobs:
            job, queue = next(iter(account.jobs.items()))
            first = _first(queue)
            if first is not None:
                over = account.background + first.cost > self._background_permits
                if over or account.held + first.cost > self._permits:
                    return
                self._hand(account, queue.popleft(), Lane.BACKGROUND)
            if queue:
                account.jobs.move_to_end(job)
            else:
                del account.jobs[job]

    @staticmethod
    def _hand(account: _Account, waiter: _Waiter, lane: Lane) -> None:
        account.waiting -= 1
        account.held += waiter.cost
        if lane is Lane.BACKGROUND:
            account.background += waiter.cost
        waiter.granted.set_result(None)

    def _give_back(self, namespace: str, scope: bytes, account: _Account, cost: int, lane: Lane) -> None:
        account.held -= cost
        if lane is Lane.BACKGROUND:
            account.background -= cost
        self._after(namespace, scope, account)

    def _withdraw(self, namespace: str, scope: bytes, account: _Account, waiter: _Waiter, job: str | None) -> None:
        account.waiting -= 1
        queue = account.foreground if job is None else account.jobs.get(job, deque())
        # A turn of others may have passed it over already.
        if waiter in queue:
            queue.remove(waiter)
        if job is not None and not account.jobs.get(job, True):
            del account.jobs[job]
        self._after(namespace, scope, account)

    def _after(self, namespace: str, scope: bytes, account: _Account) -> None:
        self._grant(account)
        if account.idle:
            self._accounts.pop((namespace, scope), None)


def _first(queue: deque[_Waiter]) -> _Waiter | None:
    """The first that still waits; those who left are dropped on the way."""
    while queue and queue[0].granted.cancelled():
        queue.popleft()
    return queue[0] if queue else None
