"""What a person sees of a running `layer bench`, and of its result."""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from hevlayer.bench import run as bench_run
from hevlayer.bench.markdown import SHOWN_QUANTILES, number, operation_rows
from hevlayer.bench.plan import BenchPlan
from hevlayer.bench.report import ALL
from hevlayer.bench.run import BenchResult
from hevlayer.bench.tally import OperationTally, merged
from hevlayer.cli.layer.output import new_console, plain_table, show

_TITLES = {
    "load": "loading documents",
    "index": "waiting for the index, seconds",
    "warm-up": "warming up, seconds",
    "measure": "measuring, seconds",
}
_QUANTILES = (0.5, 0.9, 0.99, 0.999)
_NUMERIC = ("Requests", "Failed", "Per second", *SHOWN_QUANTILES, "max")


class BenchView:
    """On a terminal a bar and a table, redrawn between slices, so that the drawing disturbs no measurement; elsewhere
    a line for each phase. Use as a context manager."""

    def __init__(self, plan: BenchPlan, console: Console | None = None) -> None:
        self._plan = plan
        self._console = console or new_console(stderr=True)
        self._result: BenchResult | None = None
        self._phase = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=self._console,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("preparing", total=None)
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        )

    def __enter__(self) -> "BenchView":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def attach(self, result: BenchResult) -> None:
        """Names the namespaces at once: whoever must clean up after a crash finds them here."""
        self._result = result
        for name, namespace in result.namespaces.items():
            self._console.print(Text(f"{name}: namespace {namespace}"))

    def watch(self, progress: bench_run.Progress) -> None:
        title = _TITLES[progress.phase]
        if self._live is None:
            if progress.phase != self._phase:
                self._console.print(Text(f"{title}: {progress.total:g}"))
            self._phase = progress.phase
            return
        self._bar.update(self._task, description=title, completed=round(progress.done), total=round(progress.total))
        table = self._table() if progress.phase == "measure" else Text("")
        self._live.update(Group(self._bar, table), refresh=True)

    def _table(self) -> Table:
        assert self._result is not None
        table = _empty_table()
        for name, tally in self._result.targets.items():
            for operation in (*self._result.operations, ALL):
                found = merged(tally.operations.values()) if operation == ALL else tally.operations.get(operation)
                if found and found.total:
                    table.add_row(operation, name, *_figures(found, tally.seconds))
        return table

    def show(self, report: Mapping[str, Any]) -> None:
        """The result as a table on standard output, and what latency counts from."""
        table = _empty_table()
        for row in operation_rows(report):
            table.add_row(*(Text(cell) for cell in row))
        show(table)
        show(Text(f"Milliseconds, from {report['loop']['latency_from']} ({report['loop']['kind']} loop)."))


def _empty_table() -> Table:
    return plain_table(("Operation", "Target", *_NUMERIC), right=_NUMERIC)


def _figures(tally: OperationTally, seconds: float) -> Iterator[str]:
    yield f"{tally.total:,}"
    yield f"{tally.failed:,}"
    yield number(tally.succeeded / seconds if seconds else None)
    for value in tally.latency.quantiles_ms(_QUANTILES):
        yield number(value)
    yield number(tally.latency.max_ms)
