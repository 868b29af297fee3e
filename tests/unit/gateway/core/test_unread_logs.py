"""A gateway whose output nobody reads goes on serving; what does not fit is dropped and counted."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from hevlayer.clock import SystemClock
from hevlayer.gateway.line_writer import LineWriter
from hevlayer.http.client import HttpClient, Origin

REQUESTS = 2_000
SCRIPT = """
import asyncio, sys
from pathlib import Path
from hevlayer.gateway.app import Gateway, configure_logging
from hevlayer.gateway.config import GatewayConfig
import logging

async def main():
    configure_logging("info")
    gateway = Gateway(GatewayConfig(port=0, upstream_url="http://127.0.0.1:1", data_dir=Path(sys.argv[1])))
    await gateway.start()
    Path(sys.argv[1], "port").write_text(str(gateway.port))
    for number in range(2000):
        logging.getLogger("noise").warning("x" * 200)
    while not Path(sys.argv[1], "stop").exists():
        await asyncio.sleep(0.01)
    await gateway.stop()

asyncio.run(main())
"""


async def test_a_gateway_whose_pipes_nobody_reads_goes_on_and_stops(tmp_path: Path) -> None:
    pipes = [os.pipe(), os.pipe()]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, str(tmp_path), stdout=pipes[0][1], stderr=pipes[1][1]
    )
    try:
        async with asyncio.timeout(30):
            while not (tmp_path / "port").exists() or not (tmp_path / "port").read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            port = int((tmp_path / "port").read_text())
            client = HttpClient(Origin.parse(f"http://127.0.0.1:{port}"), None, SystemClock())
            for _ in range(REQUESTS):
                assert (await client.request("GET", b"/health", [])).status == 200
            await client.close()
            (tmp_path / "stop").touch()
            assert await process.wait() == 0
    finally:
        for pipe in pipes:
            os.close(pipe[0])
            os.close(pipe[1])
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    gate, written = threading.Event(), bytearray()

    def write(descriptor: int, data: bytes) -> int:
        gate.wait(10)
        written.extend(data)
        return len(data)

    writer = LineWriter(9, write, bytes_max=100)
    for number in range(30):
        writer.offer(b"%09d\n" % number, 1)
    assert not writer.settle(0.0)
    gate.set()
    assert writer.settle(10.0)
    lines = bytes(written).split()
    assert 0 < len(lines) < 30
    assert writer.dropped == 30 - len(lines)
    assert [int(line) for line in lines] == list(range(len(lines)))
    writer.offer(b"again\n", 1)
    assert writer.settle(10.0)
    assert bytes(written).endswith(b"again\n")


@pytest.mark.parametrize("failure", [BrokenPipeError, OSError])
def test_a_descriptor_that_fails_loses_its_lines_and_stops_nobody(failure: type[OSError]) -> None:
    def write(descriptor: int, data: bytes) -> int:
        raise failure

    writer = LineWriter(9, write)
    writer.offer(b"a\nb\n", 2)
    assert writer.settle(10.0)
    assert writer.dropped == 2
