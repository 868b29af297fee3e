"""The synchronous client in threads, and when it is interrupted."""

import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from client_stage import Answer, Hang

import hevlayer
from hevlayer.client.sync.side import Side

THREAD_NAME = "hevlayer-client"
WAIT_SECONDS = 5
INTERRUPTED = """
import signal, sys
import hevlayer
signal.signal(signal.SIGALRM, signal.default_int_handler)
client = hevlayer.Hevlayer(base_url=sys.argv[1], timeout_seconds=60, max_retries=0)
client.get_metrics()
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    client.get_health()
except KeyboardInterrupt:
    print("interrupted")
print(client.get_metrics())
"""

FORKED = """
import asyncio, os, signal, sys
import hevlayer
one, other = hevlayer.Hevlayer(base_url=sys.argv[1]), hevlayer.AsyncHevlayer(base_url=sys.argv[1])
one.get_metrics()
child = os.fork()
if child == 0:
    signal.alarm(20)
    for call in (one.get_metrics, lambda: asyncio.run(other.get_metrics())):
        try:
            call()
        except hevlayer.HevlayerError as error:
            print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(one.get_metrics())
"""


def side_threads():
    return [each for each in threading.enumerate() if each.name == THREAD_NAME]


def wait_until_none():
    deadline = time.monotonic() + WAIT_SECONDS
    while side_threads() and time.monotonic() < deadline:
        time.sleep(0.002)
    return not side_threads()


def test_a_signal_interrupts_a_call_and_the_next_one_works(serve):
    """The process ends at once, though the call that was interrupted still waits."""
    server = serve(Answer(raw=b"first"), Hang(), Answer(raw=b"last"))
    finished = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, server.url], capture_output=True, text=True, check=True, timeout=30
    )
    assert finished.stdout.split() == ["interrupted", "last"]


def test_one_client_in_many_threads(serve):
    server = serve(Answer(body={"id": "1", "attributes": {}}))
    with hevlayer.Hevlayer(base_url=server.url) as client, ThreadPoolExecutor(8) as pool:
        documents = list(pool.map(lambda _: client.fetch_document("a", 1).id, range(64)))
    assert documents == ["1"] * 64
    assert len(server.requests) == 64
    assert server.connections <= 8


def test_one_thread_beside_the_main_one_which_ends_with_the_client(serve):
    server = serve(Answer(raw=b"x"))
    with hevlayer.Hevlayer(base_url=server.url) as client:
        for _ in range(5):
            client.get_metrics()
        assert len(side_threads()) == 1
    assert wait_until_none()
    forgotten = hevlayer.Hevlayer(base_url=server.url)
    forgotten.get_metrics()
    del forgotten
    gc.collect()
    assert wait_until_none()


def test_errors_come_out_and_calls_within_calls_run():
    side = Side()

    def fails():
        raise LookupError("inside")

    with pytest.raises(LookupError, match="inside"):
        side.run(fails)
    assert side.run(lambda: "fine") == "fine"
    # What runs beside the main thread is not in it, and runs its own calls where it is.
    assert side.run(lambda: side.run(lambda: threading.current_thread().name)) == THREAD_NAME
    side.close()
    assert wait_until_none()


def test_a_client_from_before_a_fork_says_so(serve):
    server = serve(Answer(raw=b"text"), Answer(raw=b"text"))
    done = subprocess.run(
        [sys.executable, "-c", FORKED, server.url], capture_output=True, text=True, timeout=60, check=True
    )
    *refused, last = done.stdout.splitlines()
    assert [line.partition(";")[0] for line in refused] == ["the client was made before this process was forked"] * 2
    assert last == "text"
