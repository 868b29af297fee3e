"""S3 that is down, slow, hanging, full, denied or breaking off: a typed error or the right answer, in time."""

import asyncio
import time

import pytest
from faulty_proxy import http_answer

from hevlayer.stores.objects import (
    ObjectStoreBusyError,
    ObjectStoreDeniedError,
    ObjectStoreError,
    ObjectStoreFullError,
    ObjectStoreRefusedError,
    ObjectStoreTimeoutError,
    ObjectStoreUnreachableError,
)
from hevlayer.stores.objects.retries import ATTEMPTS_MAX, BUDGET_TOKENS, RETRY_TOKENS
from hevlayer.stores.objects.s3_parts import PART_BYTES

# Far above the deadlines that the tests set, far below waiting for ever.
HANG_SECONDS = 30

OPERATIONS = {
    "put_if_absent": lambda store: store.put_if_absent("a/new", b"body"),
    "put": lambda store: store.put("a/b", b"body"),
    "get": lambda store: store.get("a/b"),
    "list": lambda store: store.list_keys("a/"),
    "delete": lambda store: store.delete("a/b"),
    "put in parts": lambda store: store.put("a/large", bytes(PART_BYTES + 1)),
}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"refuse": True}, ObjectStoreUnreachableError),
        ({"answer": http_answer("503 Slow Down", "SlowDown")}, ObjectStoreBusyError),
        ({"answer": http_answer("500 Internal Server Error", "InternalError")}, ObjectStoreBusyError),
        ({"answer": http_answer("507 Insufficient Storage", "InsufficientStorage")}, ObjectStoreFullError),
        ({"answer": http_answer("403 Forbidden", "AccessDenied")}, ObjectStoreDeniedError),
        ({"answer": b"not http at all\r\n\r\n", "answer_ends": True}, ObjectStoreUnreachableError),
    ],
    ids=["down", "slow down", "failing", "full", "denied", "not http"],
)
async def test_a_fault_is_a_typed_error(s3, proxy, fault, error):
    for operate in OPERATIONS.values():
        for name, value in fault.items():
            setattr(proxy, name, value)
        with pytest.raises(error):
            async with asyncio.timeout(HANG_SECONDS):
                await operate(s3)
        proxy.reset()
    await s3.put("a/b", b"well again")
    assert await s3.get("a/b") == b"well again"


async def test_a_hanging_store_is_given_up_within_the_deadline(make_s3, proxy):
    store = make_s3(operation_seconds=2.5, attempt_seconds=0.1)
    await store._client.get()
    proxy.hang = True
    for operate in OPERATIONS.values():
        proxy.requests.clear()
        with pytest.raises((ObjectStoreTimeoutError, ObjectStoreUnreachableError)):
            async with asyncio.timeout(HANG_SECONDS):
                await operate(store)
        assert len(proxy.requests) <= ATTEMPTS_MAX


async def test_the_operation_s_deadline_is_over_all_attempts(make_s3, proxy):
    store = make_s3(operation_seconds=0.3, attempt_seconds=60.0)
    proxy.hang = True
    with pytest.raises(ObjectStoreTimeoutError, match=r"within 0\.3 s"):
        async with asyncio.timeout(HANG_SECONDS):
            await store.get("a/b")


async def test_a_large_body_gets_more_time_than_a_small_one(make_s3, proxy):
    store = make_s3(operation_seconds=2.0, attempt_seconds=2.0)
    body = bytes(16 << 20)
    await store.put("a/b", body)
    # 256 chunks of 64 KiB, together beyond what a small body may take.
    proxy.delay_seconds = 0.01
    assert await store.get("a/b") == body


@pytest.mark.parametrize("status", ["503 Slow Down", "500 Internal Server Error", "429 Too Many Requests"])
async def test_a_passing_fault_is_not_seen(s3, proxy, status):
    for operate in OPERATIONS.values():
        proxy.reset()
        proxy.answer = http_answer(status, "SlowDown")
        proxy.answers_left = 2
        await operate(s3)
        assert len(proxy.requests) >= 3


async def test_what_cannot_get_better_is_not_tried_again(s3, proxy):
    for answer in (http_answer("403 Forbidden", "AccessDenied"), http_answer("507 Full", "InsufficientStorage")):
        proxy.reset()
        proxy.answer = answer
        with pytest.raises(ObjectStoreError):
            await s3.put("a/b", b"")
        assert len(proxy.requests) == 1


