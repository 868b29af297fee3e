"""Three gateways' policies over one engine: no history shows a row from before an acknowledged write.

The upstream is a dictionary that may refuse, delay, commit late or lose its answer; calls of the engine fail before,
after or long after their effect; gateways die; the engine evicts and forgets. It may also fail to be told of debts:
then the gateways tell each other on a board that they look at now and then. Writes leave their rows in the cache,
patches are composed with the row beneath, writes by filter tell their ids or do not.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import orjson
import pytest

from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache import DocumentCache, WriteOutcome, WriteToken
from hevlayer.stores.doccache_embedded import EmbeddedEngine
from hevlayer.stores.doccache_engine import Engine
from hevlayer.stores.doccache_shared import SharedDebts
from hevlayer.testing.clock import FakeClock
from hevlayer.testing.debt_board import MemoryDebtBoard
from hevlayer.testing.doccache_twin import TwinEngine, TwinStore

T = TypeVar("T")
Row = dict[str, int]

NAMESPACE = "ns"
IDS = ["a", "b", "c"]
KINDS = ["upsert", "upsert", "patch", "delete", "by_filter", "by_filter_ids"]
GATEWAYS = 3
UNKNOWN_SECONDS = 120.0
WRITE_SECONDS = 60.0
# In which a walk whose gateways wait for each other may leave a write open.
WAITING_WRITE_SECONDS = 300.0
WAIT_STEP_SECONDS = 0.5
TTL_SECONDS = 400.0
WALK_STEPS = 4_000
EMBEDDED_STEPS = 2_000
BOARD_WALKS = 3
HITS_MIN = 10
PLAIN = DocProjection()


def key_of(name: str) -> bytes:
    return b"\x02" + name.encode()


def rows_of(rows: dict[str, Row | None]) -> DocRows:
    found = [{"id": name, **row} for name, row in rows.items() if row is not None]
    return DocRows(orjson.dumps({"rows": found}), [])


def read_rows(rows: DocRows) -> dict[str, Row]:
    documents = {key[1:].decode(): rows.document(key, PLAIN) for key in rows.keys()}  # noqa: SIM118 -- not a mapping
    return {name: orjson.loads(text)["attributes"] for name, text in documents.items() if text is not None}


class FailingEngine:
    """Passes calls on, and fails the next of them: before their effect, after it, or so that it comes later."""

    def __init__(self, engine: Engine, *, owes: bool = True) -> None:
        """`owes`: it can always be told of debts."""
        self.engine = engine
        self.owes = owes
        self.failures: list[str] = []
        self.late: list[Callable[[], Coroutine[Any, Any, object]]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.engine, name)
        # An engine that can be told neither of a write nor of a debt needs a board of debts beside it.
        if name in ("close", "stats", "loses_marks") or (name == "owe" and self.owes):
            return method

        async def call(*arguments: Any, **options: Any) -> Any:
            if not self.failures:
                return await method(*arguments, **options)
            how = self.failures.pop()
            if how == "after":
                await method(*arguments, **options)
            elif how == "late" and name != "owe":
                self.late.append(lambda: method(*arguments, **options))
            raise CacheUnavailableError("injected")

        return call


@dataclass
class Write:
    gateway: int
    kind: str
    names: list[str]
    version: int
    token: WriteToken
    committed_at: dict[str, int] | None = None
    """Positions in the history of the ids that it changed; None before its commit."""
    late_until: float = 0.0
    forgotten: bool = False
    """Its mark was lost: nobody is promised that it shows, unless it is acknowledged."""


@dataclass
class Read:
    gateway: int
    names: list[str]
    oldest: dict[str, int]
    tickets: list[int]
    page: bool = False
    rows: dict[str, Row | None] | None = None


@dataclass
class House:
    """One engine, one upstream and some gateways."""

    random: Random
    storm: float
    directory: Path | None = None
    """Where the embedded engine keeps its rows; None: the twin, which can also forget, evict and see a gateway die."""
    has_board: bool = False
    """Whether the engine may fail to be told of debts, and the gateways have a board."""
    loop: asyncio.Runner = field(default_factory=asyncio.Runner)
    clock: FakeClock = field(default_factory=FakeClock)
    version: int = 0
    hits: int = 0
    hits_of_writes: int = 0

    def __post_init__(self) -> None:
        self.store = TwinStore(self.clock, ttl_seconds=TTL_SECONDS, unknown_write_seconds=UNKNOWN_SECONDS)
        self.history: dict[str, list[Row | None]] = {name: [{"one": 0, "two": 0}] for name in IDS}
        self.acknowledged = dict.fromkeys(IDS, 0)
        self.writes: list[Write] = []
        self.late: list[Write] = []
        self.reads: list[Read] = []
        self.engines: list[FailingEngine] = []
        self.caches: list[DocumentCache] = []
        self.read_rows: set[tuple[str, int]] = set()
        self.board = MemoryDebtBoard(self.clock)
        self.shared: list[SharedDebts | None] = []
        for _ in range(GATEWAYS):
            self.open()

    def make(self) -> Engine:
        if self.directory is None:
            return TwinEngine(self.store)
        return EmbeddedEngine.open(
            self.directory,
            self.clock,
            upstream="https://upstream",
            capacity_bytes=64 << 20,
            ttl_seconds=TTL_SECONDS,
            timeout_seconds=30.0,
            unknown_write_seconds=UNKNOWN_SECONDS,
        )

    def open(self) -> None:
        engine = FailingEngine(self.make(), owes=not self.has_board)
        self.engines.append(engine)
        self.caches.append(self.policy(engine))

    def policy(self, engine: FailingEngine) -> DocumentCache:
        """A gateway's that has just started."""
        shared = SharedDebts(self.board, self.clock) if self.has_board else None
        self.shared.append(shared)
        return DocumentCache(engine, self.clock, unknown_write_seconds=UNKNOWN_SECONDS, shared_debts=shared)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        if not self.has_board:
            return self.loop.run(work)
        result = self.loop.run(self.wait(work))
        self.end_late()
        return result

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Time goes on while a gateway waits for the others, some of which look at the board, some do not."""
        task = asyncio.ensure_future(work)
        await self.clock.settle()
        while not task.done():
            await self.clock.advance(WAIT_STEP_SECONDS)
            await self.look()
        return task.result()

    async def look(self) -> None:
        for shared in self.shared:
            if shared is not None and self.random.random() < 0.7:
                await shared.look_once()

    @property
    def write_seconds(self) -> float:
        return WAITING_WRITE_SECONDS if self.has_board else WRITE_SECONDS

    def close(self) -> None:
        for cache in self.caches:
            self.run(cache.close())
        self.loop.close()

    # --- writes ------------------------------------------------------------------------------------------------------

    def begin_write(self, kind: str, names: list[str]) -> Write:
        self.version += 1
        gateway = self.random.randrange(GATEWAYS)
        keys = None if kind.startswith("by_filter") else [key_of(name) for name in names]
        token = self.run(self.caches[gateway].begin_write(NAMESPACE, keys, self.write_seconds))
        write = Write(gateway, kind, names, self.version, token)
        self.writes.append(write)
        return write

    def write_at_once(self) -> None:
        write = self.begin_write(self.random.choice(KINDS), self.random.sample(IDS, self.random.choice([1, 1, 2])))
        if self.random.random() < 0.8:
            self.commit(write)
        self.answer(write, lost=False)

    def commit(self, write: Write) -> None:
        write.committed_at = {}
        for name in write.names:
            before = self.history[name][-1]
            after: Row | None = {"one": write.version, "two": write.version}
            if write.kind == "delete":
                after = None
            elif write.kind != "upsert":
                after = None if before is None else {**before, "one": write.version}
            if after is None and before is None:
                continue
            self.history[name].append(after)
            write.committed_at[name] = len(self.history[name]) - 1

    def answer(self, write: Write, *, lost: bool) -> None:
        self.writes.remove(write)
        cache = self.caches[write.gateway]
        if lost:
            write.late_until = self.clock.monotonic() + UNKNOWN_SECONDS
            self.late.append(write)
            self.run(cache.settle(write.token, WriteOutcome.UNKNOWN))
        elif write.committed_at is None:
            self.run(cache.settle(write.token, WriteOutcome.REFUSED))
        else:
            self.settle(cache, write, write.committed_at)
            for name, position in write.committed_at.items():
                self.acknowledged[name] = max(self.acknowledged[name], position)

    def settle(self, cache: DocumentCache, write: Write, committed_at: dict[str, int]) -> None:
        changed = [key_of(name) for name in committed_at] if write.kind == "by_filter_ids" else None
        rows: dict[str, Row | None] = {}
        deleted: list[bytes] = []
        if write.kind == "upsert":
            rows = {name: {"one": write.version, "two": write.version} for name in write.names}
        elif write.kind == "delete":
            deleted = [key_of(name) for name in write.names]
        elif write.kind == "patch":
            beneath = self.run(cache.beneath(write.token))
            if beneath is not None:
                rows = {name: {**row, "one": write.version} for name, row in read_rows(beneath).items()}
        self.run(cache.settle(write.token, WriteOutcome.APPLIED, changed=changed, rows=rows_of(rows), deleted=deleted))

    # --- reads -------------------------------------------------------------------------------------------------------

    def check(self, name: str, oldest: int, found: Row | None) -> None:
        allowed = self.history[name][oldest:]
        assert found in allowed, f"{name}: read {found}, allowed {allowed}"

    def begin_read(self) -> Read | None:
        gateway = self.random.randrange(GATEWAYS)
        cache = self.caches[gateway]
        names = self.random.sample(IDS, self.random.choice([1, 1, 3]))
        oldest = {name: self.acknowledged[name] for name in names}
        batch = self.run(cache.lookup_many(NAMESPACE, [key_of(name) for name in names], PLAIN))
        missing = []
        for name, document in zip(names, batch.documents, strict=True):
            if document is None:
                missing.append(name)
                continue
            row = orjson.loads(document)["attributes"]
            self.check(name, oldest[name], row)
            self.hits += 1
            self.hits_of_writes += (name, row["one"]) not in self.read_rows
        if not missing:
            return None
        tickets = [ticket for ticket, found in zip(batch.tickets, batch.documents, strict=True) if found is None]
        for read in self.reads:
            shares = read.gateway == gateway and read.names == missing and read.tickets == tickets
            if shares and all(tickets) and not read.page:
                # It waits for the other's answer, which must be good enough for it too.
                read.oldest = {name: max(read.oldest[name], oldest[name]) for name in missing}
                return None
        read = Read(gateway, missing, {name: oldest[name] for name in missing}, tickets)
        self.reads.append(read)
        return read

    def begin_page(self) -> None:
        gateway = self.random.randrange(GATEWAYS)
        warming = self.run(self.caches[gateway].begin_warm(NAMESPACE))
        if warming is None:
            return
        ticket = self.run(self.caches[gateway].page_ticket(warming))
        read = Read(gateway, list(IDS), dict(self.acknowledged), [ticket], page=True)
        self.reads.append(read)

    def ask(self, read: Read) -> None:
        read.rows = {name: self.history[name][-1] for name in read.names}

    def end_read(self, read: Read) -> None:
        self.reads.remove(read)
        assert read.rows is not None
        cache = self.caches[read.gateway]
        rows = rows_of(read.rows)
        if read.page:
            warming = self.run(cache.begin_warm(NAMESPACE))
            if warming is not None:
                self.run(cache.put_page(warming, read.tickets[0], rows))
        else:
            self.run(cache.fill(NAMESPACE, [key_of(name) for name in read.names], read.tickets, rows))
        for name, row in read.rows.items():
            self.check(name, read.oldest[name], row)
            if row is not None:
                self.read_rows.add((name, row["one"]))

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def engine_fails(self) -> None:
        engine = self.random.choice(self.engines)
        engine.failures = self.random.choices(["before", "after", "late"], k=self.random.randint(1, 4))

    def late_call(self) -> None:
        engine = self.random.choice(self.engines)
        if engine.late:
            self.run(engine.late.pop(self.random.randrange(len(engine.late)))())

    def recover(self) -> None:
        number = self.random.randrange(GATEWAYS)
        self.engines[number].failures = []
        self.run(self.caches[number].maintain())

    def forget(self) -> None:
        self.store.forget()
        for write in [*self.writes, *self.late]:
            write.forgotten = True

    def evict(self) -> None:
        held = self.store.namespace(NAMESPACE)
        if held.rows:
            self.store.lose(held, self.random.choice(list(held.rows)))

    def new_epoch(self) -> None:
        """A namespace is deleted, through one of the gateways."""
        for name in IDS:
            self.history[name].append(None)
        self.run(self.random.choice(self.caches).new_epoch(NAMESPACE))
        self.acknowledged = {name: len(self.history[name]) - 1 for name in IDS}

    def die(self) -> None:
        """A gateway ends without a word; another takes its place. What it had sent may commit for a while."""
        number = self.random.randrange(GATEWAYS)
        for write in [each for each in self.writes if each.gateway == number]:
            self.writes.remove(write)
            write.late_until = self.clock.monotonic() + UNKNOWN_SECONDS
            write.token.settled = True
            self.late.append(write)
        self.reads = [read for read in self.reads if read.gateway != number]
        dead = self.caches[number]
        self.store.crash(dead._owner)
        # Calls of its that were under way may still arrive.
        engine, late = FailingEngine(TwinEngine(self.store), owes=not self.has_board), self.engines[number].late
        engine.late = late
        self.engines[number] = engine
        self.caches[number] = self.policy(engine)
        self.shared[number] = self.shared.pop()

    def time_passes(self) -> None:
        self.clock.move(self.random.choice([1.0, 6.0, 30.0, 130.0]))
        self.end_late()
        for write in list(self.writes):
            self.answer(write, lost=False)

    def end_late(self) -> None:
        now = self.clock.monotonic()
        # A write has ended for certain when its time is over, and must show although nobody ever answered.
        for write in self.late:
            if write.late_until <= now and not write.forgotten:
                for name, position in (write.committed_at or {}).items():
                    self.acknowledged[name] = max(self.acknowledged[name], position)
        self.late = [write for write in self.late if write.late_until > now]

    def step(self) -> None:
        random = self.random
        uncommitted = [write for write in self.writes if write.committed_at is None]
        late = [write for write in self.late if write.committed_at is None]
        unasked = [read for read in self.reads if read.rows is None]
        asked = [read for read in self.reads if read.rows is not None]
        steps: list[tuple[float, Callable[[], object]]] = [
            (12, self.begin_read),
            (1, self.begin_page),
            (2, lambda: self.begin_write(random.choice(KINDS), random.sample(IDS, random.choice([1, 1, 2])))),
            (4, self.write_at_once),
            (0.4 * self.storm, self.engine_fails),
            (0.4 * self.storm, self.late_call),
            (1.5, self.recover),
            (0.5, self.time_passes),
            (0.05, self.new_epoch),
        ]
        if self.has_board:
            steps += [
                (8, lambda: self.run(self.look())),
                (4, self.recover),
                (0.15, self.die),
                (self.storm, self.engine_fails),
            ]
        if self.directory is None:
            steps += [
                (0.2, self.evict),
                (0.02 * self.storm, self.forget),
                (0.05 * self.storm, self.die),
            ]
        if uncommitted:
            steps.append((4, lambda: self.commit(random.choice(uncommitted))))
        if self.writes:
            steps.append((4, lambda: self.answer(random.choice(self.writes), lost=random.random() < 0.05)))
        if late:
            steps.append((1, lambda: self.commit(random.choice(late))))
        if unasked:
            steps.append((8, lambda: self.ask(random.choice(unasked))))
        if asked:
            steps.append((8, lambda: self.end_read(random.choice(asked))))
        random.choices([call for _, call in steps], [weight for weight, _ in steps])[0]()


def walk(
    seed: int, storm: float, steps: int = WALK_STEPS, directory: Path | None = None, *, has_board: bool = False
) -> House:
    house = House(Random(seed), storm, directory, has_board)
    try:
        for _ in range(steps):
            house.step()
    finally:
        house.close()
    return house


@pytest.mark.parametrize("storm", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(2))
def test_no_walk_shows_a_stale_row(seed: int, storm: float) -> None:
    house = walk(seed, storm)
    # Without rows that are served, and rows that only a write has left, a walk shows nothing.
    assert house.hits > HITS_MIN
    assert house.hits_of_writes > HITS_MIN


@pytest.mark.parametrize("storm", [0.0, 1.0])
def test_no_walk_over_one_directory_shows_a_stale_row(storm: float, tmp_path: Path) -> None:
    house = walk(3, storm, EMBEDDED_STEPS, tmp_path)
    assert house.hits > HITS_MIN
    assert house.hits_of_writes > HITS_MIN


def test_no_walk_with_debts_that_only_a_board_knows_shows_a_stale_row() -> None:
    houses = [walk(seed, 1.0, has_board=True) for seed in range(BOARD_WALKS)]
    assert sum(house.hits for house in houses) > HITS_MIN
    assert sum(house.board.publications for house in houses) > BOARD_WALKS * HITS_MIN
    assert sum(house.board.removals for house in houses) > 0
