"""The command tree of `layer`, and how each way of ending becomes an exit status."""

import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from hevlayer import __version__
from hevlayer.cli.layer.exits import DONE, INTERRUPTED, MEANINGS, USAGE
from hevlayer.errors import ConfigurationError

ENVIRONMENT_PREFIX = "LAYER_CLI"
_EPILOG = "\b\nExit statuses:\n" + "\n".join(f"  {status:>3}  {meaning}" for status, meaning in MEANINGS.items())


_COMMANDS: Mapping[str, tuple[str, str]] = {
    "bench": ("bench", "bench"),
    "completion": ("completion", "completion"),
    "count": ("scans", "count_"),
    "fetch": ("query", "fetch"),
    "history": ("history", "history"),
    "metrics": ("metrics", "metrics"),
    "namespaces": ("namespaces", "namespaces"),
    "query": ("query", "query"),
    "scan": ("scans", "scan"),
    "scans": ("scans", "scans"),
    "snapshot": ("snapshots", "snapshot"),
    "warm": ("warm", "warm"),
}
"""The module and the name of each command."""


class Commands(click.Group):
    """Loads a command when it is asked for: a person waits for each start, and so does completion."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = _COMMANDS.get(cmd_name)
        if found is None:
            return None
        module, name = found
        command: click.Command = getattr(import_module(f"hevlayer.cli.layer.{module}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Who reads our output has had enough; a message about that would help nobody.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], _COMMANDS)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"there is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": ENVIRONMENT_PREFIX,
        "show_default": True,
        "max_content_width": 110,
    },
    epilog=_EPILOG,
)
@click.version_option(__version__, "--version", prog_name="layer", message="%(prog)s %(version)s")
def layer() -> None:
    """The hev layer gateway from a terminal.

    Data goes to standard output, everything else to standard error. Every option can be set by an environment
    variable, which the help of each command names; the command line wins. Keys come from the environment only.
    """


def run(argv: Sequence[str] | None = None) -> int:
    """Runs one command line. Returns: the exit status."""
    try:
        status = layer.main(args=None if argv is None else list(argv), prog_name="layer", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return USAGE
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"layer: {problem}", err=True)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("layer: interrupted", err=True)
        return INTERRUPTED
    return status if isinstance(status, int) else DONE
