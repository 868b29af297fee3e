"""What every command that asks the gateway shares: common options, the client, notes, progress and errors."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click
import orjson
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from hevlayer.cli.layer.bridge import bridged
from hevlayer.cli.layer.exits import REFUSED, UNREACHABLE
from hevlayer.cli.layer.kinds import SECONDS
from hevlayer.cli.layer.options import EnvironmentOption, option
from hevlayer.cli.layer.output import new_console, safe
from hevlayer.client import (
    AsyncHevlayer,
    Hevlayer,
    HevlayerConnectionError,
    HevlayerError,
    HevlayerWaitError,
    JobBase,
    LayerModel,
)

TIMEOUT_SECONDS = 60.0
WAIT_SECONDS = 3600.0
COMPLETION_SECONDS = 1.0
COMPLETIONS_MAX = 50
UNAUTHORISED = 401
KEY_VARIABLE = "LAYER_GATEWAY_API_KEY"
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Session:
    """One run of a command. The client connects when it is first asked."""

    def __init__(self, command: str, *, url: str | None, timeout: float, retries: int, fallback: bool, as_json: bool):
        self.as_json = as_json
        self._command = command
        try:
            client = AsyncHevlayer(
                base_url=url, timeout_seconds=timeout, max_retries=retries, fallback_to_turbopuffer=fallback
            )
        except ValueError as error:
            raise click.UsageError(str(error).replace("base_url", "--url")) from error
        self.client, self.close = bridged(client)

    def note(self, text: str) -> None:
        """A line for people, on standard error."""
        click.echo(f"{self._command}: {safe(text)}", err=True)

    def fail(self, error: HevlayerError) -> int:
        """Tells of an error, as JSON where the output is JSON. Returns: the exit status."""
        if self.as_json:
            told = {"error": error.error, "message": error.message, "status": error.status_code}
            click.echo(orjson.dumps({**told, "request_id": error.request_id}), err=True)
        else:
            status = "" if error.status_code is None else f"{error.status_code} "
            self.note(status + _told(error))
            if error.status_code == UNAUTHORISED and not os.environ.get(KEY_VARIABLE):
                self.note(f"no key was sent; {KEY_VARIABLE} holds the one that the gateway wants")
            if error.request_id:
                self.note(f"request id {error.request_id}")
        return UNREACHABLE if isinstance(error, HevlayerConnectionError | HevlayerWaitError) else REFUSED

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[JobBase], None]]:
        """A bar for a job on standard error; nothing where that is no terminal."""
        console = new_console(stderr=True)
        if not console.is_terminal:
            yield lambda _job: None
            return
        shown = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*shown, console=console, transient=True) as bar:
            task = bar.add_task(safe(title), total=1.0)

            def update(job: JobBase) -> None:
                rows = f"{safe(title)}, {job.documents_scanned:,} documents"
                bar.update(task, completed=job.progress, description=rows)

            yield update


def _told(error: HevlayerError) -> str:
    """The error's word and its message. The upstream gives one text, and the client the whole body as the message."""
    if error.error is None:
        return error.message
    whole_body = error.response is not None and error.message == error.response.text
    return error.error if whole_body else f"{error.error}: {error.message}"


def dump(model: LayerModel) -> dict[str, Any]:
    """A body as it came, fields that this version does not know included."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _common() -> list[click.Option]:
    """The options of every command that asks the gateway."""
    return [
        EnvironmentOption(
            ["--url"], metavar="URL", envvar="LAYER_GATEWAY_URL", help="The gateway.  [default: http://localhost:8080]"
        ),
        EnvironmentOption(
            ["--timeout"],
            type=SECONDS,
            default=TIMEOUT_SECONDS,
            envvar="LAYER_CLI_TIMEOUT",
            help="Seconds of a request.",
        ),
        EnvironmentOption(
            ["--retries"],
            type=click.IntRange(0, 20),
            default=2,
            envvar="LAYER_CLI_RETRIES",
            help="How often a request that may be repeated is sent again.",
        ),
        EnvironmentOption(
            ["--fallback/--no-fallback"],
            default=False,
            envvar="LAYER_CLI_FALLBACK",
            help="Ask Turbopuffer itself (TURBOPUFFER_API_KEY, TURBOPUFFER_API_URL) when the gateway is away.",
        ),
        EnvironmentOption(
            ["--json", "as_json"], is_flag=True, envvar="LAYER_CLI_JSON", help="Print JSON instead of tables."
        ),
    ]


class GatewayCommand(click.Command):
    """A command with the common options; its function gets a `Session` first."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.extend(_common())

    def invoke(self, ctx: click.Context) -> Any:
        common = {name: ctx.params.pop(name) for name in ("url", "timeout", "retries", "fallback", "as_json")}
        session = Session(ctx.command_path, **common)
        ctx.obj = session
        try:
            return super().invoke(ctx)
        except HevlayerError as error:
            return session.fail(error)
        finally:
            session.close()


class GatewayGroup(click.Group):
    """A group of such commands."""

    command_class = GatewayCommand


def _complete_namespace(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The namespaces that begin so, if the gateway answers at once."""
    try:
        with Hevlayer(
            base_url=ctx.params.get("url"),
            timeout_seconds=COMPLETION_SECONDS,
            max_retries=0,
            fallback_to_turbopuffer=False,
        ) as client:
            page = client.list_turbopuffer_namespaces(prefix=incomplete, page_size=COMPLETIONS_MAX)
    except (HevlayerError, ValueError):
        # A shell that waits for completions has no place for an error.
        return []
    return [each.id for each in page.namespaces]


def namespace_argument(function: FunctionT) -> FunctionT:
    """The argument NAMESPACE, completed from the gateway."""
    return click.argument("namespace", shell_complete=_complete_namespace)(function)


def limit_option(default: int) -> Callable[[FunctionT], FunctionT]:
    """How many entries of a list are shown."""
    return option("--limit", type=click.IntRange(1, 1_000_000), default=default, help="Show so many at most.")


def wait_option(function: FunctionT) -> FunctionT:
    """How long a job is waited for."""
    return option("--wait", type=SECONDS, default=WAIT_SECONDS, help="Seconds to wait for the job.")(function)


def limited(items: Iterator[Mapping[str, Any]], limit: int, session: Session) -> Iterator[Mapping[str, Any]]:
    """The first `limit` items; a note says when there are more."""
    for shown, item in enumerate(items):
        if shown == limit:
            session.note(f"there are more than {limit}; --limit shows more")
            return
        yield item
