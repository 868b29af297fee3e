"""Checks the relative links and the anchors of every tracked Markdown file, and the pages that other files name.

Sphinx checks the pages of `docs/` among themselves; this also looks at what lies outside, where it does not go.
Reads local files only.
"""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^(```+|~~~+)[^\n]*\n.*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
# A page that prose or a docstring names as a path.
_PROSE = {".md", ".py", ".pyi", ".rs", ".sql", ".sh", ""}
_NAMED_PAGE = re.compile(r"(?<![\w/])docs/[\w-]+\.md\b")


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [path for path in map(ROOT.joinpath, listed.splitlines()) if path.exists()]


def anchors_of(text: str) -> set[str]:
    """The anchors of a page's headings, as code hosts and MyST spell them."""
    anchors: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        number, anchor = 0, slug
        while anchor in anchors:
            number += 1
            anchor = f"{slug}-{number}"
        anchors.add(anchor)
    return anchors


@cache
def _anchors(path: Path) -> frozenset[str]:
    return frozenset(anchors_of(path.read_text(encoding="utf-8")))


def broken_links(page: Path, text: str) -> list[str]:
    """What is wrong with the links of a page, one line each."""
    wrong = []
    for target in _LINK.findall(_INLINE_CODE.sub(_blank, _FENCE.sub(_blank, text))):
        if _ELSEWHERE.match(target):
            continue
        name, _, anchor = unquote(target).partition("#")
        aim = (page.parent / name).resolve() if name else page
        if not aim.exists():
            wrong.append(f"{_shown(page)}: {target}: no such file")
        elif anchor and aim.suffix == ".md" and anchor not in _anchors(aim):
            wrong.append(f"{_shown(page)}: {target}: no such heading")
    return wrong


def missing_pages(path: Path, text: str) -> list[str]:
    """Pages that a file names and that are not there."""
    return [
        f"{_shown(path)}: {name}: no such page"
        for name in sorted(set(_NAMED_PAGE.findall(text)))
        if not (ROOT / name).exists()
    ]


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main() -> int:
    wrong: list[str] = []
    pages = tracked("*.md")
    for page in pages:
        wrong += broken_links(page, page.read_text(encoding="utf-8"))
    for path in [*pages, *tracked("python", "rust", "benches", "Makefile", "scripts/*.sh")]:
        if path.suffix in _PROSE:
            wrong += missing_pages(path, path.read_text(encoding="utf-8"))
    if wrong:
        print("check_links: " + "\n".join(wrong), file=sys.stderr)
        return 1
    print(f"check_links: {len(pages)} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
