"""Options of `layer`: every one tells its environment variable."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class EnvironmentOption(click.Option):
    """An option whose help names its environment variable."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings.setdefault("show_envvar", True)
        super().__init__(*args, **settings)


def option(*names: str, **settings: Any) -> Callable[[FunctionT], FunctionT]:
    """As `click.option`. Without `envvar` the variable is derived from the command's and the option's names."""
    return click.option(*names, cls=EnvironmentOption, **settings)
