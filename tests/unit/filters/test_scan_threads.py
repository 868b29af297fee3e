"""Native scans beside Python: they release the GIL, end at a deadline or a cancellation, and have the threads that they
were given. What happens is counted; no time is measured."""

import itertools
import random
import sys
import threading
from pathlib import Path

import orjson
import pytest

from hevlayer.kernels.doccache import DocRows, DocScan
from hevlayer.kernels.filters import CancelFlag, ColumnTable, CompiledFilter, FilterSchema, ScanStoppedError

ROWS = 3_000
SCHEMA = FilterSchema(orjson.dumps({"id": "uint", "text": {"type": "string", "regex": True}, "n": "int"}))
# Its states are too many to be kept: a row takes milliseconds, and a scan seconds.
SLOW = CompiledFilter(orjson.dumps(["text", "Regex", "[ab]*a[ab]{200}c?d"]), SCHEMA)
STEPS = 1_000
LOOKS = 100
JOIN_SECONDS = 120
# Longer than anything here takes, so that only who gives the GIL away loses it.
NEVER_SECONDS = 10_000.0


@pytest.fixture(scope="module")
def rows():
    dice = random.Random(5)
    made = [{"id": number, "n": number, "text": "".join(dice.choices("ab", k=400))} for number in range(ROWS)]
    return DocRows(orjson.dumps({"rows": made}), [])


@pytest.fixture(scope="module")
def sources(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("columns") / "of.columns"
    ColumnTable.build(path, rows, SCHEMA, ["text", "n"])
    return {"rows": rows, "scan": DocScan.of_rows(rows), "columns": ColumnTable.open(path)}


QUESTIONS = {
    "count": lambda source, **limits: SLOW.count(source, **limits),
    "ids": lambda source, **limits: SLOW.ids(source, **limits),
    "values": lambda source, **limits: SLOW.values(source, "n", groups_max=10, **limits),
}
EVERY = list(itertools.product(QUESTIONS, ("rows", "scan", "columns")))


class Asked(threading.Thread):
    """A question in a thread of its own; `code` is why it stopped, None when it came to its end."""

    def __init__(self, question, source, **limits):
        super().__init__(daemon=True)
        self.cancel = CancelFlag()
        self.begins = threading.Event()
        self.code = "none yet"
        self._work = lambda: QUESTIONS[question](source, cancel=self.cancel, **limits)

    def run(self):
        self.begins.set()
        try:
            self._work()
            self.code = None
        except ScanStoppedError as stopped:
            self.code = stopped.code

    def ended(self):
        self.join(JOIN_SECONDS)
        assert not self.is_alive()
        return self.code


@pytest.fixture
def kept_gil():
    """Nobody is asked for the GIL: it is had by others only when it is given away."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(NEVER_SECONDS)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize(("question", "source"), EVERY)
def test_python_goes_on_during_a_scan(sources, kept_gil, question, source):
    """The scan is stopped by what Python does meanwhile; with the GIL in its hands it would come to its end first."""
    asked = Asked(question, sources[source], threads=2)
    asked.start()
    asked.begins.wait()
    steps = sum(1 for _ in range(STEPS))
    asked.cancel.set()
    assert (steps, asked.ended()) == (STEPS, "cancelled")


@pytest.mark.parametrize(("question", "source"), EVERY)
def test_a_deadline_ends_a_scan(sources, question, source):
    asked = Asked(question, sources[source], threads=2, timeout_ms=1)
    asked.start()
    assert asked.ended() == "timed_out"


def test_a_build_of_columns_gives_the_gil_away_and_can_be_stopped(rows, kept_gil, tmp_path):
    """Enough rows that the build is under way when it is told to stop."""
    many = DocRows.joined([rows] * 40)
    cancel, begins, codes = CancelFlag(), threading.Event(), []

    def build():
        begins.set()
        try:
            ColumnTable.build(tmp_path / "of.columns", many, SCHEMA, ["text", "n"], cancel=cancel)
        except ScanStoppedError as stopped:
            codes.append(stopped.code)

    building = threading.Thread(target=build, daemon=True)
    building.start()
    begins.wait()
    cancel.set()
    building.join(JOIN_SECONDS)
    assert codes == ["cancelled"]
    assert list(tmp_path.iterdir()) == []


def native_threads():
    return {path.name for path in Path("/proc/self/task").iterdir()}


@pytest.mark.parametrize("source", ["rows", "scan"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_scan_has_the_threads_that_it_was_given(sources, source, threads):
    before = native_threads()
    asked = Asked("count", sources[source], threads=threads)
    asked.start()
    most = 0
    # One of them is Python's own, which does a part itself.
    while asked.is_alive() and most < threads:
        most = max(most, len(native_threads() - before))
    for _ in range(LOOKS):
        most = max(most, len(native_threads() - before))
    asked.cancel.set()
    assert (most, asked.ended()) == (threads, "cancelled")