async def test_a_store_that_fails_at_large_is_not_tried_again_for_ever(s3, proxy):
    proxy.answer = http_answer("503 Slow Down", "SlowDown")
    operations = 20
    for _ in range(operations):
        with pytest.raises(ObjectStoreBusyError):
            await s3.put("a/b", b"")
    assert len(proxy.requests) == operations + BUDGET_TOKENS / RETRY_TOKENS


async def test_a_conditional_put_knows_its_own_earlier_success(s3, proxy):
    proxy.lose_answers = 1
    assert await s3.put_if_absent("a/b", b"mine")
    assert sum(line.startswith("PUT ") for line in proxy.requests) == 2
    assert await s3.get("a/b") == b"mine"


async def test_a_conditional_put_whose_answer_is_lost_does_not_claim_another_s_object(s3, proxy):
    await s3.put("a/b", b"another's, by chance with the same body")
    proxy.lose_answers = 1
    assert not await s3.put_if_absent("a/b", b"another's, by chance with the same body")


@pytest.mark.parametrize("lost", [2, 3, 5], ids=["create", "part", "complete"])
async def test_a_put_in_parts_survives_a_lost_answer_at_any_point(s3, proxy, lost):
    body = bytes(PART_BYTES) + b"end"

    class LoseOne(list):
        def append(self, line):
            super().append(line)
            if len(self) == lost:
                proxy.lose_answers = 1

    proxy.requests = LoseOne()
    assert await s3.put_if_absent("a/b", body)
    proxy.requests = []
    assert await s3.get("a/b") == body
    assert not await s3.put_if_absent("a/b", b"other")


async def test_a_failed_put_in_parts_leaves_no_upload(s3, proxy):
    class FailParts(list):
        def append(self, line):
            super().append(line)
            proxy.answer = http_answer("507 Full", "InsufficientStorage") if "partNumber" in line else None

    proxy.requests = FailParts()
    with pytest.raises(ObjectStoreFullError):
        await s3.put("a/b", bytes(PART_BYTES + 1))
    proxy.requests = []
    client = await s3._client.get()
    listed = await client.list_multipart_uploads(Bucket=s3._bucket, Prefix=s3._prefix)
    assert listed.get("Uploads", []) == []
    assert await s3.get("a/b") is None


async def test_a_delete_whose_answer_is_lost_did_delete(s3, proxy):
    await s3.put("a/b", b"")

    class LoseDelete(list):
        def append(self, line):
            super().append(line)
            if line.startswith("DELETE") and not any(other.startswith("DELETE") for other in self[:-1]):
                proxy.lose_answers = 1

    proxy.requests = LoseDelete()
    assert await s3.delete("a/b")
    assert not await s3.delete("a/b")


async def test_a_body_that_breaks_off_is_read_again(s3, proxy):
    body = bytes(range(256)) * 4_000
    await s3.put("a/b", body)
    proxy.cut_after, proxy.cuts = 10_000, 2
    assert await s3.get("a/b") == body


async def test_a_wrong_key_is_denied(make_s3, credentials):
    credentials.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ObjectStoreDeniedError, match="SignatureDoesNotMatch"):
        await make_s3().get("a/b")


async def test_a_bucket_that_does_not_exist_is_said(make_s3):
    store = make_s3(bucket="no-such-bucket")
    for act in (store.get("a/b"), store.put("a/b", b""), store.list_keys("")):
        with pytest.raises(ObjectStoreRefusedError, match="NoSuchBucket"):
            await act


async def test_what_is_not_ours_is_not_listed(s3):
    await s3.put("a/b", b"")
    client = await s3._client.get()
    await client.put_object(Bucket=s3._bucket, Key=s3._prefix + "a/a folder/", Body=b"")
    await client.put_object(Bucket=s3._bucket, Key=s3._prefix + "a/.hidden", Body=b"")
    assert await s3.list_keys("", limit=1) == ["a/b"]
    assert await s3.list_keys("") == ["a/b"]


async def test_two_prefixes_do_not_meet(make_s3):
    one, other = make_s3(prefix="one/"), make_s3(prefix="other/")
    await one.put("a/b", b"one")
    assert await other.get("a/b") is None
    assert await other.list_keys("") == []
    assert await other.put_if_absent("a/b", b"other")
    assert await one.list_keys("") == ["a/b"]
    assert await one.get("a/b") == b"one"


async def test_an_operation_that_is_given_up_by_its_caller_ends(make_s3, proxy):
    store = make_s3()
    await store.put("a/b", b"")
    proxy.hang = True
    started = time.monotonic()
    for operate in (*OPERATIONS.values(), lambda store: store.put("a/large", bytes(PART_BYTES + 1))):
        task = asyncio.ensure_future(operate(store))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert time.monotonic() - started < HANG_SECONDS
