import os

import pytest
from layer_server import KEY, CannedServer

from hevlayer.cli.layer.app import run


@pytest.fixture
def server():
    with CannedServer() as running:
        yield running


@pytest.fixture
def layer(server, monkeypatch, capsys):
    """Runs a command line. Returns: the exit status, standard output and standard error."""
    for name in list(os.environ):
        if name.startswith(("LAYER_", "TURBOPUFFER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LAYER_GATEWAY_URL", server.url)
    monkeypatch.setenv("LAYER_GATEWAY_API_KEY", KEY)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = run(arguments)
        streams = capsys.readouterr()
        assert KEY not in streams.out + streams.err
        assert "\x1b" not in streams.out + streams.err
        return status, streams.out, streams.err

    return call
