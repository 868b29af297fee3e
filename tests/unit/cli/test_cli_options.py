import pytest

from hevlayer.cli import main
from hevlayer.cli import origin as origin_command
from hevlayer.cli.options import Command, Option
from hevlayer.errors import ConfigurationError
from hevlayer.settings import choice, path, seconds, switch, text, whole

OPTIONS = (
    Option("port", "T_PORT", whole(0, 10), "a port", 5),
    Option("name", "T_NAME", text, "a name", required=True),
    Option("control", "T_CONTROL", switch, "a switch", default=False),
)


COMMAND = Command("t", "a command", OPTIONS, lambda _values: 0)


def test_the_command_line_beats_the_environment_which_beats_the_default():
    environ = {"T_PORT": "7", "T_NAME": "env"}
    assert COMMAND.read({"name": "cli", "port": None}, environ) == {"port": 7, "name": "cli", "control": False}
    assert COMMAND.read({"name": "cli"}, {})["port"] == 5


def test_an_empty_variable_is_not_set():
    assert COMMAND.read({"name": "x"}, {"T_PORT": ""})["port"] == 5


def test_every_problem_is_reported_at_once():
    with pytest.raises(ConfigurationError) as caught:
        COMMAND.read({"port": "11"}, {"T_CONTROL": "maybe"})
    assert caught.value.problems == [
        "--port must be in 0..10, was 11",
        "--name (or T_NAME) is required: a name",
        "T_CONTROL must be one of 0, 1, false, no, off, on, true, yes, was 'maybe'",
    ]


def test_a_switch_can_be_turned_off_against_the_environment():
    assert COMMAND.read({"name": "x", "control": False}, {"T_CONTROL": "on"})["control"] is False
    assert COMMAND.read({"name": "x"}, {"T_CONTROL": "on"})["control"] is True


@pytest.mark.parametrize(
    ("parse", "value"),
    [
        (whole(0, 10), "1.5"),
        (whole(0, 10), "1_0"),
        (whole(0, 10), "٣"),
        (whole(0, 10), "-"),
        (whole(0, 10), "-1"),
        (seconds(0, 1), "nan"),
        (seconds(0, 1), "inf"),
        (seconds(0, 1), "x"),
        (choice("a", "b"), "c"),
        (text, ""),
        (path, ""),
    ],
)
def test_a_rule_refuses(parse, value):
    with pytest.raises(ValueError, match=r"^must "):
        parse(value)


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for command in main.COMMANDS:
        assert command.name.partition(" ")[0] in shown


def test_every_option_has_a_variable_in_help(capsys):
    with pytest.raises(SystemExit):
        main.main(["origin", "--help"])
    shown = capsys.readouterr().out
    for option in origin_command.OPTIONS:
        assert option.flag in shown
        assert option.env in shown


def test_a_bad_configuration_starts_nothing(capsys, monkeypatch):
    monkeypatch.setenv("LAYER_ORIGIN_FAULTS", '{"rules":[{}]}')
    assert main.main(["origin", "--port", "70000"]) == main.EXIT_USAGE
    problems = capsys.readouterr().err.splitlines()
    assert problems[0] == "hevlayer origin: --port must be in 0..65535, was 70000"
    assert "--data-dir (or LAYER_ORIGIN_DATA_DIR) is required" in problems[1]
    assert problems[2].startswith("hevlayer origin: LAYER_ORIGIN_FAULTS must be a JSON object of rules")


def test_version(capsys):
    assert main.main(["version"]) == 0
    assert capsys.readouterr().out.startswith("hevlayer ")


def test_rules_of_one_setting_and_of_several_are_told_together(capsys, monkeypatch):
    monkeypatch.setenv("LAYER_GATEWAY_API_KEY", "a-key")
    monkeypatch.setenv("LAYER_CONSISTENCY", "firm")
    assert main.main(["gateway", "--port", "70000"]) == main.EXIT_USAGE
    problems = capsys.readouterr().err.splitlines()
    assert [problem.split()[2] for problem in problems] == ["--port", "LAYER_CONSISTENCY", "TURBOPUFFER_API_KEY"]


def test_a_joint_rule_is_not_judged_on_a_value_that_broke_its_own(capsys, monkeypatch):
    monkeypatch.setenv("LAYER_BODY_BYTES_MAX", "1")
    assert main.main(["gateway", "--body-memory-bytes-max", "2048"]) == main.EXIT_USAGE
    (problem,) = capsys.readouterr().err.splitlines()
    assert "LAYER_BODY_BYTES_MAX must be in" in problem


def test_dev_tells_its_own_options_and_the_gateways_settings_together(capsys, monkeypatch):
    monkeypatch.setenv("LAYER_CONSISTENCY", "firm")
    monkeypatch.setenv("LAYER_BODY_MEMORY_BYTES_MAX", "2048")
    monkeypatch.setenv("LAYER_BODY_BYTES_MAX", "1024")
    assert main.main(["dev", "--origin-port", "x"]) == main.EXIT_USAGE
    problems = capsys.readouterr().err.splitlines()
    assert [problem.split()[2] for problem in problems] == [
        "--origin-port",
        "LAYER_CONSISTENCY",
        "LAYER_BODY_MEMORY_BYTES_MAX",
    ]
