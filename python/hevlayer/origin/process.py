"""The origin as a process: opens the data, says what it recovered, serves until it is told to stop."""

import asyncio
import sys
from collections.abc import Mapping

import orjson

from hevlayer.clock import SystemClock
from hevlayer.http.server import HttpServer, ServerConfig, serve
from hevlayer.kernels.origin import OriginEngine
from hevlayer.origin.app import OriginApp
from hevlayer.origin.config import OriginConfig
from hevlayer.stopping import stop_event


class RunningOrigin:
    """An origin that serves in the running loop. Made by `start_origin`."""

    def __init__(self, config: OriginConfig, engine: OriginEngine, app: OriginApp, server: HttpServer) -> None:
        self._config = config
        self._engine = engine
        self._app = app
        self._server = server
        self.recovery: Mapping[str, object] = engine.recovery()

    @property
    def url(self) -> str:
        host = self._config.host
        return f"http://[{host}]:{self._server.port}" if ":" in host else f"http://{host}:{self._server.port}"

    @property
    def oldest_begun(self) -> float | None:
        """When the oldest request that is still being carried out began, in the loop's seconds."""
        return self._app.oldest_begun

    async def close(self) -> bool:
        """Finishes what is in flight for at most `drain_seconds`, then closes the data. Returns whether all of it was
        finished. What the engine has begun is finished in any case."""
        finished = await self._server.drain(self._config.drain_seconds)
        await self._server.close()
        await asyncio.to_thread(self._app.close)
        await asyncio.to_thread(self._engine.close)
        return finished


async def start_origin(config: OriginConfig) -> RunningOrigin:
    """Opens the data directory, recovers what is in it, and listens.

    Raises: OSError: the address is taken, or the data directory cannot be used or is in use by another process.
    """
    config.data_dir.mkdir(parents=True, exist_ok=True)
    engine = await asyncio.to_thread(
        OriginEngine,
        str(config.data_dir),
        query_billing_floor_bytes=config.query_billing_floor_bytes,
        index_lag_ms=config.index_lag_ms,
    )
    app = OriginApp(engine, config, SystemClock())
    try:
        server = await serve(app.handle, host=config.host, port=config.port, config=ServerConfig())
    except BaseException:
        app.close()
        engine.close()
        raise
    return RunningOrigin(config, engine, app, server)


def announce(event: str, fields: Mapping[str, object]) -> None:
    """One JSON line on standard output. Starters read these to learn the port."""
    sys.stdout.buffer.write(orjson.dumps({"event": event, **fields}) + b"\n")
    sys.stdout.buffer.flush()


async def run_origin(config: OriginConfig) -> None:
    """Serves until SIGTERM or SIGINT; a second one ends it at once. Raises: OSError: as `start_origin`."""
    stop = stop_event()
    origin = await start_origin(config)
    announce("origin recovered", origin.recovery)
    announce("origin listening", {"url": origin.url, "data_dir": str(config.data_dir), "control": config.control})
    await stop.wait()
    announce("origin stopped", {"finished": await origin.close()})
