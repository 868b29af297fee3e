import threading

import pytest

from hevlayer.stores.daemon_threads import DaemonThreads

WAIT_SECONDS = 10.0


def test_work_is_done_and_its_errors_come_back():
    threads = DaemonThreads(2, "test")
    assert [each.result(WAIT_SECONDS) for each in [threads.submit(divmod, 7, number) for number in (2, 3)]] == [
        (3, 1),
        (2, 1),
    ]
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 7, 0).result(WAIT_SECONDS)
    threads.shutdown()
    assert threads.have_ended
    with pytest.raises(RuntimeError):
        threads.submit(divmod, 7, 2)


def test_no_more_threads_than_were_asked_for():
    gate, threads = threading.Event(), DaemonThreads(2, "test")
    work = [threads.submit(lambda: (gate.wait(WAIT_SECONDS), threading.current_thread().name)[1]) for _ in range(6)]
    gate.set()
    assert len({each.result(WAIT_SECONDS) for each in work}) <= 2
    # One that is idle is used again.
    assert threads.submit(lambda: threading.current_thread().daemon).result(WAIT_SECONDS)
    threads.shutdown()


def test_a_thread_that_stands_still_is_not_waited_for_and_what_is_queued_is_cancelled():
    gate, threads = threading.Event(), DaemonThreads(1, "test")
    stuck, queued = threads.submit(gate.wait, WAIT_SECONDS), threads.submit(int)
    threads.shutdown(wait=False, cancel_futures=True)
    assert queued.cancelled()
    assert not threads.have_ended
    gate.set()
    assert stuck.result(WAIT_SECONDS)
    threads.shutdown()
    assert threads.have_ended
