"""Objects as files below one directory."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from hevlayer.stores.objects.port import (
    LIST_KEYS_MAX,
    ObjectStoreDeniedError,
    ObjectStoreError,
    ObjectStoreFullError,
    ObjectStoreTimeoutError,
    check_key,
    check_limit,
)
from hevlayer.stores.objects.settings import OPERATION_SECONDS

# No put takes this long.
PARTIAL_SECONDS = 3_600.0
# A body may take this much longer than the operation's deadline alone.
TRANSFER_BYTES_PER_SECOND = 8 << 20

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)

T = TypeVar("T")


class LocalObjects:
    """Objects as files below one directory, for any number of processes. The directories are made on first use."""

    def __init__(self, root: Path, *, operation_seconds: float = OPERATION_SECONDS) -> None:
        self._objects = root / "objects"
        self._partial = root / "partial"
        self._operation_seconds = operation_seconds
        self._opened = False

    async def put_if_absent(self, key: str, body: bytes) -> bool:
        path = self._path(key)
        return await self._run(lambda: self._put(path, body, replace=False), len(body))

    async def put(self, key: str, body: bytes) -> None:
        path = self._path(key)
        await self._run(lambda: self._put(path, body, replace=True), len(body))

    async def get(self, key: str) -> bytes | None:
        path = self._path(key)
        return await self._run(lambda: _read(path))

    async def list_keys(
        self, prefix: str, *, after: str = "", before: str = "", limit: int = LIST_KEYS_MAX
    ) -> list[str]:
        check_limit(limit)
        return await self._run(lambda: self._list(prefix, after, before, limit))

    async def delete(self, key: str) -> bool:
        path = self._path(key)
        return await self._run(lambda: _delete(path))

    async def close(self) -> None:
        """Nothing is held open."""

    async def _run(self, work: Callable[[], T], body_bytes: int = 0) -> T:
        def opened() -> T:
            if not self._opened:
                self._open()
                self._opened = True
            return work()

        seconds = self._operation_seconds + body_bytes / TRANSFER_BYTES_PER_SECOND
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.to_thread(opened)
        except TimeoutError as error:
            raise ObjectStoreTimeoutError(f"the object store did not answer within {seconds:g} s") from error
        except OSError as error:
            raise _named(error)(f"the object store failed: {error.strerror}") from error

    def _path(self, key: str) -> Path:
        return self._objects.joinpath(*check_key(key))

    def _open(self) -> None:
        for directory in (self._objects, self._partial):
            directory.mkdir(parents=True, exist_ok=True)
        # What a crash left half written. Younger ones may be another process's work; the file system tells the time.
        os.utime(self._partial)
        oldest = self._partial.stat().st_mtime - PARTIAL_SECONDS
        for leftover in list(self._partial.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()

    def _put(self, path: Path, body: bytes, *, replace: bool) -> bool:
        if not replace and path.exists():
            return False
        # Written whole elsewhere and then linked: a reader never sees a part, and of two writers one wins.
        partial = self._partial / os.urandom(16).hex()
        try:
            with partial.open("xb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            self._make_directory(path.parent)
            if replace:
                partial.replace(path)
            else:
                try:
                    os.link(partial, path)
                except FileExistsError:
                    return False
            _sync_directory(path.parent)
        finally:
            partial.unlink(missing_ok=True)
        return True

    def _make_directory(self, directory: Path) -> None:
        if directory.is_dir():
            return
        self._make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        _sync_directory(directory.parent)

    def _list(self, prefix: str, after: str, before: str, limit: int) -> list[str]:
        keys: list[str] = []
        for key in self._walk(self._objects, "", prefix, after):
            if before and key >= before:
                break
            keys.append(key)
            if len(keys) >= limit:
                break
        return keys

    def _walk(self, directory: Path, base: str, prefix: str, after: str) -> Iterator[str]:
        try:
            with os.scandir(directory) as entries:
                # A directory sorts as the keys in it do, with their separator.
                found = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries)
        except FileNotFoundError:
            return
        for name in found:
            key = base + name
            if name.endswith("/"):
                on_the_way = key.startswith(prefix) or prefix.startswith(key)
                # All keys below start with `key`, so they are above `after` when it is, or `after` is one of them.
                if on_the_way and (key > after or after.startswith(key)):
                    yield from self._walk(directory / name[:-1], key, prefix, after)
            elif key.startswith(prefix) and key > after:
                yield key


def _named(error: OSError) -> type[ObjectStoreError]:
    if error.errno in _FULL:
        return ObjectStoreFullError
    return ObjectStoreDeniedError if error.errno in _DENIED else ObjectStoreError


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _delete(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    _sync_directory(path.parent)
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
