"""What the tests of the document cache share."""

from collections.abc import Awaitable, Callable
from typing import Any

from hevlayer.errors import CacheUnavailableError
from hevlayer.stores.doccache_engine import Engine

UNKNOWN_SECONDS = 120.0
TTL_SECONDS = 1_000.0

OpenEngine = Callable[[], Awaitable[Engine]]


class FailingEngine:
    """Passes calls on but for the operations that fail, and notes them all."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.failing: set[str] = set()
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.engine, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            if name in self.failing:
                raise CacheUnavailableError("injected")
            return await method(*arguments, **options)

        return call
