"""Who may do what: the gateway's own key, or the caller's bearer passed through with per-namespace grants."""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from hevlayer.clock import Clock, SingleFlight
from hevlayer.errors import ForbiddenError, LayerError, NotFoundError, UnauthorizedError, UpstreamError
from hevlayer.http.messages import Headers, find_header

GRANT_SECONDS = 60.0
GRANTS_MAX = 100_000
BEARERS_MAX = 10_000

_BEARER = b"bearer "


class Credential:
    """What a request carries upstream.

    `authorization` is the header value for the upstream (None: the caller sent nothing, and the upstream will say
    so); `bearer` the token alone; `digest` identifies the caller in caches and grants without keeping the secret;
    `trusted` says that the gateway's own key was shown, so that no grant is needed.
    """

    __slots__ = ("_digest", "authorization", "bearer", "trusted")

    def __init__(self, authorization: bytes | None, *, trusted: bool) -> None:
        self.authorization = authorization
        self.bearer = bearer_of(authorization)
        self.trusted = trusted
        self._digest: bytes | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the authorization sent upstream, 32 bytes."""
        if self._digest is None:
            self._digest = hashlib.sha256(self.authorization or b"").digest()
        return self._digest

    def __repr__(self) -> str:
        return f"Credential(trusted={self.trusted})"


def bearer_of(authorization: bytes | None) -> bytes | None:
    """The token of an `Authorization: Bearer …` value; None when there is none."""
    if authorization is None or authorization[:7].lower() != _BEARER:
        return None
    return authorization[7:].strip() or None


ANONYMOUS = Credential(None, trusted=False)


class Authenticator:
    """Turns request headers into a credential.

    With a gateway key every caller shows that key, and the upstream sees ours. Without one the caller's own
    authorization is passed through.
    """

    def __init__(self, gateway_key: str, upstream_key: str, metrics_token: str) -> None:
        self._gateway_key = gateway_key.encode() or None
        self._metrics_token = metrics_token.encode() or None
        self._gateway_credential = Credential(b"Bearer " + upstream_key.encode(), trusted=True)

    @property
    def passes_through(self) -> bool:
        return self._gateway_key is None

    def authenticate(self, headers: Headers) -> Credential:
        """Raises: UnauthorizedError: a gateway key is configured and the request does not carry it."""
        authorization = find_header(headers, b"authorization")
        if self._gateway_key is None:
            return Credential(authorization, trusted=False)
        bearer = bearer_of(authorization)
        if bearer is None or not hmac.compare_digest(bearer, self._gateway_key):
            raise UnauthorizedError("the gateway's API key is missing or wrong; send it as Authorization: Bearer")
        return self._gateway_credential

    def observes(self, headers: Headers) -> bool:
        """Whether the caller may read what a metrics token closes."""
        if self._metrics_token is None:
            return True
        bearer = bearer_of(find_header(headers, b"authorization"))
        return bearer is not None and hmac.compare_digest(bearer, self._metrics_token)

    def require_observer(self, headers: Headers) -> None:
        """Raises: UnauthorizedError: a metrics token is configured and the request does not carry it."""
        if not self.observes(headers):
            raise UnauthorizedError("the metrics token is missing or wrong; send it as Authorization: Bearer")


MetadataProbe = Callable[[str, Credential], Awaitable[int]]
"""Asks the upstream for a namespace's metadata under a credential; answers the status."""


class Grants:
    """Which caller was seen to have access to which namespace, by digest, for at most a minute."""

    def __init__(self, probe: MetadataProbe, clock: Clock) -> None:
        self._probe = probe
        self._clock = clock
        self._expires: OrderedDict[tuple[bytes, str], float] = OrderedDict()
        self._flights: SingleFlight[tuple[bytes, str], int] = SingleFlight()

    def remember(self, namespace: str, credential: Credential) -> None:
        """The upstream answered a metadata read of `namespace` under `credential` with 2xx."""
        key = (credential.digest, namespace)
        self._expires[key] = self._clock.monotonic() + GRANT_SECONDS
        self._expires.move_to_end(key)
        while len(self._expires) > GRANTS_MAX:
            self._expires.popitem(last=False)

    def forget(self, namespace: str, credential: Credential) -> None:
        self._expires.pop((credential.digest, namespace), None)

    def holds(self, namespace: str, credential: Credential) -> bool:
        return self._expires.get((credential.digest, namespace), 0.0) > self._clock.monotonic()

    async def require(self, namespace: str, credential: Credential) -> None:
        """Returns when the caller may see what we hold of `namespace`; asks the upstream at most once a minute.

        Raises: UnauthorizedError, ForbiddenError, NotFoundError: as the upstream answered. UpstreamError: it could
            not be asked.
        """
        if credential.trusted or self.holds(namespace, credential):
            return
        if credential.bearer is None:
            raise UnauthorizedError("a bearer token is required; send it as Authorization: Bearer")

        async def ask() -> int:
            return await self._probe(namespace, credential)

        status = await self._flights.run((credential.digest, namespace), ask)
        if 200 <= status < 300:
            self.remember(namespace, credential)
            return
        raise _refusal(status, namespace)


def _refusal(status: int, namespace: str) -> LayerError:
    if status == 401:
        return UnauthorizedError("the upstream does not accept this bearer token")
    if status == 403:
        return ForbiddenError(f"this bearer token may not read namespace '{namespace}'")
    if status in (400, 404):
        return NotFoundError(f"namespace '{namespace}' was not found")
    return UpstreamError(f"the upstream answered {status} to the metadata read that proves access")


class BackgroundBearers:
    """The bearer for work that no request waits for: the configured key, else the last one that got a 2xx there.

    Kept in memory only, for at most `BEARERS_MAX` namespaces; the one not used for longest goes first.
    """

    def __init__(self, upstream_key: str) -> None:
        self._configured = upstream_key.encode() or None
        self._seen: OrderedDict[str, bytes] = OrderedDict()

    def __repr__(self) -> str:
        return f"BackgroundBearers(configured={self.configured}, namespaces={len(self._seen)})"

    @property
    def configured(self) -> bool:
        return self._configured is not None

    def note_success(self, namespace: str, credential: Credential) -> None:
        """The upstream answered a request on `namespace` under `credential` with 2xx."""
        if self._configured is not None or credential.bearer is None:
            return
        seen = self._seen
        seen[namespace] = credential.bearer
        seen.move_to_end(namespace)
        if len(seen) > BEARERS_MAX:
            seen.popitem(last=False)

    def background_bearer(self, namespace: str) -> bytes | None:
        """The token to use for background reads of `namespace`; None when nobody has shown one that works."""
        return self._configured or self._seen.get(namespace)
