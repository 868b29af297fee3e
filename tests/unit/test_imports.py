"""Each package can be the first that is imported: none leans on another having been loaded before it."""

import subprocess
import sys
from pathlib import Path

import hevlayer

ROOT = Path(hevlayer.__file__).parent
SECONDS_MAX = 60
# The extension is loaded once a process; everything else is forgotten before each import.
PROGRAM = """
import importlib, sys
failed = []
for package in sys.argv[1:]:
    for name in [name for name in sys.modules if name.startswith("hevlayer") and name != "hevlayer._native"]:
        del sys.modules[name]
    try:
        importlib.import_module(package)
    except ImportError as error:
        failed.append(f"{package}: {error}")
print("\\n".join(failed), end="")
"""


def test_every_package_can_be_imported_first():
    packages = sorted(
        ".".join(["hevlayer", *path.parent.relative_to(ROOT).parts]) for path in ROOT.rglob("__init__.py")
    )
    assert "hevlayer.gateway.query" in packages
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *packages], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
