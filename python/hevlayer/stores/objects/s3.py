"""Objects in an S3 bucket. Load this module only where a bucket is configured: the driver's import takes its time."""

import asyncio
import functools
import os
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from botocore.exceptions import ClientError

from hevlayer.clock import Clock
from hevlayer.stores.objects.port import (
    LIST_KEYS_MAX,
    ObjectStoreError,
    ObjectStoreTimeoutError,
    check_key,
    check_limit,
)
from hevlayer.stores.objects.retries import ATTEMPTS_MAX, BACKOFF, RetryBudget
from hevlayer.stores.objects.s3_client import Client, S3Client, S3Settings
from hevlayer.stores.objects.s3_failures import code_of, judge, status_of
from hevlayer.stores.objects.s3_parts import ABORT_SECONDS, PART_BYTES, Parts
from hevlayer.stores.objects.settings import ATTEMPT_SECONDS, OPERATION_SECONDS

PAGE_KEYS_MAX = 1_000
# A body adds this much time to the deadline of its operation and of each attempt.
TRANSFER_BYTES_PER_SECOND = 2 << 20
# Names the put that wrote an object, so that a repeated conditional put knows its own earlier success.
PUT_METADATA = "hevlayer-put"

T = TypeVar("T")


class Attempt:
    """One try at an operation. `doubtful`: an earlier one may have had its effect."""

    __slots__ = ("_scopes", "client", "doubtful")

    def __init__(self, client: Client, doubtful: bool, scopes: tuple[asyncio.Timeout, ...]) -> None:
        self.client = client
        self.doubtful = doubtful
        self._scopes = scopes

    def allow(self, body_bytes: int) -> None:
        """More time, for a body whose length has just been told."""
        for scope in self._scopes:
            when = scope.when()
            if when is not None:
                scope.reschedule(when + body_bytes / TRANSFER_BYTES_PER_SECOND)


