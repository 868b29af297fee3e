"""The origin as a process: opens the data, says what it recovered, serves until it is told to stop."""

import asyncio
import signal
import sys
from collections.abc import Mapping

import orjson

from hevlayer.clock import SystemClock
from hevlayer.http.server import ServerConfig, serve
from hevlayer.kernels.origin import OriginEngine
from hevlayer.origin.app import OriginApp
from hevlayer.origin.config import OriginConfig


def announce(event: str, fields: Mapping[str, object]) -> None:
    """One JSON line on standard output. Starters read these to learn the port."""
    sys.stdout.buffer.write(orjson.dumps({"event": event, **fields}) + b"\n")
    sys.stdout.buffer.flush()


async def run_origin(config: OriginConfig) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what is in flight for at most `drain_seconds`.

    Raises: OSError: the address is taken or the data directory cannot be used.
    """
    config.data_dir.mkdir(parents=True, exist_ok=True)
    engine = OriginEngine(
        str(config.data_dir),
        query_billing_floor_bytes=config.query_billing_floor_bytes,
        index_lag_ms=config.index_lag_ms,
    )
    announce("origin recovered", engine.recovery())
    app = OriginApp(engine, config, SystemClock())
    try:
        server = await serve(app.handle, host=config.host, port=config.port, config=ServerConfig())
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, stop.set)
        host = f"[{config.host}]" if ":" in config.host else config.host
        announce(
            "origin listening",
            {"url": f"http://{host}:{server.port}", "data_dir": str(config.data_dir), "control": config.control},
        )
        await stop.wait()
        await server.drain(config.drain_seconds)
        await server.close()
        announce("origin stopped", {"inflight": server.inflight})
    finally:
        app.close()
        engine.close()
