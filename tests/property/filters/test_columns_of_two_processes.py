"""Two processes that build columns of one namespace in one directory: one at a time does, and what stands is whole."""

import json
import subprocess
import sys
from pathlib import Path

from cached_namespace import NOW_MS, Cached, open_engine, told
from filter_namespace import Namespace
from filter_worlds import World

from hevlayer.kernels.filters import CompiledFilter
from hevlayer.kernels.origin import OriginEngine

RACER = Path(__file__).with_name("columns_racer.py")
ROWS = 400
BUILDS = 150
RUN_SECONDS = 90


def test_two_processes_build_at_once(tmp_path: Path) -> None:
    origin = OriginEngine(str(tmp_path / "origin"))
    world = World(12)
    namespace = Namespace(origin, "raced", world)
    ids = world.ids(ROWS)
    namespace.write([world.row(row_id) for row_id in ids])
    cached = Cached(open_engine(tmp_path / "cache"), namespace)
    cached.fill(ids)
    command = [sys.executable, str(RACER), str(tmp_path / "cache"), json.dumps(cached.attributes), str(BUILDS)]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]  # fmt: skip
    schema = json.dumps(world.schema | {"id": {"type": world.id_type}})
    try:
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(schema + "\n")
            racer.stdin.flush()
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        outputs = [racer.communicate(timeout=RUN_SECONDS)[0] for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
    reports = [json.loads(output) for output in outputs]
    assert [racer.returncode for racer in racers] == [0, 0]
    scan, _ = cached.scan()
    everything = CompiledFilter(None, cached.schema)
    counted, found, values = told(everything, scan, cached.attributes[:2])
    truth = json.dumps([counted, found.decode(), [each.decode() for each in values]])
    for report in reports:
        assert report["built"] == BUILDS
        assert report["answered"] > 0
        assert report["seen"] == [truth]
    # They did meet.
    assert sum(report["busy"] for report in reports) > 0
    # And one whole file is what they leave.
    cached.engine.tidy_columns()
    assert len(list((tmp_path / "cache" / "columns").glob("*.columns"))) == 1
    assert not list((tmp_path / "cache" / "columns").glob("*.building"))
    shown = cached.columns()
    assert shown is not None
    assert told(everything, shown[0], cached.attributes[:2]) == (counted, found, values)
    cached.engine.close(NOW_MS)
    origin.close()
