"""A process that dies while it publishes a snapshot leaves no body or a whole one, at each step of both adapters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kill_publisher import KILLED, SNAPSHOT

from hevlayer.clock import SystemClock
from hevlayer.gateway.snapshots.store import SnapshotStore
from hevlayer.stores.objects import LocalObjects, ObjectStoreError

STEPS = 20
RUN_SECONDS = 60


async def found(objects):
    """The history, after every body of it was read and proved by its hash."""
    store = SnapshotStore(objects, SystemClock())
    entries = await store.newest("films", 10)
    for entry in entries:
        assert (await store.find("films", entry.short_sha)) == SNAPSHOT
    return len(entries)


async def test_a_process_killed_at_each_change_of_the_disk(tmp_path):
    script = Path(__file__).with_name("kill_publisher.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(STEPS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=RUN_SECONDS,
    )
    codes = [int(line.split()[1]) for line in ran.stdout.splitlines()]
    killed = codes.index(0)
    assert set(codes[:killed]) == {KILLED}
    assert set(codes[killed:]) == {0}
    # Directories, the partial file and both of its halves, both syncs, the link and what follows it.
    assert killed >= 8
    seen = []
    for step in range(STEPS):
        objects = LocalObjects(tmp_path / str(step))
        seen.append(await found(objects))
        # Whatever was left, the next one publishes.
        await SnapshotStore(objects, SystemClock()).publish(SNAPSHOT)
        assert await found(objects) == 1
    # Before the link there is none, after it there is one.
    assert seen == sorted(seen)
    assert {seen[0], seen[killed - 1], seen[killed]} == {0, 1}


@pytest.mark.parametrize("end", [1, 60, -400, -40, -1])
async def test_a_client_that_dies_within_its_request_to_s3(s3, proxy, end):
    """`end`: so many bytes of the request arrive; below 0: all but so many."""
    proxy.cut_request = end
    with pytest.raises(ObjectStoreError):
        await SnapshotStore(s3, SystemClock()).publish(SNAPSHOT)
    assert {line.split()[0] for line in proxy.requests} == {"PUT"}
    proxy.reset()
    assert await found(s3) == 0
    await SnapshotStore(s3, SystemClock()).publish(SNAPSHOT)
    assert await found(s3) == 1


async def test_a_client_that_dies_before_the_answer_of_s3(s3, proxy):
    """The body is there, whole."""
    proxy.lose_answers = 1_000
    with pytest.raises(ObjectStoreError):
        await SnapshotStore(s3, SystemClock()).publish(SNAPSHOT)
    assert {line.split()[0] for line in proxy.requests} == {"PUT"}
    proxy.reset()
    assert await found(s3) == 1
