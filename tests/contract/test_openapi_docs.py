"""The pages that are written from the code."""

import importlib.util
from pathlib import Path

import pytest

from hevlayer.gateway.config import SETTINGS
from hevlayer.gateway.openapi.document import path_of
from hevlayer.gateway.routes import ROUTES

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_docs.py"


@pytest.fixture
def make_docs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("make_docs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DOCS", tmp_path)
    return module


def rows(page: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]


def test_the_api_page_has_each_route_once(make_docs):
    routes = [row[0] for row in rows(make_docs.api_page())]
    assert sorted(routes) == sorted(f"`{spec.method} {path_of(spec.pattern)}`" for spec in ROUTES)


def test_the_configuration_page_has_each_setting_of_the_gateway(make_docs):
    page = make_docs.configuration_page()
    gateway = page[: page.index("## `hevlayer dev`")]
    assert [row[0] for row in rows(gateway)] == [f"`{setting.env}`" for setting in SETTINGS]


def test_a_page_that_is_out_of_date_is_told(make_docs, tmp_path, capsys):
    assert make_docs.main(["--check"]) == 1
    assert not list(tmp_path.iterdir())
    assert make_docs.main([]) == 0
    assert make_docs.main(["--check"]) == 0
    page = tmp_path / "api.md"
    page.write_text(page.read_text().replace("DELETE", "REMOVE", 1))
    capsys.readouterr()
    assert make_docs.main(["--check"]) == 1
    assert capsys.readouterr().err == "make_docs: out of date: api.md; run scripts/make_docs.py\n"
