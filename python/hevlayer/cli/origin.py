"""`hevlayer origin`: the local origin, for development and tests."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from hevlayer.cli.failures import sentence
from hevlayer.cli.options import Command, Option
from hevlayer.errors import ValidationError
from hevlayer.origin.config import OriginConfig
from hevlayer.origin.control import INDEX_LAG_MS_MAX
from hevlayer.origin.faults import FaultConfig, decode_faults
from hevlayer.origin.process import run_origin
from hevlayer.settings import path, seconds, switch, text, whole

_BYTES_MAX = 1 << 40
_DEFAULTS = OriginConfig(data_dir=Path())


def _faults(value: str) -> FaultConfig:
    try:
        return decode_faults(value.encode())
    except ValidationError as error:
        raise ValueError(f"must be a JSON object of rules; {error.message}") from error


OPTIONS = (
    Option("port", "LAYER_ORIGIN_PORT", whole(0, 65535), "TCP port; 0 takes a free one", _DEFAULTS.port),
    Option("host", "LAYER_ORIGIN_HOST", text, "address to listen on", _DEFAULTS.host),
    Option("data-dir", "LAYER_ORIGIN_DATA_DIR", path, "directory that holds the namespaces", required=True),
    Option("threads", "LAYER_ORIGIN_THREADS", whole(1, 256), "engine calls at once", _DEFAULTS.threads),
    Option(
        "body-bytes-max",
        "LAYER_ORIGIN_BODY_BYTES_MAX",
        whole(1, _BYTES_MAX),
        "largest request body in bytes, also after inflating",
        _DEFAULTS.body_bytes_max,
    ),
    Option(
        "query-billing-floor-bytes",
        "LAYER_ORIGIN_QUERY_BILLING_FLOOR_BYTES",
        whole(0, _BYTES_MAX),
        "least `billable_logical_bytes_queried` a query reports",
        _DEFAULTS.query_billing_floor_bytes,
    ),
    Option(
        "index-lag-ms",
        "LAYER_ORIGIN_INDEX_LAG_MS",
        whole(0, INDEX_LAG_MS_MAX),
        "milliseconds until a written row counts as indexed",
        _DEFAULTS.index_lag_ms,
    ),
    Option(
        "drain-seconds",
        "LAYER_ORIGIN_DRAIN_SECONDS",
        seconds(0, 600),
        "seconds for requests in flight at a stop",
        _DEFAULTS.drain_seconds,
    ),
    Option(
        "control", "LAYER_ORIGIN_CONTROL", switch, "serve /_origin/*, through which tests inject faults", default=False
    ),
    Option("faults", "LAYER_ORIGIN_FAULTS", _faults, "faults from the start, as JSON {rules, seed}"),
)


def _run(values: Mapping[str, object]) -> int:
    settings: dict[str, Any] = {name.replace("-", "_"): value for name, value in values.items()}
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings["faults"] = settings["faults"] or FaultConfig()
    try:
        uvloop.run(run_origin(OriginConfig(**settings)))
    except OSError as error:
        print(f"hevlayer origin: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


COMMAND = Command(
    "origin", "serve the Turbopuffer API from a local directory, for development and tests", OPTIONS, _run
)
