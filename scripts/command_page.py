"""The page of `layer`'s commands, made from the command tree."""

from collections.abc import Iterator, Sequence

import click

from hevlayer.cli.layer.app import ENVIRONMENT_PREFIX, layer
from hevlayer.cli.layer.exits import MEANINGS

_INTRODUCTION = """\
`layer` is the gateway's API from a terminal. It comes with the extra `cli`: `pip install 'hevlayer[cli]'`.

```sh
export LAYER_GATEWAY_URL=http://127.0.0.1:8080 LAYER_GATEWAY_API_KEY=…
layer namespaces list
layer query films --bm25 title "lost city" --include title --include year --tag demo --raw-query "lost city"
layer query films --vector @vector.json --filter '["year", "Gte", 1990]' --json | jq '.rows[].id'
layer fetch films 17 42
layer scan films --values genre
layer warm start films
layer history search films --tag demo
```

* Data goes to standard output, everything else (progress, notes, errors) to standard error. Colours and progress bars
  appear on a terminal only; `NO_COLOR` turns colours off there too.
* `--json` prints what the API answered, fields of later versions included: one document, or for lists one line for each
  entry. Errors are then JSON on standard error: `error`, `message`, `status`, `request_id`.
* Text of others is shown with its control characters escaped, so that no document can command a terminal.
* Every option can be set by the variable in its row, also for scripts and images; the command line wins, and an empty
  variable counts as not set. Keys come from the environment only, and are never printed.
* `layer completion bash`, `zsh` or `fish` prints the script that completes commands; its help says where it goes."""


def command_page(note: str) -> str:
    """Every command with its arguments and options, and the exit statuses."""
    parts = ["# The command `layer`", note, _INTRODUCTION, "## Exit statuses"]
    parts.append(_table(("Status", "Meaning"), [(str(status), meaning) for status, meaning in MEANINGS.items()]))
    for path, command in _commands("layer", layer):
        context = click.Context(command, info_name=path)
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(f"## `{path}`")
        parts.append(f"`{path} {usage}`")
        parts.append(_prose(command.help or ""))
        if command.epilog:
            parts.append(f"```\n{command.epilog.replace(chr(8), '').strip()}\n```")
        rows = list(_options(path, command))
        if rows:
            parts.append(_table(("Option", "Default", "Meaning", "Variable"), rows))
    return "\n\n".join(parts) + "\n"


def _commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _commands(f"{path} {name}", found)
    else:
        yield path, command


def _options(path: str, command: click.Command) -> Iterator[Sequence[str]]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            flags = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
            variable = parameter.envvar or f"{ENVIRONMENT_PREFIX}{path.removeprefix('layer')} {parameter.name}".upper()
            assert isinstance(variable, str)
            for mark in " -":
                variable = variable.replace(mark, "_")
            yield flags, _default(parameter), parameter.help or "", f"`{variable}`"


def _default(option: click.Option) -> str:
    value = option.default
    if option.multiple or value is None or value is False or callable(value) or type(value).__name__ == "Sentinel":
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _prose(text: str) -> str:
    lines = [line.strip() for line in text.replace(chr(8), "").strip().splitlines()]
    return "\n".join(lines)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
