"""The commands of the quick start and of the README, as a reader copies them, against `hevlayer dev`."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dev_process import Dev, environment

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "quickstart.md"
README = ROOT / "README.md"
SHOWN_ADDRESS = "http://127.0.0.1:8080"
RUN_SECONDS_MAX = 60


def blocks(language: str, page: Path = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    with Dev(tmp_path_factory.mktemp("quickstart") / "data", "--no-postgres") as started:
        yield started


def run(dev: Dev, *command: str) -> str:
    done = subprocess.run(
        [each.replace(SHOWN_ADDRESS, dev.url) for each in command],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def need_curl() -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl, which the page's commands use, is not installed")


def test_the_first_command_is_a_target_of_make():
    assert blocks("sh")[0] == "make run\n"
    assert re.search(r"^run:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_client_and_the_commands_answer_as_shown(dev):
    (program,) = blocks("python")
    assert SHOWN_ADDRESS in program
    assert run(dev, sys.executable, "-c", program) == blocks("text")[0]
    need_curl()
    commands = blocks("sh")[1]
    assert SHOWN_ADDRESS in commands
    # Each command's answer on a line of its own; `--fail` makes an error status an error of the script.
    told = run(dev, "bash", "-euc", commands.replace("curl -sS", "curl -sS --fail -w '\\n'"))
    document, count, metadata, history, *metrics = told.splitlines()
    assert json.loads(document)["attributes"]["title"] == "Alien"
    assert json.loads(count)["count"] == 1
    assert "stable_as_of" in json.loads(metadata)["layer"]
    assert json.loads(history)["entries"][0]["top_result_ids"] == ["2"]
    assert any(line.startswith("layer_query_duration_seconds_count") for line in metrics)


def test_the_readme_s_programs_and_commands_answer(dev):
    programs = blocks("python", README)
    assert all(SHOWN_ADDRESS in program for program in programs)
    for program in programs:
        assert "Alien" in run(dev, sys.executable, "-c", program)
    need_curl()
    commands = next(each for each in blocks("sh", README) if each.startswith("curl"))
    told = run(dev, "bash", "-euc", commands.replace("curl ", "curl -sS --fail -w '\\n' "))
    document, metadata, *metrics = told.splitlines()
    assert json.loads(document)["id"] == "2"
    assert json.loads(metadata)["layer"]
    assert any(line.startswith("# TYPE layer_query_duration_seconds histogram") for line in metrics)
