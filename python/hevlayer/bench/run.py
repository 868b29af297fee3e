"""A whole run: load the documents, wait for the index, warm up, measure in turns, clean up."""

import asyncio
import gc
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hevlayer.bench.data import Dataset
from hevlayer.bench.endpoint import BenchError, Endpoint
from hevlayer.bench.load import Lane, run_slice, slice_order
from hevlayer.bench.plan import BenchPlan
from hevlayer.bench.tally import TargetTally
from hevlayer.clock import Clock, Deadline

LOADERS = 4
INDEX_POLL_SECONDS = 0.5
CLEANUP_SECONDS = 30.0
SLICES_PER_PHASE_MIN = 4


@dataclass(slots=True)
class Progress:
    """Where a run is: `done` of `total`, in documents while loading and in seconds under load."""

    phase: str
    done: float
    total: float


Watcher = Callable[[Progress], None]
"""Called between requests of the preparation and between slices, never while a slice is measured."""


@dataclass(slots=True)
class BenchResult:
    """What a run measured, also when it was interrupted. `problems` are what failed beside the requests."""

    plan: BenchPlan
    namespaces: dict[str, str]
    started_at_ms: int
    targets: dict[str, TargetTally] = field(default_factory=dict)
    finished_at_ms: int = 0
    interrupted: bool = False
    indexed: bool = True
    problems: list[str] = field(default_factory=list)
    error: BenchError | None = None

    @property
    def operations(self) -> list[str]:
        """The operations that were planned, in the plan's order."""
        return [operation.value for operation, weight in self.plan.mix.items() if weight]


class BenchRun:
    """One run. `result` fills while it goes on."""

    def __init__(self, plan: BenchPlan, run_id: str, clock: Clock, watch: Watcher) -> None:
        """Args: run_id: makes the namespaces' names unique."""
        self._plan = plan
        self._clock = clock
        self._watch = watch
        names = {target.name: f"{plan.namespace_prefix}-{run_id}-{target.name}" for target in plan.targets}
        self.result = BenchResult(plan, names, clock.now_ms())

    async def run(self, stop: asyncio.Event) -> BenchResult:
        """Runs until the end, or until `stop` is set; in either case the namespaces go, unless they are to be kept."""
        async with self._endpoints() as endpoints:
            work = asyncio.create_task(self._work(endpoints))
            stopped = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
                self.result.interrupted = not work.done()
            finally:
                stopped.cancel()
                work.cancel()
                ended = (await asyncio.gather(work, stopped, return_exceptions=True))[0]
                if not self._plan.keep:
                    await self._clean_up(endpoints)
                for endpoint in endpoints:
                    self.result.targets[endpoint.target.name].requests["cleanup"] += endpoint.take_requests()
            if isinstance(ended, BenchError):
                self.result.error = ended
            elif isinstance(ended, Exception):
                raise ended
        self.result.finished_at_ms = self._clock.now_ms()
        return self.result

    @asynccontextmanager
    async def _endpoints(self) -> AsyncIterator[list[Endpoint]]:
        endpoints: list[Endpoint] = []
        try:
            for target in self._plan.targets:
                endpoints.append(Endpoint(target, self.result.namespaces[target.name], self._plan, self._clock))
                self.result.targets[target.name] = TargetTally()
            yield endpoints
        finally:
            for endpoint in endpoints:
                await endpoint.close()

    async def _work(self, endpoints: list[Endpoint]) -> None:
        plan = self._plan
        dataset = await asyncio.to_thread(Dataset, plan)
        try:
            await self._load(endpoints, dataset)
            self._book(endpoints, "load")
            await self._wait_for_index(endpoints)
        finally:
            self._book(endpoints, "index")
        # What the preparation left must not be collected in somebody's slice.
        gc.collect()
        gc.freeze()
        try:
            await self._phase(endpoints, dataset, "warm-up", plan.warm_up_seconds)
            await self._phase(endpoints, dataset, "measure", plan.duration_seconds)
        finally:
            gc.unfreeze()

    def _book(self, endpoints: list[Endpoint], phase: str) -> None:
        for endpoint in endpoints:
            self.result.targets[endpoint.target.name].requests[phase] += endpoint.take_requests()

    async def _load(self, endpoints: list[Endpoint], dataset: Dataset) -> None:
        """Writes every batch to each target, a few batches at a time."""
        total = self._plan.documents
        done = 0
        bodies = dataset.load_bodies()
        self._watch(Progress("load", 0, total))

        async def loader() -> None:
            nonlocal done
            for rows, body in bodies:
                for endpoint in endpoints:
                    begin = self._clock.monotonic()
                    await endpoint.write(body)
                    self.result.targets[endpoint.target.name].load_seconds += self._clock.monotonic() - begin
                done += rows
                self._watch(Progress("load", done, total))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(LOADERS):
                    group.create_task(loader())
        except ExceptionGroup as group:
            # One refusal stops the others; the first says why.
            raise group.exceptions[0] from None

    async def _wait_for_index(self, endpoints: list[Endpoint]) -> None:
        """Until every target says that nothing is left to index, or the plan's wait is over."""
        deadline = Deadline.after(self._clock, self._plan.index_wait_seconds)
        waiting = list(endpoints)
        while True:
            waiting = [endpoint for endpoint in waiting if not await endpoint.is_indexed()]
            remaining = deadline.remaining(self._clock)
            if not waiting:
                return
            self._watch(Progress("index", self._plan.index_wait_seconds - remaining, self._plan.index_wait_seconds))
            if not remaining:
                break
            await self._clock.sleep(min(INDEX_POLL_SECONDS, remaining))
        self.result.indexed = False
        names = ", ".join(endpoint.target.name for endpoint in waiting)
        self.result.problems.append(
            f"{names}: not indexed after {self._plan.index_wait_seconds:g} s; measured while the index was updating"
        )

    async def _phase(self, endpoints: list[Endpoint], dataset: Dataset, phase: str, seconds: float) -> None:
        """Gives the targets the load in turns until each has had `seconds` of it."""
        if not seconds:
            return
        lanes = {}
        for endpoint in endpoints:
            name = endpoint.target.name
            kept = self.result.targets[name]
            # The warm-up is counted, and its distributions thrown away.
            tally = kept if phase == "measure" else TargetTally(requests=kept.requests)
            arrivals = random.Random(f"arrivals {phase} {self._plan.seed}")  # noqa: S311 -- reproducible, not a secret
            lanes[name] = Lane(endpoint, dataset.calls(phase), arrivals, tally, phase)
        rounds = max(SLICES_PER_PHASE_MIN, math.ceil(seconds / self._plan.slice_seconds))
        length = seconds / rounds
        for number in range(rounds):
            self._watch(Progress(phase, number * length, seconds))
            for name in slice_order(list(lanes), number):
                await run_slice(lanes[name], self._plan, length, self._clock)
                gc.collect(0)
        self._watch(Progress(phase, seconds, seconds))

    async def _clean_up(self, endpoints: list[Endpoint]) -> None:
        """Deletes the namespaces; what cannot be deleted is named among the problems."""
        for endpoint in endpoints:
            if not endpoint.reached:
                continue
            try:
                async with asyncio.timeout(CLEANUP_SECONDS):
                    await endpoint.drop()
            except (BenchError, TimeoutError) as error:
                reason = str(error) or f"{endpoint.target.name}: no answer within {CLEANUP_SECONDS:g} s"
                self.result.problems.append(f"the namespace {endpoint.namespace} may be left behind: {reason}")
