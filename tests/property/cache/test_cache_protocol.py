"""No interleaving of writes, reads, failures, evictions and restarts shows a row from before an acknowledged write.

The upstream is a dictionary that may refuse, delay, commit late or lose its answer. Every step of every writer and
reader is a rule of its own, so that Hypothesis interleaves them as it likes.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache import DocumentCache, WriteOutcome, WriteToken
from hevlayer.stores.doccache_embedded import EmbeddedEngine
from hevlayer.testing.clock import FakeClock

T = TypeVar("T")
Row = dict[str, int]

NAMESPACE = "ns"
IDS = ["a", "b", "c"]
KINDS = ["upsert", "upsert", "patch", "delete"]
UNKNOWN_SECONDS = 120.0
TTL_SECONDS = 400.0
CAPACITY_BYTES = 1 << 20
PLAIN = DocProjection()


def key_of(name: str) -> bytes:
    return b"\x02" + name.encode()


class FailingEngine:
    """Passes calls on, and fails the next of them: before they have their effect, or after."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self.engine = engine
        self.failures: list[bool] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.engine, name)
        # A process that cannot note what it owes, on a disk that then comes back after a crash, is out of scope.
        if name in ("owe", "close", "stats", "facts"):
            return method

        async def call(*arguments: Any, **options: Any) -> Any:
            if not self.failures:
                return await method(*arguments, **options)
            if self.failures.pop():
                await method(*arguments, **options)
            raise CacheUnavailableError("injected")

        return call


@dataclass
class Write:
    token: WriteToken
    changes: dict[str, Row | None]
    whole: bool
    patch: bool = False
    committed: bool = False
    committed_at: dict[str, int] = field(default_factory=dict)
    late_until: float = 0.0


@dataclass
class Read:
    name: str
    oldest: list[int]
    ticket: int
    asked: bool = False
    rows: DocRows | None = None


