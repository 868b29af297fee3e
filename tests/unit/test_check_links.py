"""The check of links: what it finds, and what it leaves alone."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_links.py"


@pytest.fixture
def check_links(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("check_links", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a b.md").write_text(
        "# One `two` & [three](x.md)\n\n## Twice\n\n## Twice\n\n```\n# not one\n```\n"
    )
    return module


@pytest.mark.parametrize(
    "link",
    [
        "docs/a%20b.md",
        "docs/a%20b.md#one-two--three",
        "docs/a%20b.md#twice-1",
        "#here",
        "docs",
        "https://nowhere.example/x#y",
    ],
)
def test_links_that_lead_somewhere(check_links, tmp_path, link):
    page = tmp_path / "README.md"
    page.write_text(f"# Here\n\n[words]({link})\n")
    assert check_links.broken_links(page, page.read_text()) == []


@pytest.mark.parametrize("link", ["docs/c.md", "docs/a%20b.md#not-one", "docs/a%20b.md#twice-2", "#there", "../up.md"])
def test_links_that_lead_nowhere(check_links, tmp_path, link):
    page = tmp_path / "README.md"
    page.write_text(f"# Here\n\n[words]({link})\n")
    (problem,) = check_links.broken_links(page, page.read_text())
    assert link in problem


def test_code_holds_no_links(check_links, tmp_path):
    page = tmp_path / "README.md"
    assert check_links.broken_links(page, "`[a](b.md)`\n\n```\n[a](b.md)\n```\n") == []


def test_a_page_that_a_docstring_names_must_be_there(check_links, tmp_path):
    (tmp_path / "docs" / "there.md").write_text("")
    text = "See docs/there.md, `docs/gone.md` and elsewhere/docs/other.md."
    (problem,) = check_links.missing_pages(tmp_path / "x.py", text)
    assert "docs/gone.md" in problem
