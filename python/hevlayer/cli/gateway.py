"""`hevlayer gateway`: the Turbopuffer-compatible API in front of an upstream."""

import sys
from collections.abc import Collection, Mapping

import uvloop

from hevlayer.cli.failures import sentence
from hevlayer.cli.options import Command, Option
from hevlayer.gateway.app import run_gateway
from hevlayer.gateway.config import JOINT_RULES, SETTINGS, GatewayConfig
from hevlayer.settings import Setting, joint_problems


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


_FIELDS = {setting.option: setting for setting in SETTINGS}


def _fields(values: Mapping[str, object]) -> dict[str, object]:
    return {
        _FIELDS[name].field: _FIELDS[name].default if value is None else value
        for name, value in values.items()
        if name in _FIELDS
    }


def further_problems(values: Mapping[str, object], broken: Collection[str]) -> list[str]:
    """The joint rules that the settings break."""
    return joint_problems(JOINT_RULES, _fields(values), {_FIELDS[name].field for name in broken})


def config_of(values: Mapping[str, object]) -> GatewayConfig:
    """The configuration of checked option values. Raises: ConfigurationError: a joint rule is broken."""
    return GatewayConfig(**_fields(values)).check()  # type: ignore[arg-type]


def _run(values: Mapping[str, object]) -> int:
    config = config_of(values)
    try:
        uvloop.run(run_gateway(config))
    except OSError as error:
        print(f"hevlayer gateway: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


COMMAND = Command(
    "gateway", "serve the Turbopuffer-compatible API in front of an upstream", OPTIONS, _run, further_problems
)
