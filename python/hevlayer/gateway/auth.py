"""Who may do what: the gateway's own key, or the caller's bearer passed through with per-namespace grants."""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hevlayer.clock import Clock, SingleFlight
from hevlayer.errors import ForbiddenError, LayerError, NotFoundError, UnauthorizedError, UpstreamError
from hevlayer.http.messages import Headers, Request, find_header

GRANT_SECONDS = 60.0
GRANTS_MAX = 100_000
BEARERS_MAX = 10_000
# Callers whose credentials are kept; all are dropped when there are more.
CALLERS_MAX = 1_000

_BEARER = b"bearer "


class Credential:
    """What a request carries upstream.

    `authorization` is the header value for the upstream (None: the caller sent nothing, and the upstream will say
    so); `bearer` the token alone; `digest` identifies the caller in caches and grants without keeping the secret;
    `trusted` says that the gateway's own key was shown, so that no grant is needed; `alone` that nobody vouches for
    its seeing the same namespaces as other callers.
    """

    __slots__ = ("_digest", "alone", "authorization", "bearer", "trusted")

    def __init__(self, authorization: bytes | None, *, trusted: bool, alone: bool = False) -> None:
        self.authorization = authorization
        self.bearer = bearer_of(authorization)
        self.trusted = trusted
        self.alone = alone
        self._digest: bytes | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the authorization sent upstream, 32 bytes."""
        if self._digest is None:
            self._digest = hashlib.sha256(self.authorization or b"").digest()
        return self._digest

    @property
    def scope(self) -> bytes:
        """Whose namespaces a name means under this credential: what is known of one scope's `docs` says nothing of
        another's. Empty for all who read with the gateway's own key, and for work that it does for them."""
        return self.digest if self.alone else b""

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
    authorization is passed through; callers may then be of different organisations, unless an upstream key says whose
    namespaces are watched.
    """

    def __init__(self, gateway_key: str, upstream_key: str, metrics_token: str) -> None:
        self._gateway_key = gateway_key.encode() or None
        self._metrics_token = metrics_token.encode() or None
        self._alone = not upstream_key
        self._callers: dict[bytes | None, Credential] = {}
        self._gateway_credential = Credential(b"Bearer " + upstream_key.encode(), trusted=True)

    @property
    def passes_through(self) -> bool:
        return self._gateway_key is None

    def authenticate(self, headers: Headers) -> Credential:
        """Raises: UnauthorizedError: a gateway key is configured and the request does not carry it."""
        authorization = find_header(headers, b"authorization")
        if self._gateway_key is None:
            return self._passed_through(authorization)
        return self._judge(bearer_of(authorization), self._gateway_key)

    def credential(self, request: Request) -> Credential:
        """The same for a request. Raises: as `authenticate`."""
        head = request.head
        if head is None:
            return self.authenticate(request.headers)
        if self._gateway_key is None:
            return self._passed_through(head.header(b"authorization"))
        return self._judge(head.bearer, self._gateway_key)

    def _judge(self, bearer: bytes | None, key: bytes) -> Credential:
        if bearer is None or not hmac.compare_digest(bearer, key):
            raise UnauthorizedError("the gateway's API key is missing or wrong; send it as Authorization: Bearer")
        return self._gateway_credential

    def _passed_through(self, authorization: bytes | None) -> Credential:
        """The callers' credentials are kept a while: a digest of each request's would cost more than the rest here."""
        known = self._callers.get(authorization)
        if known is None:
            if len(self._callers) >= CALLERS_MAX:
                self._callers.clear()
            known = self._callers[authorization] = Credential(authorization, trusted=False, alone=self._alone)
        return known

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


MetadataProbe = Callable[[str, Credential], Awaitable[tuple[int, str | None]]]
"""Asks the upstream for a namespace's metadata under a credential; answers the status and the `created_at` in it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A caller was seen to have access to a namespace.

    Attributes:
        identity: the namespace's `created_at` as the upstream told it to this caller. Namespaces of one name that
            differ in it are different ones. None: the upstream did not tell.
        expires_at: monotonic seconds.
    """

    identity: str | None
    expires_at: float


class Grants:
    """Which caller was seen to have access to which namespace, by digest, for at most a minute."""

    def __init__(self, probe: MetadataProbe, clock: Clock) -> None:
        self._probe = probe
        self._clock = clock
        self._held: OrderedDict[tuple[bytes, str], Grant] = OrderedDict()
        self._flights: SingleFlight[tuple[bytes, str, int], tuple[int, str | None]] = SingleFlight()
        self._forgotten = 0

    def _remember(self, key: tuple[bytes, str], identity: str | None) -> Grant:
        grant = Grant(identity, self._clock.monotonic() + GRANT_SECONDS)
        self._held[key] = grant
        self._held.move_to_end(key)
        if len(self._held) > GRANTS_MAX:
            self._held.popitem(last=False)
        return grant

    def forget(self, namespace: str) -> None:
        """The namespace was deleted or made anew: every caller's access and what identifies it are asked for again."""
        # What is being asked now may be told of the former one.
        self._forgotten += 1
        for key in [key for key in self._held if key[1] == namespace]:
            del self._held[key]

    async def require(self, namespace: str, credential: Credential) -> Grant | None:
        """The caller's grant on `namespace`; None for a trusted one, which needs none. Asks the upstream at most once
        a minute.

        Raises: UnauthorizedError, ForbiddenError, NotFoundError: as the upstream answered. UpstreamError: it could
            not be asked.
        """
        if credential.trusted:
            return None
        key = (credential.digest, namespace)
        held = self._held.get(key)
        if held is not None and held.expires_at > self._clock.monotonic():
            return held
        if credential.bearer is None:
            raise UnauthorizedError("a bearer token is required; send it as Authorization: Bearer")

        async def ask() -> tuple[int, str | None]:
            return await self._probe(namespace, credential)

        forgotten = self._forgotten
        status, identity = await self._flights.run((*key, forgotten), ask)
        if 200 <= status < 300:
            if forgotten != self._forgotten:
                return Grant(identity, self._clock.monotonic())
            return self._remember(key, identity)
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

    Kept in memory only, for at most `BEARERS_MAX` namespaces and scopes; the one not used for longest goes first.
    """

    def __init__(self, upstream_key: str) -> None:
        self._configured = upstream_key.encode() or None
        # By namespace and scope; under the scope None the last of any.
        self._seen: OrderedDict[tuple[str, bytes | None], bytes] = OrderedDict()

    def __repr__(self) -> str:
        return f"BackgroundBearers(configured={self.configured}, entries={len(self._seen)})"

    @property
    def configured(self) -> bool:
        return self._configured is not None

    def note_success(self, namespace: str, credential: Credential) -> None:
        """The upstream answered a request on `namespace` under `credential` with 2xx."""
        if self._configured is not None or credential.bearer is None:
            return
        seen = self._seen
        for key in ((namespace, credential.scope), (namespace, None)):
            seen[key] = credential.bearer
            seen.move_to_end(key)
        while len(seen) > 2 * BEARERS_MAX:
            seen.popitem(last=False)

    def background_bearer(self, namespace: str, scope: bytes | None = None) -> bytes | None:
        """The token for background reads of `namespace` as a scope sees it (None: as any does); None when nobody has
        shown one that works."""
        return self._configured or self._seen.get((namespace, scope))
