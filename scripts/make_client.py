"""Writes the client's methods, and the table of its page, from `hevlayer.client.api`, and the synchronous class from
the asynchronous one; with `--check` says which files are out of date."""

import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

CLIENT = Path(__file__).resolve().parents[1] / "python" / "hevlayer" / "client"
# The package as a plain folder: its own imports need the files that are written here.
_folder = ModuleType("hevlayer.client")
_folder.__path__ = [str(CLIENT)]
sys.modules["hevlayer.client"] = _folder

from hevlayer.client import models  # noqa: E402
from hevlayer.client.api import GROUPS  # noqa: E402
from hevlayer.client.operation import Direct, Operation, Param  # noqa: E402

PAGE = CLIENT.parents[2] / "docs" / "client.md"
_PAGE_BEGIN = "<!-- operations: written by scripts/make_client.py -->"
_PAGE_END = "<!-- operations: end -->"
_NOTE = "# Written by scripts/make_client.py; change hevlayer/client/api.py, then run it again."
_SYNC_NOTE = "# Written by scripts/make_client.py from hevlayer/client/aio; change that, then run it again."
# Written by hand under aio; its counterpart is made from it.
_BY_HAND = ("caller", "helpers")
_FORMAT_TIMEOUT_SECONDS = 60
_CONTEXT_KINDS = {"raw_query": "str | None", "tags": "Sequence[str] | None", "traceparent": "str | None"}
_CONTEXT_TEXTS = {
    "raw_query": "what the person typed; goes into the search history",
    "tags": "labels for the record, without commas",
    "traceparent": "the W3C trace that this belongs to",
}
_TO_SYNC = (
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bAsync([A-Z])", r"\1"),
    (r"\baclose\b", "close"),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"hevlayer\.client\.aio\b", "hevlayer.client.sync"),
    (r'kind="async"', 'kind="sync"'),
    (r"\basynchronous\b", "synchronous"),
)


def group_module(name: str, summary: str, operations: tuple[Operation[Any], ...]) -> str:
    """The module of a group: one class with a method for each operation."""
    methods = "\n\n".join(_method(each) for each in operations)
    imports = [
        f"from collections.abc import {', '.join(n for n in ('Mapping', 'Sequence') if f'{n}[' in methods)}\n"
        if re.search(r"\b(Mapping|Sequence)\[", methods)
        else "",
        "from datetime import datetime\n" if "datetime" in methods else "",
        f"from typing import {'Any, ' if 'Any]' in methods else ''}Literal, overload\n\n",
        "from hevlayer.client import models\n" if "models." in methods else "",
        "from hevlayer.client.aio.caller import AsyncCaller\n",
        "from hevlayer.client.api import OPERATIONS\n",
        "from hevlayer.client.perf import LayerResponse\n",
    ]
    heading = f'class Async{name.title()}(AsyncCaller):\n    """{summary}"""\n'
    return f'"""{summary}"""\n\n{_NOTE}\n\n{"".join(imports)}\n\n{heading}\n{methods}\n'


def _method(operation: Operation[Any]) -> str:
    result = _result(operation.result)
    signatures = [
        _signature(operation, "with_perf: Literal[False] = False", f"{result}: ..."),
        _signature(operation, "with_perf: Literal[True]", f"LayerResponse[{result}]: ..."),
        _signature(operation, "with_perf: bool = False", f"{result} | LayerResponse[{result}]:"),
    ]
    body = [f"answer: LayerResponse[{result}] = await self._call(", f'    OPERATIONS["{operation.name}"],']
    body.append(f"    path={_mapping(operation.path_parameters)},")
    if operation.params:
        body.append(f"    query={_mapping(tuple(each.name for each in operation.params))},")
    if operation.body is not None:
        body.append("    body=body,")
    if operation.context:
        body.append(f"    context={_mapping(operation.context)},")
    body += ["    timeout_seconds=timeout_seconds,", ")", "return answer if with_perf else answer.data"]
    lines = [*_docstring(operation), *body]
    return (
        f"    @overload\n{signatures[0]}\n\n    @overload\n{signatures[1]}\n\n{signatures[2]}\n"
        + "\n".join(f"        {line}" if line else "" for line in lines)
        + "\n"
    )


