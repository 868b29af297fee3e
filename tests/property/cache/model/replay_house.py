"""The real policies over a real engine, each engine call of which waits until it is told how to end.

A history of the model says which call is made when, and which of them fails. So an actor (a write, a read, a gateway's
upkeep) is a task that stops at every call; `advance` lets it go on to the next one.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from hevlayer.errors import CacheUnavailableError
from hevlayer.stores.doccache import DocumentCache
from hevlayer.stores.doccache_embedded import EmbeddedEngine
from hevlayer.stores.doccache_engine import Engine
from hevlayer.stores.doccache_shared import SharedDebts
from hevlayer.testing.clock import FakeClock
from hevlayer.testing.debt_board import MemoryDebtBoard
from hevlayer.testing.doccache_twin import TwinEngine, TwinStore

UNKNOWN_SECONDS = 120.0
TTL_SECONDS = 1e9
CAPACITY_BYTES = 64 << 20
CALL_SECONDS = 30.0
# The calls of an engine that the model knows as steps.
GATED = frozenset({"mark", "settle", "fill", "fill_page", "owe", "take_over"})
QUIET_ROUNDS = 12
FLYING_PAUSE_SECONDS = 0.0005
# An actor that does not end after so many calls of its own never will.
CALLS_MAX = 100
WAIT_SECONDS = 0.5

_actor: contextvars.ContextVar["Actor"] = contextvars.ContextVar("actor")


class Actor:
    """A task, and the engine call that it waits to make."""

    def __init__(self, house: "House", gateway: int, work: Coroutine[Any, Any, Any]) -> None:
        self.house = house
        self.gateway = gateway
        self.waits_at = ""
        self._goes: asyncio.Future[bool] | None = None
        token = _actor.set(self)
        self.task = asyncio.ensure_future(work)
        _actor.reset(token)
        house.actors = [each for each in house.actors if not each.is_done]
        house.actors.append(self)

    @property
    def is_done(self) -> bool:
        return self.task.done()

    async def stop_at(self, name: str) -> bool:
        """Returns: whether the call is to work."""
        self.waits_at = name
        self._goes = asyncio.get_running_loop().create_future()
        return await self._goes

    async def go(self, *, works: bool = True) -> None:
        """Makes the call that it waits at."""
        assert self._goes is not None
        self.waits_at = ""
        self._goes.set_result(works)
        await self.house.settle()

    async def advance(self, names: tuple[str, ...], *, works: bool) -> bool:
        """Makes calls until one of these names was made. Returns: whether there was one."""
        for _ in range(CALLS_MAX):
            await self.house.settle()
            if not self.waits_at:
                return False
            found = self.waits_at in names
            await self.go(works=works or not found)
            if found:
                return True
        raise AssertionError(f"an actor calls {names} for ever")

    async def finish(self) -> Any:
        """Makes all its calls; who holds a lock that it waits for makes theirs."""
        for _ in range(CALLS_MAX):
            await self.house.settle()
            if self.is_done:
                return self.task.result()
            if self.waits_at:
                await self.go()
                continue
            others = [each for each in self.house.actors if each.gateway == self.gateway and each.waits_at]
            if others:
                await others[0].go()
            else:
                await self.house.clock.advance(WAIT_SECONDS)
        raise AssertionError("an actor does not end")

    async def die(self) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,))


class GatedEngine:
    """An engine whose calls wait to be let go when an actor makes them; one that fails may take effect later."""

    def __init__(self, house: "House", engine: Engine) -> None:
        self.house = house
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.engine, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def call(*arguments: Any, **options: Any) -> Any:
            actor = _actor.get(None)
            # The engine may have been opened anew while the call waited.
            make = lambda: getattr(self, f"do_{name}", getattr(self.engine, name))(*arguments, **options)  # noqa: E731
            if actor is not None and name in GATED and not await actor.stop_at(name):
                self.house.late.append((name, make))
                raise CacheUnavailableError("injected")
            return await self.house.fly(make())

        return call


Policy = Callable[..., DocumentCache]


class House:
    """Some gateways over one engine: `directory` for the embedded one, None for the twin."""

    def __init__(
        self,
        gateways: int,
        directory: Path | None = None,
        *,
        policy: Policy = DocumentCache,
        engine: type[GatedEngine] = GatedEngine,
        has_board: bool = False,
    ) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.store = TwinStore(self.clock, ttl_seconds=TTL_SECONDS, unknown_write_seconds=UNKNOWN_SECONDS)
        self.board = MemoryDebtBoard(self.clock) if has_board else None
        self.actors: list[Actor] = []
        self.late: list[tuple[str, Callable[[], Awaitable[Any]]]] = []
        self._flying = 0
        self._policy = policy
        self._gated = engine
        self.engines = [engine(self, self._open()) for _ in range(gateways)]
        self.shared: list[SharedDebts | None] = [None] * gateways
        self.caches = [self._cache(number) for number in range(gateways)]

    def _open(self) -> Engine:
        if self.directory is None:
            return TwinEngine(self.store)
        return EmbeddedEngine.open(
            self.directory,
            self.clock,
            upstream="https://upstream",
            capacity_bytes=CAPACITY_BYTES,
            ttl_seconds=TTL_SECONDS,
            timeout_seconds=CALL_SECONDS,
            unknown_write_seconds=UNKNOWN_SECONDS,
        )

    def _cache(self, number: int) -> DocumentCache:
        board = self.board
        shared = self.shared[number] = None if board is None else SharedDebts(board, self.clock)
        engine: Any = self.engines[number]
        return self._policy(engine, self.clock, unknown_write_seconds=UNKNOWN_SECONDS, shared_debts=shared)

    # --- how it moves ------------------------------------------------------------------------------------------------

    async def fly(self, call: Awaitable[Any]) -> Any:
        self._flying += 1
        try:
            return await call
        finally:
            self._flying -= 1

    async def settle(self) -> None:
        """Until every task waits: for a call to be let go, a lock or the clock."""
        rounds = 0
        while rounds < QUIET_ROUNDS and not all(actor.waits_at or actor.is_done for actor in self.actors):
            await asyncio.sleep(FLYING_PAUSE_SECONDS if self._flying else 0)
            rounds = 0 if self._flying else rounds + 1

    def start(self, gateway: int, work: Coroutine[Any, Any, Any]) -> Actor:
        return Actor(self, gateway, work)

    async def take_effect(self, names: tuple[str, ...]) -> None:
        """A call that failed takes effect after all."""
        for number, (name, call) in enumerate(self.late):
            if name in names:
                del self.late[number]
                # Its gateway may have died since.
                with contextlib.suppress(CacheUnavailableError):
                    await call()
                return

    async def look(self, number: int) -> None:
        shared = self.shared[number]
        if shared is not None:
            await shared.look_once()

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    async def die(self, number: int) -> None:
        """A gateway ends without a word and another one takes its place."""
        for actor in [each for each in self.actors if each.gateway == number]:
            self.actors.remove(actor)
            await actor.die()
        dead = self.engines[number]
        if self.directory is None:
            self.store.crash(self.caches[number]._owner)
        else:
            await dead.engine.close()
        self.engines[number] = self._gated(self, self._open())
        self.caches[number] = self._cache(number)

    async def forget(self) -> None:
        """Everything that was kept is lost, open writes as well."""
        if self.directory is None:
            self.store.forget()
            return
        for gated in self.engines:
            await gated.engine.close()
        index = self.directory / "data.mdb"
        index.write_bytes(index.read_bytes()[: index.stat().st_size // 3])
        for gated in self.engines:
            gated.engine = self._open()

    async def restart(self) -> None:
        """The engine is closed and opened again under the gateways."""
        if self.directory is not None:
            for gated in self.engines:
                await gated.engine.close()
            for gated in self.engines:
                gated.engine = self._open()

    async def evict(self, namespace: str) -> None:
        """The rows of a namespace are lost for want of space."""
        engine = self.engines[0].engine
        await engine.limit(namespace, 1)
        await engine.maintain()
        await engine.limit(namespace, None)

    # --- between histories -------------------------------------------------------------------------------------------

    async def recover(self, seconds: float) -> None:
        """Everything that was begun ends, nothing fails any more, and `seconds` later nothing is owed."""
        self.late.clear()
        for actor in self.actors:
            await actor.finish()
        self.actors.clear()
        for _ in range(3):
            self.clock.move(seconds)
            for number, cache in enumerate(self.caches):
                await self.look(number)
                await cache.maintain()
        assert not any(cache.debts for cache in self.caches), "what is owed is never repaid"

    async def close(self) -> None:
        for actor in self.actors:
            await actor.die()
        for gated in self.engines:
            await gated.engine.close()
