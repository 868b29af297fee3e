"""How a setting is declared: once, as a field of a configuration class, with its variable, rule and help."""

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_METADATA_KEY = "setting"

Parse = Callable[[str], object]
"""Turns a setting's text into its value; raises ValueError whose text states the rule."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `option` is the command-line flag without dashes; `secret` keeps the value out of every print."""

    field: str
    env: str
    option: str
    parse: Parse
    summary: str
    default: object
    section: str
    secret: bool


def setting(
    default: Any, env: str, parse: Parse, summary: str, *, section: str, option: str = "", secret: bool = False
) -> Any:
    """A dataclass field that is also a setting. `option` is derived from the field's name when not given."""
    return dataclasses.field(
        default=default,
        repr=not secret,
        metadata={_METADATA_KEY: (env, option, parse, summary, section, secret)},
    )


def settings_of(configuration: type) -> tuple[Setting, ...]:
    """The settings of a configuration class, in order of declaration."""
    found = []
    for field in dataclasses.fields(configuration):
        if _METADATA_KEY in field.metadata:
            env, option, parse, summary, section, secret = field.metadata[_METADATA_KEY]
            found.append(
                Setting(
                    field.name,
                    env,
                    option or field.name.replace("_", "-"),
                    parse,
                    summary,
                    field.default,
                    section,
                    secret,
                )
            )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class JointRule:
    """A rule on several settings, named by field. `problem` gets their values and says what is wrong, or None."""

    fields: tuple[str, ...]
    problem: Callable[..., str | None]


def joint_problems(
    rules: tuple[JointRule, ...], values: Mapping[str, object], broken: Collection[str] = ()
) -> list[str]:
    """What is wrong with the values together. A rule on a `broken` field, whose own rule failed, is not judged."""
    found = (
        rule.problem(*(values[field] for field in rule.fields))
        for rule in rules
        if not any(field in broken for field in rule.fields)
    )
    return [problem for problem in found if problem]


def read_environment(
    settings: tuple[Setting, ...], environ: Mapping[str, str] = os.environ
) -> tuple[dict[str, object], dict[str, str]]:
    """Values of the settings that the environment names, and of those that break their rule the problem, both by
    field. An empty variable counts as not set."""
    values: dict[str, object] = {}
    problems: dict[str, str] = {}
    for each in settings:
        text = environ.get(each.env, "")
        if text:
            try:
                values[each.field] = each.parse(text)
            except ValueError as error:
                problems[each.field] = f"{each.env} {error}"
    return values, problems


def text(value: str) -> str:
    if not value or not value.isprintable():
        raise ValueError("must be printable text on one line, and not empty")
    return value


def token(value: str) -> str:
    """A secret: its rule never repeats the value."""
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError("must be printable ASCII without spaces")
    return value


def path(value: str) -> Path:
    if not value:
        raise ValueError("must not be empty")
    return Path(value).expanduser()


def switch(value: str) -> bool:
    lowered = value.strip().lower()
    if lowered not in _TRUE | _FALSE:
        raise ValueError(f"must be one of {', '.join(sorted(_TRUE | _FALSE))}, was {value!r}")
    return lowered in _TRUE


def whole(minimum: int, maximum: int) -> Parse:
    """A whole number in `minimum..maximum`."""

    def parse(value: str) -> int:
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"must be a whole number, was {value!r}")
        number = int(value)
        if not minimum <= number <= maximum:
            raise ValueError(f"must be in {minimum}..{maximum}, was {number}")
        return number

    return parse


def seconds(minimum: float, maximum: float) -> Parse:
    """A number of seconds in `minimum..maximum`."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"must be a number of seconds, was {value!r}") from None
        if not minimum <= number <= maximum:
            raise ValueError(f"must be in {minimum:g}..{maximum:g} seconds, was {value}")
        return number

    return parse


def choice(*allowed: str) -> Parse:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, was {value!r}")
        return value

    return parse


def http_url(value: str) -> str:
    """An absolute http(s) URL without credentials, query or fragment; a trailing slash is dropped."""
    try:
        parts = urlsplit(value.replace("{region}", "region"))
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("must be an absolute http or https URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ValueError("must be an absolute http or https URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must have no user name, query or fragment")
    return value.rstrip("/")


def postgres_url(value: str) -> str:
    """A PostgreSQL connection URL; its rule never repeats the value, which may hold a password."""
    rule = "must be a URL like postgres://user:password@host:5432/database"
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(rule) from None
    if parts.scheme not in ("postgres", "postgresql") or not port_is_valid or not parts.path.strip("/"):
        raise ValueError(rule)
    return value
