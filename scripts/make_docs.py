"""Writes the pages of the API, the settings and the commands from the code; `--check` says which is out of date."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from command_page import command_page

from hevlayer.cli.main import COMMANDS
from hevlayer.cli.options import Command
from hevlayer.gateway.config import SETTINGS
from hevlayer.gateway.openapi import build_document
from hevlayer.gateway.openapi.answers import ANYWHERE, REFUSALS, UPSTREAM
from hevlayer.gateway.openapi.document import path_of
from hevlayer.gateway.router import Access
from hevlayer.gateway.routes import ROUTES
from hevlayer.settings import Setting

DOCS = Path(__file__).resolve().parents[1] / "docs"
_NOTE = "<!-- Written by scripts/make_docs.py; change the code, then run it again. -->"
_METHODS = ("get", "head", "post", "put", "patch", "delete")
_API_INTRODUCTION = """\
Every route of the gateway. `GET /openapi.json` has the same with the schemas of requests and answers.

* Access `open` needs nothing. `token` needs the metrics token where one is configured, else nothing. `key` needs the
  gateway's key; without one configured the caller's bearer goes upstream, which judges it. `key, held` serves what the
  gateway itself keeps: without a gateway key, the upstream must have answered a metadata read of the namespace under
  that bearer. `key or token` needs the gateway's key; without one configured it is as `token`.
* Any other path is 404, any other method on one of these paths 405 with `Allow`.
* One segment in front of `/v1` and `/v2` is taken as a region: `/gcp-us-central1/v2/namespaces/films`.
* Errors of the gateway are `{"status": "error", "error": code, "message": text}`. Errors of the upstream come back byte
  for byte: `{"status": "error", "error": text}`, some as plain text.
* `relayed` stands for RELAYED, which the upstream may answer, or the gateway in its place;
  whatever else the upstream answers comes back too."""
_ACCESS = {
    Access.OPEN: "open",
    Access.OBSERVE: "token",
    Access.KEYED: "key or token",
    Access.RELAY: "key",
    Access.HELD: "key, held",
}
_CONFIGURATION_INTRODUCTION = """\
Every setting, its environment variable, its default and its command-line option. The command line beats the
environment; an empty variable counts as not set. A configuration that breaks a rule stops the process before it
starts, with every problem told at once. `hevlayer dev` reads the gateway's settings from the environment too."""


def api_page() -> str:
    """The routes by subject, and the error statuses."""
    document = build_document()
    access = {(spec.method, path_of(spec.pattern)): _ACCESS[spec.access] for spec in ROUTES}
    relayed = ", ".join(str(status) for status in UPSTREAM if status not in ANYWHERE)
    parts = ["# The API", _NOTE, _API_INTRODUCTION.replace("RELAYED", relayed)]
    for tag in document["tags"]:
        rows = [
            (
                f"`{method.upper()} {path}`",
                f"{operation['summary']}. {operation.get('description', '')}".strip(),
                access[method.upper(), path],
                _body(operation),
                _statuses(operation),
            )
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if method in _METHODS and operation["tags"] == [tag["name"]]
        ]
        parts += [f"## {tag['name']}", _table(("Route", "What it does", "Access", "Body", "Statuses"), rows)]
    refusals = [(str(status), text, "yes" if status in ANYWHERE else "") for status, (_, text) in REFUSALS.items()]
    parts += ["## Error statuses", _table(("Status", "Meaning", "On any route"), refusals)]
    return "\n\n".join(parts) + "\n"


def configuration_page() -> str:
    """The gateway's settings by section, and the options of the other commands."""
    parts = ["# Configuration", _NOTE, _CONFIGURATION_INTRODUCTION, "## `hevlayer gateway`"]
    for section in dict.fromkeys(setting.section for setting in SETTINGS):
        rows = [_setting_row(setting) for setting in SETTINGS if setting.section == section]
        parts += [f"### {section}", _table(("Variable", "Default", "Meaning", "Option"), rows)]
    for command in COMMANDS:
        if command.name != "gateway" and command.options:
            rows = list(_option_rows(command))
            parts += [f"## `hevlayer {command.name}`", f"{command.help[0].upper()}{command.help[1:]}."]
            parts.append(_table(("Variable", "Default", "Meaning", "Option"), rows))
    return "\n\n".join(parts) + "\n"


def _setting_row(setting: Setting) -> Sequence[str]:
    secret = " (secret: never printed)" if setting.secret else ""
    return f"`{setting.env}`", _default(setting.default), setting.summary + secret, f"`--{setting.option}`"


def _option_rows(command: Command) -> Iterable[Sequence[str]]:
    for option in command.options:
        default = "required" if option.required else _default(option.default)
        yield f"`{option.env}`", default, option.help, f"`{option.flag}`"


def _default(value: object) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _statuses(operation: Mapping[str, Any]) -> str:
    """The statuses that are not on every route; those of every relayed route by one word."""
    own = {int(status) for status in operation["responses"]} - ({*ANYWHERE} - {503})
    relayed = set(UPSTREAM) - {*ANYWHERE}
    if relayed <= own:
        return ", ".join([*map(str, sorted(own - relayed - {503})), "relayed"])
    return ", ".join(map(str, sorted(own)))


def _body(operation: Mapping[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    return ", ".join(f"`{each['schema']['$ref'].rpartition('/')[2]}`" for each in content.values())


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


PAGES = {
    "api.md": api_page,
    "configuration.md": configuration_page,
    "command-line.md": lambda: command_page(_NOTE),
}


def main(arguments: Sequence[str]) -> int:
    """Writes the pages, or with `--check` returns 1 when one differs from what would be written."""
    stale = []
    for name, make in PAGES.items():
        path, page = DOCS / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != page:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(page, encoding="utf-8")
    if "--check" in arguments and stale:
        print(f"make_docs: out of date: {', '.join(stale)}; run scripts/make_docs.py", file=sys.stderr)
        return 1
    print(f"make_docs: {'wrote ' + ', '.join(stale) if stale else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
