"""`layer` without a server: the command line's rules, completion, and what is missing."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from hevlayer.cli import layer
from hevlayer.cli.layer.app import run
from hevlayer.cli.layer.bench import plan_of
from hevlayer.cli.layer.exits import DONE, MEANINGS, USAGE
from hevlayer.cli.layer.kinds import document, number, numbers

SECRETS = {"TURBOPUFFER_API_KEY": "upstream-secret", "LAYER_GATEWAY_API_KEY": "gateway-secret"}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("LAYER_", "TURBOPUFFER_")):
            monkeypatch.delenv(name)


def test_without_its_packages_one_sentence_says_what_to_install(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(layer, "find_spec", lambda name: None if name == "rich" else found(name))
    assert layer.main([]) == USAGE
    message = capsys.readouterr().err
    assert message == "layer: needs packages that are not installed; run: pip install 'hevlayer[cli]'\n"


def test_the_help_tells_every_exit_status(capsys):
    assert run(["--help"]) == DONE
    told = capsys.readouterr().out
    for status, meaning in MEANINGS.items():
        assert f"{status:>3}  {meaning}" in told


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["bench"], "direct or gateway: at least one URL is needed"),
        (["bench", "--direct", "host:80"], "direct must be an http:// or https:// URL"),
        (["bench", "--direct", "http://h", "--mix", "x=1"], "names an operation that there is not: 'x'"),
        (["bench", "--direct", "http://h", "--rate", "0"], "must be a number from 0.001 to 1e+06, was '0'"),
        (["bench", "--direct", "http://h", "--slice", "nan"], "must be a number from 0 to 86400, was 'nan'"),
        (["bench", "--direct", "http://h", "--namespace-prefix", "a b"], "must be 1 to 80 letters"),
        (["bench", "--concurrency", "0"], "0 is not in the range 1<=x<=1024"),
        (["quary"], "there is no command 'quary'. Did you mean query?"),
    ],
)
def test_a_command_line_that_breaks_a_rule_is_refused(arguments, problem, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == USAGE
    streams = capsys.readouterr()
    assert problem in streams.err
    assert streams.out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_a_directory_is_refused_before_the_load(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert run(["bench", "--direct", "http://127.0.0.1:1", "--output", str(blocked / "report")]) == USAGE
    assert "Not a directory" in capsys.readouterr().err


def test_options_come_from_the_environment_too(monkeypatch, capsys):
    monkeypatch.setenv("LAYER_CLI_BENCH_DIRECT", "ftp://somewhere")
    assert run(["bench"]) == USAGE
    assert "direct must be an http:// or https:// URL" in capsys.readouterr().err


def given(**changes):
    seconds = {"duration": 1.0, "warm_up": 2.0, "slice": 0.5, "timeout": 3.0, "index_wait": 4.0}
    return {"direct": None, "gateway": None, **seconds, **changes}


def test_the_keys_of_the_targets_come_from_the_environment():
    plan = plan_of(given(direct="http://d", gateway="http://g"), SECRETS)
    assert [target.key for target in plan.targets] == ["upstream-secret", "gateway-secret"]
    assert (plan.duration_seconds, plan.slice_seconds) == (1.0, 0.5)
    alone = plan_of(given(gateway="http://g"), {"TURBOPUFFER_API_KEY": "upstream-secret"})
    assert [target.key for target in alone.targets] == ["upstream-secret"]
    assert plan_of(given(direct="", gateway="http://g"), {}).targets[0].key == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell_names_layer(shell, capsys):
    assert run(["completion", shell]) == DONE
    script = capsys.readouterr().out
    assert "_LAYER_COMPLETE" in script
    parser = shutil.which(shell)
    if parser:
        subprocess.run([parser, "-n"], input=script, text=True, check=True, timeout=30)


def test_bash_can_always_parse_its_completion(capsys):
    # The other shells are checked where they are installed; this one is everywhere.
    assert run(["completion", "bash"]) == DONE
    subprocess.run(["bash", "-n"], input=capsys.readouterr().out, text=True, check=True, timeout=30)


def test_the_shell_gets_the_commands_as_completions():
    answer = subprocess.run(
        [sys.executable, "-m", "hevlayer.cli.layer"],
        env={**os.environ, "_LAYER_COMPLETE": "bash_complete", "COMP_WORDS": "layer ben", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.stdout == "plain,bench\n"


@pytest.mark.parametrize(("text", "value"), [("[1, 2.5]", [1, 2.5]), ('{"a": null}', {"a": None}), ('"text"', "text")])
def test_json_stands_on_the_command_line(text, value):
    assert document(text) == value


def test_json_comes_from_a_file(tmp_path):
    file = tmp_path / "vector.json"
    file.write_text("[0.5, 1]")
    assert numbers(f"@{file}") == [0.5, 1]


@pytest.mark.parametrize(
    ("parse", "text", "problem"),
    [
        (document, "{", "the value is not JSON"),
        (document, "@missing.json", "missing.json: No such file or directory"),
        (numbers, "[]", "must be a JSON array of numbers"),
        (numbers, "[true]", "must be a JSON array of numbers"),
        (numbers, '["1"]', "must be a JSON array of numbers"),
        (number(0, 1), "inf", "must be a number from 0 to 1"),
    ],
)
def test_a_value_that_breaks_its_rule_says_so(parse, text, problem):
    with pytest.raises(ValueError, match=problem):
        parse(text)