class S3Objects:
    """The port over one bucket and prefix.

    Listings are in byte order as general purpose buckets give them. A delete is two requests, and a read of a key that
    does not exist needs `s3:ListBucket`: without it S3 answers that access is denied.
    """

    def __init__(
        self,
        settings: S3Settings,
        clock: Clock,
        *,
        operation_seconds: float = OPERATION_SECONDS,
        attempt_seconds: float = ATTEMPT_SECONDS,
        rng: random.Random | None = None,
    ) -> None:
        self._bucket = settings.bucket
        self._prefix = settings.prefix
        self._client = S3Client(settings)
        self._clock = clock
        self._operation_seconds = operation_seconds
        self._attempt_seconds = attempt_seconds
        self._rng = rng or random.Random()  # noqa: S311 -- jitter, not a secret
        self._budget = RetryBudget()

    async def put_if_absent(self, key: str, body: bytes) -> bool:
        return await self._put(key, body, replace=False)

    async def put(self, key: str, body: bytes) -> None:
        await self._put(key, body, replace=True)

    async def get(self, key: str) -> bytes | None:
        where = self._where(key)

        async def read(attempt: Attempt) -> bytes | None:
            try:
                answer = await attempt.client.get_object(**where)
            except ClientError as error:
                if code_of(error) == "NoSuchKey":
                    return None
                raise
            attempt.allow(answer["ContentLength"])
            async with answer["Body"] as stream:
                body: bytes = await stream.read()
            return body

        return await self._run(read)

    async def list_keys(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = LIST_KEYS_MAX
    ) -> list[str]:
        check_limit(limit)
        keys: list[str] = []
        start = after

        async def read_page(attempt: Attempt) -> bool:
            """Adds a page to `keys`. Returns: there is more."""
            nonlocal start
            page = await attempt.client.list_objects_v2(
                Bucket=self._bucket,
                Prefix=self._prefix + prefix,
                MaxKeys=min(PAGE_KEYS_MAX, limit - len(keys)),
                **({"StartAfter": self._prefix + start} if start else {}),
            )
            for entry in page.get("Contents", ()):
                start = entry["Key"][len(self._prefix) :]
                if before and start >= before:
                    return False
                if _is_ours(start):
                    keys.append(start)
            return bool(page["IsTruncated"]) and len(keys) < limit

        async with self._deadline(0) as scope:
            while await self._try(read_page, scopes=(scope,)):
                pass
        return keys

    async def delete(self, key: str) -> bool:
        where = self._where(key)

        async def remove(attempt: Attempt) -> bool:
            if await self._head(attempt.client, key) is None:
                return attempt.doubtful
            await attempt.client.delete_object(**where)
            return True

        return await self._run(remove)

    async def close(self) -> None:
        await self._client.close()

    async def _put(self, key: str, body: bytes, *, replace: bool) -> bool:
        where = self._where(key)
        condition = {} if replace else {"IfNoneMatch": "*"}
        token = os.urandom(16).hex()

        async def is_ours(client: Client) -> bool:
            found = await self._head(client, key)
            return found is not None and found.get(PUT_METADATA) == token

        async def write(attempt: Attempt) -> bool:
            try:
                await attempt.client.put_object(**where, **condition, Body=body, Metadata={PUT_METADATA: token})
            except ClientError as error:
                if replace or status_of(error) != 412:
                    raise
                # An earlier request of ours may have had its effect without an answer; the driver sends some twice.
                return await is_ours(attempt.client)
            return True

        if len(body) <= PART_BYTES:
            return await self._run(write, len(body))
        parts = Parts(where, condition, {PUT_METADATA: token}, body, is_ours)
        # The abort of what failed has its place within the operation's deadline too.
        async with self._deadline(len(body), reserved_seconds=ABORT_SECONDS) as scope:
            if (
                not replace
                and await self._try(lambda attempt: self._head(attempt.client, key), scopes=(scope,)) is not None
            ):
                return False
            return await parts.put(functools.partial(self._try, scopes=(scope,)))

    async def _head(self, client: Client, key: str) -> dict[str, str] | None:
        """The object's own metadata, None when there is no object."""
        try:
            answer = await client.head_object(**self._where(key))
        except ClientError as error:
            if status_of(error) == 404:
                return None
            raise
        metadata: dict[str, str] = answer["Metadata"]
        return metadata

    def _where(self, key: str) -> dict[str, str]:
        check_key(key)
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    async def _run(self, work: Callable[[Attempt], Awaitable[T]], body_bytes: int = 0) -> T:
        async with self._deadline(body_bytes) as scope:
            return await self._try(work, body_bytes, scopes=(scope,))

    def _deadline(self, body_bytes: int, *, reserved_seconds: float = 0.0) -> "_Deadline":
        return _Deadline(self._operation_seconds + body_bytes / TRANSFER_BYTES_PER_SECOND - reserved_seconds)

    async def _try(
        self, work: Callable[[Attempt], Awaitable[T]], body_bytes: int = 0, *, scopes: tuple[asyncio.Timeout, ...]
    ) -> T:
        """Does `work`, again where that may help, within the scopes' deadlines."""
        doubtful = False
        for number in range(ATTEMPTS_MAX):
            try:
                client = await self._client.get()
                async with asyncio.timeout(self._attempt_seconds + body_bytes / TRANSFER_BYTES_PER_SECOND) as scope:
                    result = await work(Attempt(client, doubtful, (*scopes, scope)))
            except ObjectStoreError:
                raise
            except Exception as error:
                failure = judge(error)
                if failure is None:
                    raise
                if not failure.retry or number + 1 == ATTEMPTS_MAX or not self._budget.take():
                    raise failure.error from error
                doubtful = doubtful or not failure.definite
            else:
                if number == 0:
                    self._budget.refund()
                return result
            await self._clock.sleep(BACKOFF.delay(number, self._rng))
        raise AssertionError("the last attempt returns or raises")


class _Deadline:
    """asyncio.timeout whose end is an error of the port."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._scope = asyncio.timeout(seconds)

    async def __aenter__(self) -> asyncio.Timeout:
        return await self._scope.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            await self._scope.__aexit__(kind, error, trace)  # type: ignore[arg-type]
        except TimeoutError:
            message = f"the object store did not answer within {self._seconds:g} s"
            raise ObjectStoreTimeoutError(message) from error


def _is_ours(key: str) -> bool:
    """What others put below the prefix, such as a folder's marker, is not listed."""
    try:
        check_key(key)
    except ValueError:
        return False
    return True
