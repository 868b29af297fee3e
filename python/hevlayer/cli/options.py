"""Options of the commands, declared once: flag, environment variable, rule, default and help.

A command line beats the environment, the environment beats the default. Every problem is collected, so that a user
fixes a configuration in one round.
"""

import argparse
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from hevlayer.errors import ConfigurationError
from hevlayer.settings import switch


@dataclass(frozen=True, slots=True)
class Option:
    """One setting. `parse` turns its text into a value or raises ValueError whose text states the rule."""

    name: str
    env: str
    parse: Callable[[str], object]
    help: str
    default: object = None
    required: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name

    @property
    def is_switch(self) -> bool:
        return self.parse is switch


@dataclass(frozen=True, slots=True)
class Command:
    """One entry of the command table. `run` gets values keyed by option name and returns the exit status.

    `further` gives what is wrong beyond the rules of single options: it gets the values and the names of the options
    that broke their own rule, whose values are missing.
    """

    name: str
    help: str
    options: Sequence[Option]
    run: Callable[[Mapping[str, object]], int]
    further: Callable[[Mapping[str, object], Collection[str]], list[str]] = lambda _values, _broken: []

    def read(self, given: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> dict[str, object]:
        """The value of every option; `given` as for `resolve`. Raises: ConfigurationError: all that is wrong."""
        values, problems = resolve(self.options, given, environ)
        found = [*problems.values(), *self.further(values, problems.keys())]
        if found:
            raise ConfigurationError(found)
        return values


def add_options(parser: argparse.ArgumentParser, options: Sequence[Option]) -> None:
    """Declares the flags. argparse keeps the texts only: the rules run in `resolve`, for both sources alike."""
    for option in options:
        shown = f" (default {option.default})" if option.default is not None else ""
        shown = " (required)" if option.required else shown
        text_help = f"{option.help}{shown} [{option.env}]".replace("%", "%%")
        if option.is_switch:
            parser.add_argument(
                option.flag, dest=option.name, action=argparse.BooleanOptionalAction, default=None, help=text_help
            )
        else:
            metavar = option.name.rpartition("-")[2].upper()
            parser.add_argument(option.flag, dest=option.name, default=None, metavar=metavar, help=text_help)


def resolve(
    options: Sequence[Option], given: Mapping[str, object], environ: Mapping[str, str] = os.environ
) -> tuple[dict[str, object], dict[str, str]]:
    """The value of each option, and of those that break their rule the problem, both by option name.

    Args:
        given: texts (or booleans, for switches) from the command line by option name; None when not given.
    """
    values: dict[str, object] = {}
    problems: dict[str, str] = {}
    for option in options:
        raw = given.get(option.name)
        origin = option.flag
        # An empty variable counts as not set: that is what compose files and shells make of a missing one.
        if raw is None and environ.get(option.env):
            raw, origin = environ[option.env], option.env
        if raw is None:
            if option.required:
                problems[option.name] = f"{option.flag} (or {option.env}) is required: {option.help}"
            else:
                values[option.name] = option.default
        elif isinstance(raw, bool):
            values[option.name] = raw
        else:
            try:
                values[option.name] = option.parse(str(raw))
            except ValueError as error:
                problems[option.name] = f"{origin} {error}"
    return values, problems
