"""The command tree of `layer`, and how each way of ending becomes an exit status."""

import os
import sys
from collections.abc import Sequence

import click

from hevlayer import __version__
from hevlayer.cli.layer.bench import bench
from hevlayer.cli.layer.completion import completion
from hevlayer.cli.layer.exits import DONE, INTERRUPTED, MEANINGS, USAGE
from hevlayer.errors import ConfigurationError

ENVIRONMENT_PREFIX = "LAYER_CLI"
_EPILOG = "\b\nExit statuses:\n" + "\n".join(f"  {status:>3}  {meaning}" for status, meaning in MEANINGS.items())


@click.group(
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


for _command in (bench, completion):
    layer.add_command(_command)


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
    except BrokenPipeError:
        # Who read our output has had enough; a message about that would help nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return status if isinstance(status, int) else DONE
