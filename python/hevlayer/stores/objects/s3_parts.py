"""A large body in parts: started, sent a few parts at a time, and made one object by the last request."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from botocore.exceptions import ClientError

from hevlayer.stores.objects.s3_client import Client
from hevlayer.stores.objects.s3_failures import code_of, status_of

# S3 takes 10,000 parts of an object, so this is good for 156 GB.
PART_BYTES = 16 << 20
PARTS_AT_ONCE = 4
ABORT_SECONDS = 2.0

T = TypeVar("T")

log = logging.getLogger("hevlayer.objects")


class Trial(Protocol):
    """One try at a request, as `s3.Attempt` is."""

    client: Client


class Try(Protocol):
    """Does a request of so many body bytes, with retries."""

    async def __call__(self, work: Callable[[Trial], Awaitable[T]], body_bytes: int, /) -> T: ...


class Parts:
    """One multi-part put. A reader sees nothing of it until the last request, and then all."""

    def __init__(
        self,
        where: Mapping[str, str],
        condition: Mapping[str, str],
        metadata: Mapping[str, str],
        body: bytes,
        is_ours: Callable[[Client], Awaitable[bool]],
    ) -> None:
        self._where = where
        self._condition = condition
        self._metadata = metadata
        self._body = body
        self._is_ours = is_ours

    async def put(self, attempt: Try) -> bool:
        """False: the key was taken. Raises as the port does; what was sent is given up then."""
        upload: str = await attempt(self._create, 0)
        try:
            done = await self._send(attempt, upload)
        except BaseException:
            await asyncio.shield(self._abort(attempt, upload))
            raise
        if not done:
            await self._abort(attempt, upload)
        return done

    async def _create(self, trial: Trial) -> str:
        answer = await trial.client.create_multipart_upload(**self._where, Metadata=self._metadata)
        upload: str = answer["UploadId"]
        return upload

    async def _send(self, attempt: Try, upload: str) -> bool:
        places = asyncio.Semaphore(PARTS_AT_ONCE)

        async def send_part(number: int, part: bytes) -> dict[str, Any]:
            async with places:
                answer = await attempt(
                    lambda trial: trial.client.upload_part(
                        **self._where, UploadId=upload, PartNumber=number, Body=part
                    ),
                    len(part),
                )
            # What the store says of a part, its checksum included, goes back to it with the list of parts.
            said = {name: answer[name] for name in answer if name == "ETag" or name.startswith("Checksum")}
            said.pop("ChecksumType", None)
            return {"PartNumber": number, **said}

        starts = range(0, len(self._body), PART_BYTES)
        try:
            async with asyncio.TaskGroup() as group:
                sends = [
                    group.create_task(send_part(number, self._body[start : start + PART_BYTES]))
                    for number, start in enumerate(starts, 1)
                ]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        listed = {"Parts": [send.result() for send in sends]}

        async def complete(trial: Trial) -> bool:
            try:
                await trial.client.complete_multipart_upload(
                    **self._where, **self._condition, UploadId=upload, MultipartUpload=listed
                )
            except ClientError as error:
                # An earlier request of ours may have had its effect without an answer.
                if status_of(error) == 412 or code_of(error) == "NoSuchUpload":
                    if await self._is_ours(trial.client):
                        return True
                    if status_of(error) == 412:
                        return False
                raise
            return True

        return await attempt(complete, 0)

    async def _abort(self, attempt: Try, upload: str) -> None:
        """Best effort: a bucket's lifecycle rule for unfinished uploads does the rest."""

        async def abort(trial: Trial) -> None:
            await trial.client.abort_multipart_upload(**self._where, UploadId=upload)

        with contextlib.suppress(TimeoutError):
            try:
                async with asyncio.timeout(ABORT_SECONDS):
                    await attempt(abort, 0)
            except Exception as error:
                if isinstance(error, TimeoutError):
                    raise
                log.info("an unfinished upload was left behind", extra={"reason": str(error)})
