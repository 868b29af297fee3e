"""What a failed S3 request says: which error of ours, whether asking again may help, whether it had an effect."""

from dataclasses import dataclass

import aiohttp
from botocore import exceptions as botocore

from hevlayer.stores.objects.port import (
    ObjectStoreBusyError,
    ObjectStoreDeniedError,
    ObjectStoreError,
    ObjectStoreFullError,
    ObjectStoreRefusedError,
    ObjectStoreUnreachableError,
)

_FULL_CODES = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "NoSpaceLeftOnDevice"})
_BUSY_CODES = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestThrottled",
        "TooManyRequests",
        "BandwidthLimitExceeded",
        "RequestTimeout",
        "OperationAborted",
        "ConditionalRequestConflict",
    }
)
_DENIED_CODES = frozenset({"AccessDenied", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_NO_CREDENTIALS = (
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.CredentialRetrievalError,
    botocore.ProfileNotFound,
    botocore.TokenRetrievalError,
)
_UNREACHABLE = (
    botocore.HTTPClientError,
    botocore.ConnectionError,
    botocore.IncompleteReadError,
    aiohttp.ClientError,
    OSError,
)
_SAID_MAX = 200


@dataclass(frozen=True, slots=True)
class Failure:
    """`definite`: the request certainly had no effect."""

    error: ObjectStoreError
    retry: bool
    definite: bool


def status_of(error: botocore.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: botocore.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def judge(error: Exception) -> Failure | None:
    """None: not a failure of the store, but of us."""
    if isinstance(error, botocore.ClientError):
        return _judge_answer(error)
    if isinstance(error, _NO_CREDENTIALS):
        return Failure(ObjectStoreDeniedError(f"no usable AWS credentials: {_brief(error)}"), False, True)
    if isinstance(error, TimeoutError):
        return Failure(ObjectStoreUnreachableError("the object store did not answer an attempt in time"), True, False)
    if isinstance(error, _UNREACHABLE):
        return Failure(ObjectStoreUnreachableError(f"the object store cannot be reached: {_brief(error)}"), True, False)
    if isinstance(error, botocore.BotoCoreError):
        return Failure(ObjectStoreRefusedError(f"the object store cannot be used: {_brief(error)}"), False, True)
    return None


def _judge_answer(error: botocore.ClientError) -> Failure:
    status, code = status_of(error), code_of(error)
    said = f"{code or 'no code'}, status {status}"
    if code in _FULL_CODES or status == 507:
        return Failure(ObjectStoreFullError(f"the object store is full: {said}"), False, True)
    if code in _BUSY_CODES or status in (408, 429) or status >= 500:
        return Failure(ObjectStoreBusyError(f"the object store is busy or failing: {said}"), True, status < 500)
    if code in _DENIED_CODES or status in (401, 403):
        return Failure(ObjectStoreDeniedError(f"the object store denies access: {said}"), False, True)
    return Failure(ObjectStoreRefusedError(f"the object store refused the request: {said}"), False, True)


def _brief(error: Exception) -> str:
    return (str(error).split("\n", 1)[0] or type(error).__name__)[:_SAID_MAX]
