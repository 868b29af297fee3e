"""The examples of the client's page run in order, and print what the page shows."""

import contextlib
import io
import re

import pytest
from contract_support import ROOT, start_gateway

KEY = "gateway-key"
_FENCES = re.compile(r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
EXAMPLES = _FENCES.findall((ROOT / "docs" / "client.md").read_text())


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the examples know; each leaves what it made to the next."""
    with start_gateway(tmp_path_factory.mktemp("client-page"), key=KEY) as target:
        known = {"GATEWAY": target.base_url, "KEY": KEY}
        yield known
        known["client"].close()


def test_there_are_examples():
    assert len(EXAMPLES) >= 6
    assert all(shown for _, shown in EXAMPLES)


def test_each_example_prints_what_the_page_shows(names):
    for code, shown in EXAMPLES:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "docs/client.md", "exec"), names)
        assert printed.getvalue() == shown, code
