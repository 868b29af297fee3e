"""`hevlayer gateway`: the Turbopuffer-compatible API in front of an upstream."""

import sys
from collections.abc import Mapping

import uvloop

from hevlayer.cli.failures import sentence
from hevlayer.cli.options import Command, Option
from hevlayer.gateway.app import run_gateway
from hevlayer.gateway.config import SETTINGS, GatewayConfig
from hevlayer.settings import Setting


def option_of(setting: Setting) -> Option:
    """A setting as a command-line option."""
    return Option(
        setting.option,
        setting.env,
        setting.parse,
        setting.summary,
        setting.default if setting.default != "" else None,
    )


OPTIONS = tuple(option_of(setting) for setting in SETTINGS)


def config_of(values: Mapping[str, object]) -> GatewayConfig:
    """The configuration of checked option values. Raises: ConfigurationError: a joint rule is broken."""
    fields = {setting.option: setting for setting in SETTINGS}
    given = {
        fields[name].field: fields[name].default if value is None else value
        for name, value in values.items()
        if name in fields
    }
    return GatewayConfig(**given).check()  # type: ignore[arg-type]


def _run(values: Mapping[str, object]) -> int:
    config = config_of(values)
    try:
        uvloop.run(run_gateway(config))
    except OSError as error:
        print(f"hevlayer gateway: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


COMMAND = Command("gateway", "serve the Turbopuffer-compatible API in front of an upstream", OPTIONS, _run)
