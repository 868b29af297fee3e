"""The asynchronous client under the synchronous one's signatures, so that Ctrl-C ends a request that hangs.

The synchronous client waits outside of Python, where no signal reaches it; here the main thread waits for a future.
"""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, cast

from hevlayer.client import AsyncHevlayer, Hevlayer

CLOSE_SECONDS = 2.0


class Bridge:
    """An event loop on a thread of its own, and a client in it. `close` ends both."""

    def __init__(self, client: AsyncHevlayer) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="layer", daemon=True)
        self._thread.start()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*args: Any, **named: Any) -> Any:
            asked = method(*args, **named)
            return self._each(asked) if inspect.isasyncgen(asked) else self._result(asked)

        return call

    def _result(self, work: Coroutine[Any, Any, Any]) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _each(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        async def following() -> tuple[bool, Any]:
            try:
                return True, await anext(items)
            except StopAsyncIteration:
                return False, None

        while (found := self._result(following()))[0]:
            yield found[1]

    def close(self) -> None:
        """Closes the client, then the loop."""

        async def end() -> None:
            await self._client.aclose()
            self._loop.call_soon(self._loop.stop)

        asyncio.run_coroutine_threadsafe(end(), self._loop)
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()


def bridged(client: AsyncHevlayer) -> tuple[Hevlayer, Callable[[], None]]:
    """The client for synchronous code, and how to close it. The two classes are written from one table of operations,
    so what the one promises the other keeps."""
    bridge = Bridge(client)
    return cast(Hevlayer, bridge), bridge.close
