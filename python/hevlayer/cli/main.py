"""`hevlayer`: reads the command line, checks the whole configuration, then starts one process."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from hevlayer.cli import dev, gateway, metrics, origin
from hevlayer.cli.options import Command, add_options
from hevlayer.errors import ConfigurationError

EXIT_USAGE = 2


def _version(_values: Mapping[str, object]) -> int:
    try:
        version = metadata.version("hevlayer")
    except metadata.PackageNotFoundError:
        version = "(run from a source tree)"
    print(f"hevlayer {version}")
    return 0


COMMANDS: tuple[Command, ...] = (
    dev.COMMAND,
    gateway.COMMAND,
    origin.COMMAND,
    metrics.RULES,
    Command("version", "print the version", (), _version),
)

GROUPS = {"metrics": "what the gateway exports, as files"}
"""What the help says of commands whose name has two words."""


def build_parser(commands: Sequence[Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hevlayer", description="A gateway for retrieval systems in front of Turbopuffer."
    )
    subparsers = parser.add_subparsers(dest="command", metavar="command", required=True)
    groups: dict[str, Any] = {}
    for command in commands:
        group, _, name = command.name.rpartition(" ")
        if group and group not in groups:
            own = subparsers.add_parser(group, help=GROUPS[group], description=f"{GROUPS[group].capitalize()}.")
            groups[group] = own.add_subparsers(dest="subcommand", metavar="command", required=True)
        subparser = groups.get(group, subparsers).add_parser(
            name,
            help=command.help,
            description=f"{command.help[:1].upper()}{command.help[1:]}.",
            epilog="Every option can be set by the environment variable in brackets; the command line wins."
            if command.options
            else None,
        )
        add_options(subparser, command.options)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the process's exit status."""
    arguments = vars(build_parser(COMMANDS).parse_args(argv))
    name = " ".join(filter(None, (arguments["command"], arguments.get("subcommand"))))
    command = next(command for command in COMMANDS if command.name == name)
    try:
        return command.run(command.read(arguments))
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"hevlayer {command.name}: {problem}", file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
