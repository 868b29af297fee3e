"""Columns of a cached namespace, with all that changed since, equal its rows: whatever was written, whoever wrote it,
and wherever a build was stopped."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cached_namespace import NAME, NOW_MS, TTL_MS, Cached, made, open_engine, told
from filter_namespace import Namespace
from filter_worlds import World

from hevlayer.kernels.doccache import DocCacheError
from hevlayer.kernels.filters import CancelFlag, CompiledFilter, ScanStoppedError
from hevlayer.kernels.origin import OriginEngine

WORLDS = int(os.environ.get("COLUMN_WORLDS", "6"))
ROWS = 120
STEPS = 40
BUILDER = Path(__file__).with_name("column_builder.py")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OriginEngine]:
    engine = OriginEngine(str(tmp_path_factory.mktemp("origin")))
    yield engine
    engine.close()


def filled(origin: OriginEngine, directory: Path, seed: int, name: str) -> Cached:
    world = World(seed)
    namespace = Namespace(origin, f"{name}-{seed}", world)
    ids = world.ids(ROWS)
    namespace.write([world.row(row_id) for row_id in ids])
    cached = Cached(open_engine(directory), namespace)
    cached.fill(ids)
    return cached


def same(cached: Cached, conditions: int = 6) -> None:
    """Columns tell what rows tell; of a namespace whose writes are over, also what the origin and the twin tell."""
    shown = cached.columns()
    assert shown is not None
    table, facts = shown
    scan, facts_of_scan = cached.scan()
    assert facts == facts_of_scan
    world, fields = cached.origin.world, list(cached.origin.world.types)
    ids = list(cached.origin.rows)
    for _ in range(conditions):
        condition = world.condition(ids)
        compiled = CompiledFilter(json.dumps(condition).encode(), cached.schema)
        found = told(compiled, table, fields)
        assert found == told(compiled, scan, fields), condition
        if not facts["marked"] and not facts["holes"]:
            expected = cached.origin.found(condition)
            assert json.loads(found[1]) == expected, condition
            assert expected is not None
            assert set(expected) == cached.origin.found_by_twin(condition), condition


@pytest.mark.parametrize("seed", range(WORLDS))
def test_columns_follow_every_change(origin: OriginEngine, tmp_path: Path, seed: int) -> None:
    cached = filled(origin, tmp_path, seed, "follow")
    others = Cached(open_engine(tmp_path), cached.origin)
    dice, world = cached.dice, cached.origin.world
    assert cached.columns() is None
    assert cached.build()["rows"] == ROWS
    opened: list[tuple[int, list[int | str]]] = []
    snapshots = []
    for _ in range(STEPS):
        writer = dice.choice([cached, others])
        known = [row_id for row_id in cached.origin.rows if all(row_id not in ids for _, ids in opened)]
        some = dice.sample(known, min(len(known), dice.randint(1, 4)))
        match dice.choice(["write", "write", "add", "delete", "refused", "open", "close", "unknown", "build", "tidy"]):
            case "write":
                writer.write(some, [])
            case "add":
                writer.write([row_id for row_id in world.ids(400) if row_id not in cached.origin.rows][:3], [])
            case "delete":
                writer.write([], some)
            case "refused":
                writer.settle(writer.mark(some), "refused")
            case "open":
                opened.append((writer.mark(some), some))
            case "close" if opened:
                token, ids = opened.pop()
                writer.write(ids, [], token=token)
            case "unknown":
                # Nobody knows what became of it: a hole, until somebody reads the rows again.
                writer.settle(writer.mark(some), "applied")
                writer.fill(some)
            case "build":
                writer.build()
            case "tidy":
                writer.engine.tidy_columns()
        same(cached, 2)
        same(others, 2)
        shown = cached.columns()
        assert shown is not None
        snapshots.append((shown[0], told(CompiledFilter(None, cached.schema), shown[0], ["text"])))
    for table, before in snapshots:
        # A snapshot stays what it was.
        assert told(CompiledFilter(None, cached.schema), table, ["text"]) == before
    for token, ids in opened:
        cached.write(ids, [], token=token)
    same(cached)
    for engine in (cached.engine, others.engine):
        engine.close(NOW_MS)


def test_columns_and_rows_agree_while_others_write(origin: OriginEngine, tmp_path: Path) -> None:
    cached = filled(origin, tmp_path, 7, "racing")
    cached.build()
    rows = cached.origin.stored()
    keys = [cached.origin.key(row_id) for row_id in cached.origin.rows]
    stop = threading.Event()
    writers = [Cached(open_engine(tmp_path), cached.origin) for _ in range(2)]

    def write(writer: Cached, number: int) -> None:
        token = 1_000_000 * (number + 1)
        while not stop.is_set():
            token += 1
            chosen = writer.dice.sample(keys[number::2], 3)
            made(writer.engine.mark(token, NAME, chosen, NOW_MS + 60_000, in_place=True))
            gone = chosen[:1]
            made(writer.engine.settle(token, NAME, "applied", NOW_MS, rows=rows, deleted=gone, in_place=True))
            if token % 50 == 0:
                # None while the other one builds.
                writer.engine.build_columns(NAME, writer.schema, writer.attributes, NOW_MS)

    threads = [threading.Thread(target=write, args=(writer, number)) for number, writer in enumerate(writers)]
    everything = CompiledFilter(None, cached.schema)
    compared = 0
    for thread in threads:
        thread.start()
    try:
        for _ in range(4_000):
            shown = cached.columns()
            scan, _ = cached.scan()
            # Only of one and the same moment can they be compared.
            if shown is not None and shown[0].stats()["sequence"] == scan.sequence:
                assert told(everything, shown[0], ["text"]) == told(everything, scan, ["text"])
                compared += 1
                if compared == 100:
                    break
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert compared >= 20
    same_now = cached.columns()
    assert same_now is not None
    assert told(everything, same_now[0], ["text"]) == told(everything, cached.scan()[0], ["text"])
    for engine in (cached.engine, *(writer.engine for writer in writers)):
        engine.close(NOW_MS)


def test_a_new_epoch_and_old_rows_have_no_columns(origin: OriginEngine, tmp_path: Path) -> None:
    cached = filled(origin, tmp_path, 3, "epoch")
    cached.build()
    assert cached.columns(NOW_MS + TTL_MS - 1) is not None
    assert cached.columns(NOW_MS + TTL_MS) is None
    # Nobody can use it any more.
    assert cached.engine.column_files() == []
    cached.build()
    same(cached)
    made(cached.engine.clear(NAME, in_place=True))
    assert cached.columns() is None
    cached.engine.tidy_columns()
    assert cached.engine.column_files() == []
    cached.fill(list(cached.origin.rows))
    assert cached.columns() is None
    cached.build()
    same(cached)
    cached.engine.drop_columns(NAME)
    assert (cached.columns(), cached.engine.column_files()) == (None, [])
    cached.engine.close(NOW_MS)


def test_what_another_engine_owes_is_not_shown(origin: OriginEngine, tmp_path: Path) -> None:
    cached = filled(origin, tmp_path, 9, "owed")
    cached.build()
    other = open_engine(tmp_path)
    assert cached.columns() is not None
    for owed in ([NAME], None):
        other.owe(1, owed)
        assert cached.columns() is None
        assert cached.engine.columns_at_once(NAME, NOW_MS) is None
        with pytest.raises(DocCacheError):
            cached.scan()
        other.owe(1, [])
        same(cached, 1)
        assert cached.engine.columns_at_once(NAME, NOW_MS) is not None
    for engine in (cached.engine, other):
        engine.close(NOW_MS)


def test_columns_outlive_the_process_and_not_the_directory(origin: OriginEngine, tmp_path: Path) -> None:
    cached = filled(origin, tmp_path, 4, "again")
    cached.build()
    some = list(cached.origin.rows)[:3]
    cached.write(some, [])
    cached.leave()
    again = Cached(open_engine(tmp_path), cached.origin)
    same(again)
    again.leave()
    (tmp_path / "state").write_text("of another machine")
    lost = Cached(open_engine(tmp_path), cached.origin)
    assert lost.columns() is None
    assert not (tmp_path / "columns").exists()
    lost.engine.close(NOW_MS)


def test_a_damaged_file_is_not_used(origin: OriginEngine, tmp_path: Path) -> None:
    cached = filled(origin, tmp_path, 5, "damaged")
    cached.build()
    (path,) = (tmp_path / "columns").glob("*.columns")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert cached.columns() is None
    assert list((tmp_path / "columns").glob("*.columns")) == []
    cached.build()
    same(cached)
    cached.engine.close(NOW_MS)


def test_a_build_that_is_stopped_leaves_what_was_there(origin: OriginEngine, tmp_path: Path) -> None:
    cached = filled(origin, tmp_path, 6, "stopped")
    cancel = CancelFlag()
    cancel.set()
    for _ in range(2):
        with pytest.raises(ScanStoppedError):
            cached.engine.build_columns(NAME, cached.schema, cached.attributes, NOW_MS, cancel=cancel)
    assert cached.columns() is None
    cached.build()
    with pytest.raises(ScanStoppedError):
        cached.engine.build_columns(NAME, cached.schema, cached.attributes, NOW_MS, timeout_ms=0)
    same(cached)
    cached.engine.close(NOW_MS)


def test_a_builder_that_is_killed_leaves_no_half_segment(origin: OriginEngine, tmp_path: Path) -> None:
    """Another process builds again and again, and is killed at a moment of its own each time."""
    cached = filled(origin, tmp_path, 8, "killed")
    columns = tmp_path / "columns"
    unfinished = 0
    for round_number in range(12):
        builder = subprocess.Popen(
            [sys.executable, str(BUILDER), str(tmp_path), json.dumps(cached.attributes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert builder.stdin is not None
        assert builder.stdout is not None
        schema = cached.origin.world.schema | {"id": {"type": cached.origin.world.id_type}}
        builder.stdin.write(json.dumps(schema).encode() + b"\n")
        builder.stdin.flush()
        assert builder.stdout.readline() == b"building\n"
        cached.write(list(cached.origin.rows)[round_number : round_number + 2], [])
        time.sleep(0.002 * round_number)
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        builder.stdin.close()
        builder.stdout.close()
        unfinished += len(list(columns.glob("*.building")))
        if cached.columns() is not None:
            same(cached, 2)
        # The lock went with its process.
        cached.build()
        assert list(columns.glob("*.building")) == []
        same(cached, 2)
    cached.engine.close(NOW_MS)
