"""The port: small immutable bodies under keys, durable once written. What every adapter promises, and its errors."""

from typing import ClassVar, Protocol

from hevlayer.errors import ServiceUnavailableError, Source
from hevlayer.wire.names import decode_name

LIST_KEYS_MAX = 1_000


class ObjectStoreError(ServiceUnavailableError):
    """The object store failed. After a failed write the outcome is unknown: the object may be there or not."""

    source = Source.STORE
    kind: ClassVar[str] = "error"
    """A bounded word for metrics."""


class ObjectStoreTimeoutError(ObjectStoreError):
    """The store did not answer within the operation's deadline."""

    kind = "timeout"


class ObjectStoreUnreachableError(ObjectStoreError):
    """No connection, or one that broke, at every attempt."""

    kind = "unreachable"


class ObjectStoreBusyError(ObjectStoreError):
    """The store asked for fewer requests, or failed on its own side, at every attempt."""

    kind = "busy"


class ObjectStoreFullError(ObjectStoreError):
    """There is no space left. Reads and deletes still work."""

    kind = "full"
    retryable = False


class ObjectStoreDeniedError(ObjectStoreError):
    """No credentials, or none that may do this."""

    kind = "denied"
    retryable = False


class ObjectStoreRefusedError(ObjectStoreError):
    """The store refused the request for good: a bucket that does not exist, a body that is too large for it."""

    kind = "refused"
    retryable = False


class ObjectStore(Protocol):
    """Keys are encoded names joined by `/` (`wire.names.object_key`). No key is the directory part of another.

    Every method is over within the store's deadline, which grows with the body. Raises: ObjectStoreError; ValueError
    when the key is not of that form.
    """

    async def put_if_absent(self, key: str, body: bytes) -> bool:
        """Writes a new object durably; False, and nothing is written, when the key is taken."""

    async def put(self, key: str, body: bytes) -> None:
        """Writes or replaces an object durably and at once: a reader sees the old body or the new one."""

    async def get(self, key: str) -> bytes | None: ...

    async def list_keys(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = LIST_KEYS_MAX
    ) -> list[str]:
        """Keys that start with `prefix`, greater than `after` and less than `before` where given, in byte order, at
        most `limit`."""

    async def delete(self, key: str) -> bool:
        """False when there was none. Of several that delete one key at one time, more than one may say True."""

    async def close(self) -> None:
        """Ends its connections. Nothing may be asked of it any more."""


def check_key(key: str) -> list[str]:
    """The key's segments. Raises: ValueError: one of them is not an encoded name."""
    segments = key.split("/")
    for segment in segments:
        decode_name(segment)
    return segments


def check_limit(limit: int) -> None:
    if limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1")
