"""How the pages become a site: Sphinx reads Markdown through MyST. A warning ends `make docs`."""

import tomllib
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]

project = "hev layer"
project_copyright = "the hev layer authors"
release = tomllib.loads((_ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["version"]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]

# Headings of these levels have anchors, spelled as code hosts spell them, so that links hold in both places.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"hev layer {release}"
html_show_sourcelink = False
html_copy_source = False
templates_path: list[str] = []
