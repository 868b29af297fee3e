"""What appears on a terminal only: progress of jobs, emphasis, the live view of a load run."""

import asyncio
import contextlib
import os
import pty
import subprocess
import sys
import threading

import pytest
from layer_server import CannedServer

from hevlayer.testing.recording import RecordingUpstream

LAYER = (sys.executable, "-m", "hevlayer.cli.layer")
RUN_SECONDS_MAX = 60
ESCAPE = "\x1b["
JOB = {
    "id": "j1",
    "namespace": "films",
    "status": "running",
    "progress": 0.0,
    "documents_scanned": 0,
    "created_at": "2026-01-02T03:04:05Z",
}


class Terminal:
    """A pseudo-terminal whose screen is read to its end. Use as a context manager; `text` is complete afterwards."""

    def __enter__(self) -> "Terminal":
        self._screen, self.end = pty.openpty()
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        # A terminal without anybody at its other end gives an error instead of an end.
        with contextlib.suppress(OSError):
            while part := os.read(self._screen, 65536):
                self._parts.append(part)

    def __exit__(self, *_: object) -> None:
        os.close(self.end)
        self._reader.join(RUN_SECONDS_MAX)
        os.close(self._screen)
        self.text = b"".join(self._parts).decode()


def environment(**changes: str) -> dict[str, str]:
    cleared = {name: value for name, value in os.environ.items() if not name.startswith(("LAYER_", "TURBOPUFFER_"))}
    return {**cleared, "TERM": "xterm", "COLUMNS": "120", **changes}


@pytest.fixture
def server():
    with CannedServer() as running:
        running.answers["POST /v2/namespaces/films/warm"] = (202, JOB)
        states = [{**JOB, "progress": share, "documents_scanned": round(share * 4000)} for share in (0.25, 0.5, 0.75)]
        states.append({**states[-1], "status": "completed", "progress": 1.0, "documents_scanned": 4000})
        running.answers["GET /v2/namespaces/films/warm-jobs/j1"] = [(200, state) for state in states]
        yield running


def warm(server, **streams) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAYER, "warm", "start", "films"],
        env=environment(LAYER_GATEWAY_URL=server.url),
        timeout=RUN_SECONDS_MAX,
        check=True,
        text=True,
        **streams,
    )


def test_a_job_has_a_bar_on_standard_error_when_that_is_a_terminal(server):
    with Terminal() as terminal:
        finished = warm(server, stdout=subprocess.PIPE, stderr=terminal.end)
    assert "warming films" in terminal.text
    assert "3,000 documents" in terminal.text
    assert ESCAPE not in finished.stdout
    assert "completed" in finished.stdout


def test_a_job_has_no_bar_elsewhere(server):
    finished = warm(server, capture_output=True)
    assert finished.stderr == ""
    assert ESCAPE not in finished.stdout


def test_titles_are_emphasised_on_a_terminal(server):
    with Terminal() as terminal:
        warm(server, stdout=terminal.end, stderr=subprocess.PIPE)
    assert f"{ESCAPE}1m" in terminal.text


async def test_a_load_run_is_seen_live_on_a_terminal(tmp_path):
    async with RecordingUpstream() as upstream:
        with Terminal() as terminal:
            process = await asyncio.create_subprocess_exec(
                *(*LAYER, "bench", "--direct", upstream.url, "--documents", "20", "--dimensions", "2"),
                *("--duration", "2", "--slice", "0.25", "--warm-up", "0", "--output", str(tmp_path)),
                env=environment(),
                stdout=asyncio.subprocess.PIPE,
                stderr=terminal.end,
            )
            async with asyncio.timeout(RUN_SECONDS_MAX):
                out, _ = await process.communicate()
        assert process.returncode == 0, terminal.text
        sent = len(upstream.requests)
    assert "measuring, seconds" in terminal.text
    # Once for each slice, and not only at the end.
    assert terminal.text.count("Per second") >= 4
    assert ESCAPE not in out.decode()
    last = out.decode().splitlines()[-3].split()
    # The writes of the load, the index and the deletion are not the measured load's.
    assert last[:2] == ["all", "direct"]
    assert int(last[2].replace(",", "")) == sent - 3