def _signature(operation: Operation[Any], with_perf: str, result: str) -> str:
    arguments = ["self"]
    arguments += [f"{name}: {'str | int' if name == 'doc_id' else 'str'}" for name in operation.path_parameters]
    if operation.body is not None:
        optional = " | None = None" if operation.body_optional else ""
        arguments.append(f"body: models.{operation.body.__name__} | Mapping[str, Any]{optional}")
    arguments.append("*")
    arguments += [f"{each.name}: {_kind(each)} = None" for each in operation.params]
    arguments += [f"{name}: {_CONTEXT_KINDS[name]} = None" for name in operation.context]
    arguments += [with_perf, "timeout_seconds: float | None = None"]
    return f"    async def {operation.name}({', '.join(arguments)}) -> {result}"


def _docstring(operation: Operation[Any]) -> list[str]:
    """The summary, the route, and what the parameters mean."""
    texts = [(each.name, each.text) for each in operation.params]
    texts += [(name, _CONTEXT_TEXTS[name]) for name in operation.context]
    lines = [f'"""{operation.summary}', "", f"`{operation.method} {operation.path}`"]
    if texts:
        lines += ["", "Args:", *(f"    {name}: {text}." for name, text in texts)]
    return [*lines, '"""']


def _kind(param: Param) -> str:
    if param.kind is list:
        return "Sequence[str] | None"
    if param.kind is datetime:
        return "str | datetime | None"
    if param.kind in (str, int, bool):
        return f"{param.kind.__name__} | None"
    return f"{_result(param.kind)} | None"


def _result(result: Any) -> str:
    if result is str:
        return "str"
    for name in models.__all__:
        if getattr(models, name) is result:
            return f"models.{name}"
    text = str(result)
    return re.sub(r"hevlayer\.client\.models\.\w+\.(\w+)", r"models.\1", text)


def _mapping(names: tuple[str, ...]) -> str:
    return "{" + ", ".join(f'"{name}": {name}' for name in names) + "}"


def to_sync(text: str) -> str:
    """The synchronous counterpart of a module under aio."""
    for pattern, replacement in _TO_SYNC:
        text = re.sub(pattern, replacement, text)
    head, _, rest = text.replace(f"{_NOTE}\n\n", "").partition('"""\n\n')
    return f'{head}"""\n\n{_SYNC_NOTE}\n\n{rest}'


def formatted(path: Path, text: str) -> str:
    """Raises: subprocess.CalledProcessError: the text is no Python."""
    for command in (["check", "--fix", "--unsafe-fixes", "--quiet", "--select", "I,F401,UP028"], ["format"]):
        finished = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            timeout=_FORMAT_TIMEOUT_SECONDS,
        )
        text = finished.stdout
    return text


def operations_table() -> str:
    """Every operation with its route, for the page."""
    rows = ["| Method | Route | What it does | |", "|---|---|---|---|"]
    for _, operations in GROUPS.values():
        for each in operations:
            direct = {Direct.NEVER: "", Direct.ALWAYS: "*direct*", Direct.BY_BODY: "*direct*, by its body"}[each.direct]
            rows.append(f"| `{each.name}` | `{each.method} {each.path}` | {each.summary} | {direct} |")
    return "\n".join(rows)


def page() -> str:
    """The page with its table as it should be."""
    before, _, rest = PAGE.read_text().partition(_PAGE_BEGIN)
    _, _, after = rest.partition(_PAGE_END)
    return f"{before}{_PAGE_BEGIN}\n\n{operations_table()}\n\n{_PAGE_END}{after}"


def files() -> dict[Path, str]:
    """Every file that is written, with its text."""
    written = {}
    for name, (summary, operations) in GROUPS.items():
        text = group_module(name, summary, operations)
        written[CLIENT / "aio" / f"{name}.py"] = text
        written[CLIENT / "sync" / f"{name}.py"] = to_sync(text)
    for name in _BY_HAND:
        written[CLIENT / "sync" / f"{name}.py"] = to_sync((CLIENT / "aio" / f"{name}.py").read_text())
    return {**{path: formatted(path, text) for path, text in written.items()}, PAGE: page()}


def main(arguments: list[str]) -> int:
    stale = {path: text for path, text in files().items() if not path.exists() or path.read_text() != text}
    if "--check" in arguments:
        for path in stale:
            print(f"out of date: {path.name} of {path.parent.name}; run scripts/make_client.py")
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text)
        print(f"written: {path.parent.name}/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
