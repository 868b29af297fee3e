"""The object port's contract, on the local directory."""

import asyncio
import errno
import os
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hevlayer.gateway.config import GatewayConfig
from hevlayer.stores.objects import (
    LocalObjects,
    MeasuredObjects,
    ObjectStoreDeniedError,
    ObjectStoreError,
    ObjectStoreFullError,
)
from hevlayer.testing.clock import FakeClock
from hevlayer.wire.names import object_key


@pytest.fixture
async def store(tmp_path):
    return LocalObjects(tmp_path)


async def test_put_get_delete(store):
    key = object_key("deletes", "..")
    assert await store.get(key) is None
    assert await store.put_if_absent(key, b"one")
    assert not await store.put_if_absent(key, b"two")
    assert await store.get(key) == b"one"
    await store.put(key, b"three")
    assert await store.get(key) == b"three"
    assert await store.delete(key)
    assert not await store.delete(key)
    assert await store.get(key) is None


@pytest.mark.parametrize("key", ["", "..", "a/../b", "/etc/passwd", "a//b", "a/.b", "a\x00b"])
async def test_a_key_cannot_leave_the_directory(store, tmp_path, key):
    before = sorted(tmp_path.rglob("*"))
    for act in (store.get, store.delete, lambda name: store.put(name, b"")):
        with pytest.raises(ValueError, match="not an encoded name"):
            await act(key)
    assert sorted(tmp_path.rglob("*")) == before


async def test_of_many_writers_one_wins(store, tmp_path):
    wins = await asyncio.gather(*(store.put_if_absent("a/b", b"%d" % number) for number in range(20)))
    assert sum(wins) == 1
    assert await store.get("a/b") == b"%d" % wins.index(True)
    assert list((tmp_path / "partial").iterdir()) == []


async def test_what_a_crash_left_half_written_is_removed_and_never_listed(store, tmp_path):
    await store.put("a/b", b"whole")
    torn, others = tmp_path / "partial" / "torn", tmp_path / "partial" / "others"
    torn.write_bytes(b"ha")
    others.write_bytes(b"ha")
    os.utime(torn, (1, 1))
    assert await LocalObjects(tmp_path).list_keys("") == ["a/b"]
    # A young one may belong to a process that is at work.
    assert list((tmp_path / "partial").iterdir()) == [others]


keys = st.lists(
    st.lists(st.sampled_from(["a", "a-b", "a.b", "b", "aa", "~2e"]), min_size=2, max_size=3).map("/".join),
    unique=True,
    max_size=12,
)


def without_nesting(found):
    """No key is the directory part of another."""
    return [key for key in found if not any(other.startswith(key + "/") for other in found)]


@settings(max_examples=30, deadline=None)
@given(keys, st.sampled_from(["", "a", "a/", "a-b/a", "~", "zz"]), st.sampled_from(["", "a", "a/b", "a/b/b", "b"]))
def test_listing_is_the_sorted_keys_with_a_prefix(tmp_path_factory, keys, prefix, after):
    async def check():
        objects = LocalObjects(tmp_path_factory.mktemp("objects"))
        chosen = without_nesting(keys)
        for key in chosen:
            await objects.put(key, b"")
        expected = sorted(key for key in chosen if key.startswith(prefix) and key > after)
        assert await objects.list_keys(prefix, after=after) == expected
        if len(expected) > 1:
            assert await objects.list_keys(prefix, after=after, limit=1) == expected[:1]

    asyncio.run(check())


async def test_a_failing_store_is_an_error_of_ours(tmp_path):
    (tmp_path / "objects").write_text("a file where a directory belongs")
    store = LocalObjects(tmp_path)
    for act in (store.list_keys(""), store.put("a/b", b""), store.get("a/b")):
        with pytest.raises(ObjectStoreError, match="the object store failed"):
            await act


async def test_a_store_that_hangs_is_given_up(store, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr("hevlayer.stores.objects.local._read", lambda path: release.wait(5) and None)
    store._operation_seconds = 0.01
    try:
        with pytest.raises(ObjectStoreError, match="did not answer within"):
            await store.get("a/b")
    finally:
        release.set()


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, ObjectStoreFullError),
        (errno.EDQUOT, ObjectStoreFullError),
        (errno.EACCES, ObjectStoreDeniedError),
        (errno.EROFS, ObjectStoreDeniedError),
        (errno.EIO, ObjectStoreError),
    ],
)
async def test_a_file_system_s_refusal_is_a_typed_error(store, monkeypatch, number, error):
    def refuse(_descriptor):
        raise OSError(number, "refused")

    await store.put("a/b", b"old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(error) as raised:
        await store.put("a/b", b"new")
    assert type(raised.value) is error
    monkeypatch.undo()
    assert await store.get("a/b") == b"old"


async def test_operations_are_measured_by_their_outcome(tmp_path):
    seen = []

    class Observer:
        def observe_object_operation(self, operation, status, seconds):
            seen.append((operation, status, seconds >= 0))

    store = MeasuredObjects(LocalObjects(tmp_path), Observer(), FakeClock())
    assert await store.put_if_absent("a/b", b"1")
    await store.put("a/b", b"2")
    assert await store.get("a/b") == b"2"
    assert await store.list_keys("a/", before="a/c") == ["a/b"]
    assert await store.delete("a/b")
    with pytest.raises(ValueError, match="not an encoded name"):
        await store.get("..")
    (tmp_path / "objects" / "a").rmdir()
    (tmp_path / "objects" / "a").write_text("a file where a directory belongs")
    with pytest.raises(ObjectStoreError):
        await store.get("a/b")
    assert seen == [
        *((operation, "ok", True) for operation in ("put_if_absent", "put", "get", "list", "delete")),
        ("get", "error", True),
        ("get", "error", True),
    ]
    await store.close()


async def test_the_driver_is_not_loaded_without_a_bucket():
    code = "import sys, hevlayer.gateway.app; sys.exit('botocore' in sys.modules or 'aiohttp' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"s3_bucket": "b", "objects_dir": Path("o")}, "exclude each other"),
        ({"s3_prefix": "p"}, "LAYER_S3_BUCKET is required"),
        ({"s3_endpoint_url": "http://s3"}, "LAYER_S3_BUCKET is required"),
    ],
)
def test_the_settings_of_a_bucket_agree(settings, problem):
    problems = GatewayConfig.problems(turbopuffer_api_key="k", **settings)
    assert [found for found in problems if problem in found]
    assert not GatewayConfig.problems(turbopuffer_api_key="k", s3_bucket="b", s3_prefix="p")
