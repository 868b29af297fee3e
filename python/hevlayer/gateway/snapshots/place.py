"""What the object store calls a namespace.

With a key of its own the gateway has one upstream organisation, and a namespace is its name. In pass-through mode
namespaces of one name may belong to several, so the moment of creation that the upstream tells each caller belongs to
the name too, and nobody finds another one's bodies.
"""

_SEPARATOR = "\0"


def place_of(namespace: str, trusted: bool, identity: str | None) -> str:
    """`identity`: the namespace's `created_at` as told to the caller, where the caller is not trusted."""
    return namespace if trusted else f"{namespace}{_SEPARATOR}{identity or ''}"


def namespace_in(place: str) -> str:
    return place.split(_SEPARATOR, 1)[0]
