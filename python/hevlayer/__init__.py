"""hevlayer: a gateway for retrieval systems, and its client.

The client's names (`hevlayer.AsyncHevlayer`, `hevlayer.Hevlayer`, …) are loaded when the first of them is used, so that
the gateway pays nothing for them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hevlayer.client import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # All of the client's names are in capitals; a folder's name must not load it.
    if name[:1].isupper():
        client = importlib.import_module("hevlayer.client")
        if name in client.__all__:
            return getattr(client, name)
    raise AttributeError(f"module 'hevlayer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *importlib.import_module("hevlayer.client").__all__})
