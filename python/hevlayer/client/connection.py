"""Where the client connects and with which keys, from arguments and the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

GATEWAY_URL_DEFAULT = "http://localhost:8080"
TURBOPUFFER_URL_DEFAULT = "https://aws-us-east-1.turbopuffer.com"
_KEY_HELP = "must be ASCII text without control characters"


@dataclass(frozen=True, slots=True)
class Place:
    """A server and the key that it is shown. `base_url` has no slash at its end; `api_key` is "" for none."""

    base_url: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Connection:
    """The gateway, and Turbopuffer itself where the client may fall through to it."""

    gateway: Place
    turbopuffer: Place | None


def connection_of(
    *,
    base_url: str | None,
    api_key: str | None,
    turbopuffer_api_key: str | None,
    turbopuffer_url: str | None,
    fallback_to_turbopuffer: bool,
    environment: Mapping[str, str] | None = None,
) -> Connection:
    """Arguments first, then the environment; an empty variable counts as not set.

    Raises: ValueError: an address or a key cannot be used; it says which.
    """
    env = os.environ if environment is None else environment
    gateway = Place(
        _address("base_url or LAYER_GATEWAY_URL", base_url or env.get("LAYER_GATEWAY_URL") or GATEWAY_URL_DEFAULT),
        _key("api_key or LAYER_GATEWAY_API_KEY", _first(api_key, env.get("LAYER_GATEWAY_API_KEY"))),
    )
    direct_key = _key(
        "turbopuffer_api_key or TURBOPUFFER_API_KEY", _first(turbopuffer_api_key, env.get("TURBOPUFFER_API_KEY"))
    )
    if not fallback_to_turbopuffer or not direct_key:
        return Connection(gateway, None)
    url = turbopuffer_url or env.get("TURBOPUFFER_API_URL") or TURBOPUFFER_URL_DEFAULT
    return Connection(gateway, Place(_address("turbopuffer_url or TURBOPUFFER_API_URL", url), direct_key))


def _first(given: str | None, fallback: str | None) -> str:
    return (fallback or "") if given is None else given


def _address(name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
        # Addresses are told in errors; keys have a place of their own.
        usable = usable and parts.username is None
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{name} must be an http or https address without user, query or fragment")
    return text.rstrip("/")


def _key(name: str, text: str) -> str:
    if text and not (text.isascii() and text.isprintable()):
        raise ValueError(f"{name} {_KEY_HELP}")
    return text
