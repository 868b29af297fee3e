"""A server that speaks the S3 protocol: versitygw over a directory."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

START_SECONDS = 30
STOP_SECONDS = 10
ACCESS_KEY = "test-access"
SECRET_KEY = "test-secret"
BUCKET = "layer-objects"


class S3Server:
    """Listens on a socket in a directory of its own; the tests' proxy gives it a port."""

    def __init__(self, binary: Path) -> None:
        # A socket's path has at most 107 bytes, which a test's own directory may exceed.
        self._directory = Path(tempfile.mkdtemp(prefix="s3-"))
        self.socket = self._directory / "socket"
        root = self._directory / "root"
        (root / BUCKET).mkdir(parents=True)
        (self._directory / "sidecar").mkdir()
        options = [
            "--quiet",
            "--keep-alive",
            "--port",
            str(self.socket),
            "--access",
            ACCESS_KEY,
            "--secret",
            SECRET_KEY,
        ]
        backend = ["posix", "--sidecar", str(self._directory / "sidecar"), str(root)]
        self._process = subprocess.Popen(
            [binary, *options, *backend],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={},
        )
        until = time.monotonic() + START_SECONDS
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                self._process.kill()
                output = self._process.communicate(timeout=STOP_SECONDS)[0].decode()
                raise RuntimeError(f"the S3 server did not start: {output[-2000:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=STOP_SECONDS)
        shutil.rmtree(self._directory)
