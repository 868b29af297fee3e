"""`hevlayer`: reads the command line, checks the whole configuration, then starts one process."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata

from hevlayer.cli import dev, gateway, origin
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
    Command("version", "print the version", (), _version),
)


def build_parser(commands: Sequence[Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hevlayer", description="A gateway for retrieval systems in front of Turbopuffer."
    )
    subparsers = parser.add_subparsers(dest="command", metavar="command", required=True)
    for command in commands:
        subparser = subparsers.add_parser(
            command.name,
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
    command = next(command for command in COMMANDS if command.name == arguments["command"])
    try:
        return command.run(command.read(arguments))
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"hevlayer {command.name}: {problem}", file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