class CacheProtocol(RuleBasedStateMachine):
    hits = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(prefix="hevlayer-doccache-"))
        self.clock = FakeClock()
        self.version = 0
        # Every state that an id had upstream, in order; None for absent.
        self.history: dict[str, list[Row | None]] = {name: [{"one": 0, "two": 0}] for name in IDS}
        self.acknowledged = dict.fromkeys(IDS, 0)
        self.writes: list[Write] = []
        self.late: list[Write] = []
        self.reads: list[Read] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        engine = EmbeddedEngine.open(
            self.directory,
            self.clock,
            upstream="https://upstream",
            capacity_bytes=CAPACITY_BYTES,
            ttl_seconds=TTL_SECONDS,
            timeout_seconds=30.0,
            unknown_write_seconds=UNKNOWN_SECONDS,
        )
        self.engine = FailingEngine(engine)
        self.cache = DocumentCache(self.engine, self.clock, unknown_write_seconds=UNKNOWN_SECONDS)

    def teardown(self) -> None:
        if hasattr(self, "cache"):
            self.run(self.cache.close())
        self.runner.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- writers --------------------------------------------------------------------------------------------------

    @rule(
        names=st.lists(st.sampled_from(IDS), min_size=1, max_size=2, unique=True),
        kind=st.sampled_from(KINDS),
        whole=st.sampled_from([False, False, False, False, False, True]),
    )
    def begin_write(self, names: list[str], kind: str, whole: bool) -> None:
        self.version += 1
        row: Row | None = None if kind == "delete" else {"one": self.version, "two": self.version}
        if kind == "patch":
            row = {"one": self.version}
        keys = None if whole else [key_of(name) for name in names]
        token = self.run(self.cache.begin_write(NAMESPACE, keys))
        self.writes.append(Write(token, dict.fromkeys(names, row), whole, kind == "patch"))

    @rule(name=st.sampled_from(IDS), kind=st.sampled_from(KINDS), refused=st.booleans())
    def write_at_once(self, name: str, kind: str, refused: bool) -> None:
        self.begin_write([name], kind, False)
        write = self.writes[-1]
        if not refused:
            self.commit(write)
        self.answer(write, lost=False)

    def commit(self, write: Write) -> None:
        for name, row in write.changes.items():
            before = self.history[name][-1]
            if write.patch:
                row = None if before is None else {**before, **(row or {})}
            self.history[name].append(row)
            write.committed_at[name] = len(self.history[name]) - 1
        write.committed = True

    @precondition(lambda self: any(not write.committed for write in self.writes))
    @rule(data=st.data())
    def upstream_commits(self, data: st.DataObject) -> None:
        self.commit(data.draw(st.sampled_from([write for write in self.writes if not write.committed])))

    @precondition(lambda self: self.writes)
    @rule(data=st.data(), lost=st.booleans())
    def upstream_answers(self, data: st.DataObject, lost: bool) -> None:
        """Acknowledged if it was committed, refused if not; or the answer is lost and it may commit late."""
        self.answer(data.draw(st.sampled_from(self.writes)), lost)

    def answer(self, write: Write, lost: bool) -> None:
        self.writes.remove(write)
        if lost:
            write.late_until = self.clock.monotonic() + UNKNOWN_SECONDS
            self.late.append(write)
            self.run(self.cache.settle(write.token, WriteOutcome.UNKNOWN))
        elif write.committed:
            self.run(self.cache.settle(write.token, WriteOutcome.APPLIED))
            for name, position in write.committed_at.items():
                self.acknowledged[name] = max(self.acknowledged[name], position)
        else:
            self.run(self.cache.settle(write.token, WriteOutcome.REFUSED))

    @precondition(lambda self: any(not write.committed for write in self.late))
    @rule(data=st.data())
    def upstream_commits_late(self, data: st.DataObject) -> None:
        self.commit(data.draw(st.sampled_from([write for write in self.late if not write.committed])))

    def namespace_is_deleted(self) -> None:
        """Through us."""
        write = Write(self.run(self.cache.begin_write(NAMESPACE, None)), dict.fromkeys(IDS, None), True)
        self.commit(write)
        self.run(self.cache.settle(write.token, WriteOutcome.APPLIED))
        self.acknowledged.update(write.committed_at)

    def namespace_is_made_anew(self) -> None:
        """Around us; we are told afterwards."""
        for name in IDS:
            self.version += 1
            self.history[name].append({"one": self.version, "two": self.version})
        self.run(self.cache.new_epoch(NAMESPACE))
        self.acknowledged = {name: len(self.history[name]) - 1 for name in IDS}

    # --- readers --------------------------------------------------------------------------------------------------

    def check(self, name: str, oldest: int, found: Row | None) -> None:
        allowed = self.history[name][oldest:]
        assert found in allowed, f"{name}: read {found}, allowed {allowed}"

    @rule(name=st.sampled_from(IDS))
    def begin_read(self, name: str) -> None:
        oldest = self.acknowledged[name]
        found = self.run(self.cache.lookup(NAMESPACE, key_of(name), PLAIN, None))
        if isinstance(found, bytes):
            CacheProtocol.hits += 1
            self.check(name, oldest, orjson.loads(found)["attributes"])
            return
        for read in self.reads:
            if read.name == name and read.ticket == found.ticket != 0:
                read.oldest.append(oldest)
                return
        self.reads.append(Read(name, [oldest], found.ticket))

    @rule(name=st.sampled_from(IDS))
    def read_at_once(self, name: str) -> None:
        reads, self.reads = self.reads, []
        self.begin_read(name)
        for read in list(self.reads):
            self.ask(read)
            self.end(read)
        self.reads = reads

    @precondition(lambda self: any(not read.asked for read in self.reads))
    @rule(data=st.data())
    def upstream_reads(self, data: st.DataObject) -> None:
        self.ask(data.draw(st.sampled_from([read for read in self.reads if not read.asked])))

    def ask(self, read: Read) -> None:
        row = self.history[read.name][-1]
        rows = [] if row is None else [{"id": read.name, **row}]
        read.rows = DocRows(orjson.dumps({"rows": rows}), [])
        read.asked = True

    @precondition(lambda self: any(read.asked for read in self.reads))
    @rule(data=st.data())
    def end_read(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from([read for read in self.reads if read.asked])))

    def end(self, read: Read) -> None:
        self.reads.remove(read)
        assert read.rows is not None
        self.run(self.cache.fill(NAMESPACE, [key_of(read.name)], [read.ticket], read.rows))
        document = read.rows.document(key_of(read.name), PLAIN)
        found = None if document is None else orjson.loads(document)["attributes"]
        for oldest in read.oldest:
            self.check(read.name, oldest, found)

    @rule(names=st.lists(st.sampled_from(IDS), min_size=1, unique=True))
    def read_a_batch(self, names: Sequence[str]) -> None:
        keys = [key_of(name) for name in names]
        batch = self.run(self.cache.lookup_many(NAMESPACE, keys, PLAIN))
        for name, document, ticket in zip(names, batch.documents, batch.tickets, strict=True):
            if document is not None:
                self.check(name, self.acknowledged[name], orjson.loads(document)["attributes"])
            else:
                self.reads.append(Read(name, [self.acknowledged[name]], ticket))

    # --- what happens to the cache ----------------------------------------------------------------------------------

    @rule(failures=st.lists(st.booleans(), min_size=1, max_size=6))
    def cache_fails(self, failures: list[bool]) -> None:
        self.engine.failures = failures

    @rule(data=st.data())
    def something_rare_happens(self, data: st.DataObject) -> None:
        data.draw(
            st.sampled_from(
                [
                    self.cache_recovers,
                    self.time_passes,
                    self.cache_evicts,
                    self.namespace_is_deleted,
                    self.namespace_is_made_anew,
                    self.restart_cleanly,
                    self.restart_after_a_crash,
                ]
            )
        )()

    def cache_recovers(self) -> None:
        self.engine.failures = []
        self.run(self.cache.maintain())

    def cache_evicts(self) -> None:
        """Rows of another namespace push out what was not read lately."""
        self.run(self.push_out())

    async def push_out(self) -> None:
        engine = self.engine.engine
        body = "x" * 60_000
        for number in range(30):
            rows = DocRows(orjson.dumps({"rows": [{"id": f"{self.version}-{number}", "body": body}]}), [])
            await engine.fill_page("other", rows, await engine.begin_fill("other"))
            await engine.maintain()

    @rule(seconds=st.sampled_from([1.0, 6.0, 60.0]))
    def a_little_time_passes(self, seconds: float) -> None:
        self.time_passes(seconds)

    def time_passes(self, seconds: float = UNKNOWN_SECONDS) -> None:
        self.clock.move(seconds)
        now = self.clock.monotonic()
        for write in self.late:
            if write.late_until <= now:
                # What has taken effect by now must show, although nobody ever answered.
                for name, position in write.committed_at.items():
                    self.acknowledged[name] = max(self.acknowledged[name], position)
        self.late = [write for write in self.late if write.late_until > now]

    def die(self) -> None:
        """Writers and readers die with the process; what was under way upstream may commit for a while."""
        for write in self.writes:
            write.late_until = self.clock.monotonic() + UNKNOWN_SECONDS
            # Settled by nobody, and not by its own end of life in a process that is no more.
            write.token.settled = True
        self.late += self.writes
        self.writes = []
        self.reads = []

    def restart_cleanly(self) -> None:
        self.run(self.cache.close())
        self.die()
        self.start()

    def restart_after_a_crash(self) -> None:
        self.engine.engine._threads.shutdown()
        del self.engine.engine._native
        self.die()
        self.start()

    # --- one step of a random walk -----------------------------------------------------------------------------------

    def step(self, random: Random, storm: float) -> None:
        """A step as the rules above make it, with weights under which rows live long enough to be served."""
        name, kind = random.choice(IDS), random.choice(KINDS)
        uncommitted = [write for write in self.writes if not write.committed]
        late = [write for write in self.late if not write.committed]
        asked = [read for read in self.reads if read.asked]
        unasked = [read for read in self.reads if not read.asked]
        steps: list[tuple[float, Callable[[], object]]] = [
            (8, lambda: self.begin_read(name)),
            (8, lambda: self.read_at_once(name)),
            (2, lambda: self.read_a_batch(IDS)),
            (2, lambda: self.write_at_once(name, kind, random.random() < 0.3)),
            (2, lambda: self.begin_write([name], kind, random.random() < 0.05)),
            (0.3 * storm, lambda: self.cache_fails([random.random() < 0.5 for _ in range(random.randint(1, 3))])),
            (1.0, self.cache_recovers),
            (0.5, lambda: self.time_passes(random.choice([1.0, 6.0, 60.0, UNKNOWN_SECONDS]))),
            (0.03, self.cache_evicts),
            (0.1, self.namespace_is_deleted),
            (0.1, self.namespace_is_made_anew),
            (0.03 * storm, self.restart_cleanly),
            (0.1 * storm, self.restart_after_a_crash),
        ]
        if uncommitted:
            steps.append((4, lambda: self.commit(random.choice(uncommitted))))
        if self.writes:
            steps.append((4, lambda: self.answer(random.choice(self.writes), random.random() < 0.1)))
        if late:
            steps.append((2, lambda: self.commit(random.choice(late))))
        if unasked:
            steps.append((8, lambda: self.ask(random.choice(unasked))))
        if asked:
            steps.append((8, lambda: self.end(random.choice(asked))))
        random.choices([call for _, call in steps], [weight for weight, _ in steps])[0]()


CacheProtocol.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
TestCacheProtocol = CacheProtocol.TestCase

WALK_STEPS = 4_000
# Without rows that are served, a walk would show nothing.
HITS_MIN = 15


@pytest.mark.parametrize("storm", [1.0, 8.0])
@pytest.mark.parametrize("seed", range(2))
def test_a_long_walk(seed: int, storm: float) -> None:
    """In calm weather rows live long; in a storm the cache fails and dies often."""
    random = Random(seed)
    CacheProtocol.hits = 0
    machine = CacheProtocol()
    machine.start()
    try:
        for _ in range(WALK_STEPS):
            machine.step(random, storm)
    finally:
        machine.teardown()
    assert CacheProtocol.hits > HITS_MIN
