"""`hevlayer dev` with its PostgreSQL: it is there, dies with dev however dev ends, and can be left out."""

import os
import signal
import time
from pathlib import Path

import pytest
from dev_process import Dev, run_hevlayer

GUARD_SECONDS = 60


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + GUARD_SECONDS
    while is_running(pid):
        assert time.monotonic() < deadline, f"PostgreSQL {pid} is still running"
        time.sleep(0.02)


def notes(dev: Dev) -> list[str]:
    return dev.call("GET", "/ready")[2]["notes"]


def until_connected(dev: Dev) -> None:
    """A busy machine may be ready before its first connection stands: nothing waits for PostgreSQL."""
    deadline = time.monotonic() + GUARD_SECONDS
    while notes(dev):
        assert time.monotonic() < deadline, dev.output()
        time.sleep(0.05)


def test_it_runs_and_goes_with_dev(tmp_path):
    with Dev(tmp_path / "data") as dev:
        pid = dev.events["postgres listening"]["pid"]
        assert is_running(pid)
        until_connected(dev)
        assert '"database migrated"' in dev.output()
    assert not is_running(pid)


def test_a_dev_that_is_killed_takes_it_along_and_starts_again(tmp_path):
    with Dev(tmp_path / "data") as dev:
        pid = dev.events["postgres listening"]["pid"]
        until_connected(dev)
        dev.kill()
    with Dev(tmp_path / "data") as again:
        assert again.events["postgres listening"]["pid"] != pid
        # Already migrated by the one that was killed.
        until_connected(again)
        assert '"database migrated"' not in again.output()
    until_gone(pid)


def test_a_postgres_that_is_killed_is_noticed_and_replaced(tmp_path):
    with Dev(tmp_path / "data") as dev:
        os.kill(dev.events["postgres listening"]["pid"], signal.SIGKILL)
        deadline = time.monotonic() + GUARD_SECONDS
        while "starting it again" not in dev.output() or notes(dev):
            assert time.monotonic() < deadline, dev.output()
            time.sleep(0.05)
        assert dev.call("GET", "/v2/namespaces")[0] == 200


def test_it_can_be_left_out(tmp_path):
    with Dev(tmp_path / "data", "--no-postgres") as dev:
        assert "postgres listening" not in dev.events
        assert not (tmp_path / "data" / "postgres").exists()


def test_a_server_of_the_users_own_is_used_and_may_be_away(tmp_path):
    with Dev(tmp_path / "data", DATABASE_URL=f"postgres://hevlayer@/hevlayer?host={tmp_path}") as dev:
        assert "postgres listening" not in dev.events
        (note,) = notes(dev)
        assert note.startswith("PostgreSQL is away, each gateway works alone: ")
        assert dev.call("GET", "/v2/namespaces")[0] == 200


@pytest.mark.parametrize("version", ["9", "nonsense"])
def test_why_it_cannot_start_is_one_sentence(tmp_path, version):
    data = tmp_path / "data" / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text(version)
    ended = run_hevlayer("dev", "--port", "0", "--origin-port", "0", "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 1
    assert f"hevlayer dev: the data directory is of PostgreSQL {version}" in ended.stderr
    assert "Traceback" not in ended.stderr
