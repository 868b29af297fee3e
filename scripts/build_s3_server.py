"""Builds the S3 server that the tests talk to, from the sources that `tests/service/objects/server` pins."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "tests" / "service" / "objects" / "server"
BINARIES = ROOT / "tests" / "contract" / "vendor" / "s3-server"
PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
BUILD_SECONDS = 540


def build_server() -> Path:
    """The server's binary. Built when its pinned versions changed, by whoever comes first."""
    pinned = (MODULE / "go.sum").read_bytes()
    binary, stamp = BINARIES / "versitygw", BINARIES / "go.sum"
    if binary.exists() and stamp.exists() and stamp.read_bytes() == pinned:
        return binary
    go = shutil.which("go")
    if go is None:
        raise RuntimeError("`go` is not installed; the S3 adapter cannot be checked without it")
    BINARIES.mkdir(parents=True, exist_ok=True)
    partial = BINARIES / f"partial-{os.getpid()}"
    subprocess.run(
        [go, "build", "-o", str(partial), PACKAGE],
        cwd=MODULE,
        env={**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false"},
        timeout=BUILD_SECONDS,
        check=True,
    )
    partial.replace(binary)
    stamp.write_bytes(pinned)
    return binary


if __name__ == "__main__":
    print(build_server())
