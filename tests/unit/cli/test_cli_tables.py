"""What holds for every option of every command."""

import re
from collections import Counter
from pathlib import Path

import pytest

from hevlayer.cli.main import COMMANDS, build_parser
from hevlayer.cli.options import resolve
from hevlayer.settings import path

EVERY_OPTION = [
    pytest.param(command, option, id=f"{command.name} {option.flag}")
    for command in COMMANDS
    for option in command.options
]
# One of these obeys the rule of any option, whatever it is.
TEXTS = (
    "16",
    "1",
    "5000",
    "1048576",
    "on",
    "http://127.0.0.1:1",
    "strong",
    "embedded",
    "info",
    "off",
    '{"rules": []}',
    "postgres://user@host/database",
)


def text_for(option):
    """A text that the option takes."""
    for text in TEXTS:
        try:
            option.parse(text)
        except ValueError:
            continue
        return text
    raise AssertionError(f"no text for {option.flag}: add one")


@pytest.mark.parametrize(("command", "option"), EVERY_OPTION)
def test_its_variable_sets_it(command, option):
    text = text_for(option)
    required = {each.env: text_for(each) for each in command.options if each.required}
    values, _ = resolve(command.options, {}, {**required, option.env: text})
    assert values[option.name] == option.parse(text)


@pytest.mark.parametrize(("command", "option"), EVERY_OPTION)
def test_its_flag_wins_over_its_variable(command, option):
    required = {each.env: text_for(each) for each in command.options if each.required and each is not option}
    given = False if option.is_switch else text_for(option)
    values, _ = resolve(command.options, {option.name: given}, {**required, option.env: "\0 not a value"})
    assert values[option.name] == (False if option.is_switch else option.parse(given))


@pytest.mark.parametrize("option", [each.values[1] for each in EVERY_OPTION], ids=lambda option: option.env)
def test_a_value_that_it_refuses_is_told_with_its_name_and_rule(option):
    if option.parse is path:
        assert resolve([option], {}, {option.env: "any name"}) == ({option.name: Path("any name")}, {})
        return
    values, problems = resolve([option], {}, {option.env: "\0 not a value"})
    assert not values
    assert problems[option.name].startswith(f"{option.env} must ")


@pytest.mark.parametrize(("command", "option"), EVERY_OPTION)
def test_its_default_obeys_its_own_rule(command, option):
    if option.default is not None and not option.is_switch:
        assert option.parse(str(option.default)) == option.default


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_names_and_variables_are_unique_and_shown(command, capsys):
    assert max(Counter(option.name for option in command.options).values(), default=1) == 1
    assert max(Counter(option.env for option in command.options).values(), default=1) == 1
    with pytest.raises(SystemExit):
        build_parser(COMMANDS).parse_args([*command.name.split(), "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for option in command.options:
        assert re.fullmatch(r"[A-Z][A-Z0-9_]+", option.env)
        assert option.flag in shown
        # The help breaks lines where it likes, also at hyphens.
        assert f"[{option.env}]" in shown
