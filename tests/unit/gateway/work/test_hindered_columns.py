"""A build of columns that cannot write: counts are right all the time, the failure is counted, and it mends itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hindered_columns import EXPECTED, HINDRANCES

SCRIPT = Path(__file__).with_name("hindered_columns.py")
RUN_SECONDS = 90


@pytest.mark.parametrize("hindrance", HINDRANCES)
def test_a_directory_that_cannot_be_written_to(tmp_path, hindrance):
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), hindrance],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4_000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    # Never another number, and never an error; the cache answers by rows until there are columns.
    assert told == {"counts": [[EXPECTED, "cache"]], "by_columns_before": 0, "left": ["", ".columns"]}
