"""Whose key the background work uses."""

from collections import OrderedDict
from typing import Protocol

BEARERS_MAX = 10_000


class Credentials(Protocol):
    """Gives the key for a background request; None when the gateway holds none that the upstream has accepted."""

    def background_bearer(self, namespace: str) -> bytes | None: ...

    def note_refused(self, namespace: str, bearer: bytes) -> None: ...


class BearerMemory:
    """The gateway's own key when it has one, else per namespace the bearer that last got a 2xx there. Memory only."""

    def __init__(self, api_key: bytes | None, *, bearers_max: int = BEARERS_MAX) -> None:
        self._api_key = api_key
        self._bearers_max = bearers_max
        self._by_namespace: OrderedDict[str, bytes] = OrderedDict()

    def __repr__(self) -> str:
        return f"BearerMemory(namespaces={len(self._by_namespace)})"

    @property
    def has_own_key(self) -> bool:
        return self._api_key is not None

    def note_accepted(self, namespace: str, bearer: bytes) -> None:
        """The upstream answered a request for `namespace` under `bearer` with 2xx. `bearer` is the bare token."""
        if self._api_key is not None:
            return
        self._by_namespace[namespace] = bearer
        self._by_namespace.move_to_end(namespace)
        if len(self._by_namespace) > self._bearers_max:
            self._by_namespace.popitem(last=False)

    def note_refused(self, namespace: str, bearer: bytes) -> None:
        """The upstream answered 401 or 403: a remembered bearer is not used again."""
        if self._by_namespace.get(namespace) == bearer:
            del self._by_namespace[namespace]

    def background_bearer(self, namespace: str) -> bytes | None:
        return self._api_key if self._api_key is not None else self._by_namespace.get(namespace)
