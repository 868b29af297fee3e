"""The server that development runs: its data, its life beside ours, and what it says when it cannot start."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import pytest

from hevlayer.clock import SystemClock
from hevlayer.stores.postgres import embedded
from hevlayer.stores.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError

GUARD_SECONDS = 90
SCRIPT = """
import asyncio, sys
from pathlib import Path
from hevlayer.clock import SystemClock
from hevlayer.stores.postgres.embedded import EmbeddedPostgres

async def main():
    postgres = EmbeddedPostgres(Path(sys.argv[1]), SystemClock())
    await postgres.start()
    print(postgres.pid, postgres.url, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
as_superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser changes identity")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory in which a server has run."""
    folder = tmp_path_factory.mktemp("made") / "postgres"

    async def make() -> None:
        async with started(folder) as connection:
            await connection.execute("CREATE TABLE kept (x integer)")
            await connection.execute("INSERT INTO kept VALUES (7)")

    asyncio.run(make())
    return folder


class started:  # noqa: N801 -- used like a function
    """A running server; gives a connection to it."""

    def __init__(self, folder: Path) -> None:
        self.postgres = EmbeddedPostgres(folder, SystemClock())

    async def __aenter__(self) -> asyncpg.Connection:
        await self.postgres.start()
        self.connection = await asyncpg.connect(self.postgres.url, timeout=GUARD_SECONDS)
        return self.connection

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()
        await self.postgres.stop()


async def read_kept(folder: Path) -> int:
    async with started(folder) as connection:
        return await connection.fetchval("SELECT x FROM kept")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(GUARD_SECONDS):
        while is_running(pid):
            await asyncio.sleep(0.02)


async def test_a_restart_keeps_the_data(made):
    assert await read_kept(made) == 7


async def test_stop_ends_the_server_and_frees_the_directory(made):
    postgres = EmbeddedPostgres(made, SystemClock())
    await postgres.start()
    pid = postgres.pid
    assert pid is not None
    await postgres.stop()
    await until_gone(pid)
    assert not (made / "data" / "postmaster.pid").exists()
    assert await read_kept(made) == 7


async def test_it_dies_with_a_starter_that_is_killed_and_starts_again(made):
    starter = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(made)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        pid, url = (await asyncio.to_thread(starter.stdout.readline)).split()
        connection = await asyncpg.connect(url, timeout=GUARD_SECONDS)
        await connection.execute("CREATE TABLE late (x integer)")
    finally:
        starter.kill()
        starter.wait(GUARD_SECONDS)
        starter.stdout.close()
    # At once, while the old server may still be on its way down.
    async with started(made) as after:
        assert await after.fetchval("SELECT to_regclass('late')") is not None
    await until_gone(int(pid))
    connection.terminate()


async def test_one_directory_has_one_server(made):
    async with started(made):
        with pytest.raises(EmbeddedPostgresError, match="another process runs"):
            await EmbeddedPostgres(made, SystemClock()).start()


async def test_a_server_that_is_killed_is_started_again(made):
    postgres = EmbeddedPostgres(made, SystemClock())
    await postgres.start()
    keeper = asyncio.create_task(postgres.keep())
    old = postgres.pid
    assert old is not None
    os.kill(old, signal.SIGKILL)
    async with asyncio.timeout(GUARD_SECONDS):
        while True:
            try:
                connection = await asyncpg.connect(postgres.url, timeout=GUARD_SECONDS)
                break
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.02)
    assert await connection.fetchval("SELECT x FROM kept") == 7
    assert postgres.pid != old
    await connection.close()
    await postgres.stop()
    await asyncio.wait_for(keeper, GUARD_SECONDS)


async def test_half_made_data_is_made_again(tmp_path):
    partial = tmp_path / "postgres" / "data.partial"
    partial.mkdir(parents=True)
    (partial / "PG_VERSION").write_text("18")
    async with started(tmp_path / "postgres") as connection:
        assert await connection.fetchval("SELECT 1") == 1
    assert not partial.exists()


async def test_a_deep_directory_has_its_socket_elsewhere(made, tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.parent.mkdir()
    subprocess.run(["cp", "-a", made, deep], check=True)
    running = started(deep)
    async with running as connection:
        assert await connection.fetchval("SELECT x FROM kept") == 7
        elsewhere = Path(running.postgres.url.partition("host=")[2].replace("%2F", "/"))
        assert not elsewhere.is_relative_to(deep)
        assert elsewhere.exists()
    assert not elsewhere.exists()


@as_superuser
async def test_the_identity_may_change_between_starts(made, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    subprocess.run(["cp", "-a", made, closed / "postgres"], check=True)
    owners = []
    for mode in (0o700, 0o755, 0o700):
        closed.chmod(mode)
        for parent in closed.parents:
            # What the test runner made for itself alone.
            if Path(tempfile.gettempdir()) in parent.parents:
                parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
        assert await read_kept(closed / "postgres") == 7
        owners.append((closed / "postgres" / "data").stat().st_uid)
    assert owners[0] == owners[2] == 0
    assert owners[1] != 0


async def test_without_the_wheel_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EmbeddedPostgresError, match="--no-postgres"):
        await EmbeddedPostgres(tmp_path / "postgres", SystemClock()).start()


async def test_data_of_another_version_is_refused(tmp_path):
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match=r"of PostgreSQL 9; the installed .* has \d+"):
        await EmbeddedPostgres(tmp_path / "postgres", SystemClock()).start()


async def test_a_server_that_refuses_to_start_is_quoted(made, tmp_path):
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-a", made, broken], check=True)
    with (broken / "data" / "postgresql.conf").open("a") as file:
        file.write("\nno_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresError, match=r"did not start: .*(no_such_setting|configuration file)"):
        await EmbeddedPostgres(broken, SystemClock()).start()


async def test_data_that_cannot_be_made_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "USER", "pg_not_allowed")
    with pytest.raises(EmbeddedPostgresError, match=r"cannot make its data in .*pg_not_allowed"):
        await EmbeddedPostgres(tmp_path / "postgres", SystemClock()).start()
    assert not (tmp_path / "postgres" / "data").exists()


async def test_a_server_that_does_not_get_ready_is_stopped(made, monkeypatch):
    monkeypatch.setattr(EmbeddedPostgres, "_takes_connections", lambda _self: False)
    postgres = EmbeddedPostgres(made, SystemClock(), start_seconds=0.3)
    with pytest.raises(EmbeddedPostgresError, match=r"not ready within 0\.3 s"):
        await postgres.start()
    assert postgres.pid is None
    monkeypatch.undo()
    assert await read_kept(made) == 7


async def test_a_pid_that_went_to_another_program_is_not_taken_for_ours(made):
    (made / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{made}/data\n1\n5432\n\n\n\n")
    assert await read_kept(made) == 7
