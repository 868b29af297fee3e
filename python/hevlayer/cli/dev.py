"""`hevlayer dev`: the gateway, a local origin and a PostgreSQL on one machine, without an account."""

import contextlib
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import uvloop

from hevlayer.cli.failures import sentence
from hevlayer.cli.options import Command, Option
from hevlayer.clock import Supervisor, SystemClock
from hevlayer.gateway.app import Gateway
from hevlayer.gateway.config import GatewayConfig
from hevlayer.gateway.logs import configure_logging
from hevlayer.origin.config import OriginConfig
from hevlayer.origin.process import announce, start_origin
from hevlayer.settings import path, switch, text, whole
from hevlayer.stopping import stop_event
from hevlayer.stores.postgres.embedded import EmbeddedPostgres

LOCAL_UPSTREAM_KEY = "tpuf_local_origin"
"""The origin takes any bearer; this one, so that a real key in the environment never reaches it."""

OPTIONS = (
    Option("port", "LAYER_GATEWAY_PORT", whole(0, 65535), "TCP port of the gateway; 0 takes a free one", 8080),
    Option("host", "LAYER_GATEWAY_HOST", text, "address to listen on", "127.0.0.1"),
    Option("origin-port", "LAYER_ORIGIN_PORT", whole(0, 65535), "TCP port of the local origin", 8081),
    Option("data-dir", "LAYER_DEV_DATA_DIR", path, "directory that holds everything", Path(".run")),
    Option("postgres", "LAYER_DEV_POSTGRES", switch, "run a PostgreSQL, unless DATABASE_URL names one", True),
)


def _overrides(values: Mapping[str, object]) -> dict[str, Any]:
    """The gateway's settings that are not the environment's to decide."""
    return {
        "host": values.get("host"),
        "port": values.get("port"),
        "turbopuffer_api_key": LOCAL_UPSTREAM_KEY,
        "upstream_url": "http://127.0.0.1",
        "data_dir": None,
    }


def further_problems(values: Mapping[str, object], _broken: Collection[str]) -> list[str]:
    """The rules that the gateway's settings in the environment break."""
    return GatewayConfig.problems(**_overrides(values))


async def run_dev(values: Mapping[str, object]) -> None:
    """Serves until SIGTERM or SIGINT; the gateway drains first, then the origin closes its data, then PostgreSQL.
    A second signal ends the process at once.

    Raises: ConfigurationError: the environment breaks a rule of the gateway's settings. OSError: an address is taken,
        or the data directory cannot be used.
    """
    folder = cast(Path, values["data-dir"])
    host = cast(str, values["host"])
    settings = GatewayConfig.read(**_overrides(values))
    configure_logging(settings.log_level)
    stop = stop_event()
    async with contextlib.AsyncExitStack() as stack:
        local: dict[str, object] = {"data_dir": folder / "gateway"}
        if values["postgres"] and not settings.database_url:
            local["database_url"] = await _start_postgres(stack, folder / "postgres")
        origin = await start_origin(
            OriginConfig(data_dir=folder / "origin", port=cast(int, values["origin-port"]), control=True)
        )
        stack.push_async_callback(origin.close)
        announce("origin recovered", origin.recovery)
        announce("origin listening", {"url": origin.url, "data_dir": str(folder / "origin")})
        config = GatewayConfig.read(**{**_overrides(values), **local, "upstream_url": origin.url})
        (folder / "gateway").mkdir(parents=True, exist_ok=True)
        gateway = Gateway(config)
        # A start that fails half way leaves loops and files to close as well.
        stack.push_async_callback(gateway.stop)
        await gateway.start()
        announce("ready", {"url": f"http://{host}:{gateway.port}", "upstream": origin.url, "data_dir": str(folder)})
        await stop.wait()


async def _start_postgres(stack: contextlib.AsyncExitStack, folder: Path) -> str:
    """A PostgreSQL that lives as long as the stack. Returns: its URL. Raises: OSError: it cannot start."""
    clock = SystemClock()
    postgres = EmbeddedPostgres(folder, clock)
    supervisor = Supervisor(clock)
    await postgres.start()
    stack.push_async_callback(postgres.stop)
    stack.push_async_callback(supervisor.close)
    supervisor.start("embedded PostgreSQL", postgres.keep)
    announce("postgres listening", {"url": postgres.url, "data_dir": str(folder), "pid": postgres.pid})
    return postgres.url


def _run(values: Mapping[str, object]) -> int:
    try:
        uvloop.run(run_dev(values))
    except OSError as error:
        print(f"hevlayer dev: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


COMMAND = Command(
    "dev",
    "serve the gateway, a local origin and a PostgreSQL on this machine, without an account",
    OPTIONS,
    _run,
    further_problems,
)
