"""A real PostgreSQL for the session, and a database of its own for each test."""

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import Coroutine
from pathlib import Path

import asyncpg
import pytest

from hevlayer.clock import SystemClock
from hevlayer.stores.postgres.database import Database
from hevlayer.stores.postgres.embedded import EmbeddedPostgres

WAIT_SECONDS = 60
_numbers = itertools.count(1)


class Server:
    """The embedded server in a thread with a loop of its own, so that tests may stop, kill and freeze it."""

    def __init__(self, directory: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.postgres = EmbeddedPostgres(directory, SystemClock())
        self.call(self.postgres.start())
        self._keeper = asyncio.run_coroutine_threadsafe(self.postgres.keep(), self.loop)

    def call(self, work: Coroutine[object, object, object]) -> object:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_SECONDS)

    def close(self) -> None:
        self.call(self.postgres.stop())
        self._keeper.result(WAIT_SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_SECONDS)
        self.loop.close()

    @property
    def processes(self) -> list[int]:
        """The server and its children."""
        parent = self.postgres.pid
        assert parent is not None
        children = [
            int(stat.parent.name)
            for stat in Path("/proc").glob("[0-9]*/stat")
            if _parent_of(stat) == parent
        ]  # fmt: skip
        return [parent, *children]

    def kill(self) -> int:
        """As the out-of-memory killer does. Returns: the pid that was."""
        pid = self.postgres.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    def freeze(self) -> list[int]:
        """It takes connections, and answers nothing."""
        frozen = self.processes
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        return frozen

    def thaw(self, frozen: list[int]) -> None:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def _parent_of(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("postgres") / "server")
    yield running
    running.close()


@pytest.fixture
async def url(server):
    """An empty database."""
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(server.postgres.url, timeout=WAIT_SECONDS)
    await connection.execute(f"CREATE DATABASE {name} STRATEGY wal_log")
    await connection.close()
    return server.postgres.url.replace("/postgres?", f"/{name}?")


@pytest.fixture
async def open_database(url):
    """Makes databases over the test's one: processes of a cluster, as far as PostgreSQL can tell."""
    opened = []

    async def make(*, prepare: bool = True, **options) -> Database:
        database = Database(url, SystemClock(), **options)
        opened.append(database)
        if prepare:
            assert await database.prepare(), database.problem
        return database

    yield make
    for database in opened:
        await database.close()


@pytest.fixture
async def database(open_database):
    return await open_database()
