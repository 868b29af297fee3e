"""Any object store, each operation measured."""

from collections.abc import Awaitable
from typing import Protocol, TypeVar

from hevlayer.clock import Clock
from hevlayer.stores.objects.port import LIST_KEYS_MAX, ObjectStore, ObjectStoreError

T = TypeVar("T")


class ObjectObserver(Protocol):
    """What object operations count."""

    def observe_object_operation(self, operation: str, status: str, seconds: float) -> None: ...


class MeasuredObjects:
    """The port around another store. An operation that is cancelled counts as `cancelled`."""

    def __init__(self, store: ObjectStore, observer: ObjectObserver, clock: Clock) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock

    async def put_if_absent(self, key: str, body: bytes) -> bool:
        return await self._measure("put_if_absent", self._store.put_if_absent(key, body))

    async def put(self, key: str, body: bytes) -> None:
        await self._measure("put", self._store.put(key, body))

    async def get(self, key: str) -> bytes | None:
        return await self._measure("get", self._store.get(key))

    async def list_keys(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = LIST_KEYS_MAX
    ) -> list[str]:
        return await self._measure("list", self._store.list_keys(prefix, after=after, before=before, limit=limit))

    async def delete(self, key: str) -> bool:
        return await self._measure("delete", self._store.delete(key))

    async def close(self) -> None:
        await self._store.close()

    async def _measure(self, operation: str, work: Awaitable[T]) -> T:
        started = self._clock.monotonic()
        status = "cancelled"
        try:
            result = await work
            status = "ok"
        except ObjectStoreError as error:
            status = error.kind
            raise
        except Exception:
            status = "error"
            raise
        finally:
            self._observer.observe_object_operation(operation, status, self._clock.monotonic() - started)
        return result
