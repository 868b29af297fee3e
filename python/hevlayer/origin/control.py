"""The control route `/_origin/*`, outside of the API: faults and index lag, for tests only."""

from typing import Annotated, Protocol

import msgspec
import orjson

from hevlayer.errors import LayerError, MethodNotAllowedError, NotFoundError, ValidationError
from hevlayer.http.messages import Request, Response
from hevlayer.origin import codec
from hevlayer.origin.faults import FaultBook, FaultConfig, decode_faults

CONTROL_BODY_BYTES_MAX = 1 << 20
INDEX_LAG_MS_MAX = 86_400_000


class IndexLagSetter(Protocol):
    def set_index_lag(self, namespace: str | None, ms: int) -> None: ...


class IndexLag(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`namespace` None is the lag of every namespace that has none of its own."""

    ms: Annotated[int, msgspec.Meta(ge=0, le=INDEX_LAG_MS_MAX)]
    namespace: str | None = None


class ControlRoutes:
    """GET, PUT and DELETE `/_origin/faults`; PUT `/_origin/index-lag`. Answers show the state after the change."""

    def __init__(self, faults: FaultBook, engine: IndexLagSetter) -> None:
        self._faults = faults
        self._engine = engine

    async def handle(self, request: Request) -> Response:
        try:
            body = await request.body.read(CONTROL_BODY_BYTES_MAX)
            return codec.respond(200, orjson.dumps(self._dispatch(request.method, request.path, body)))
        except LayerError as error:
            return codec.respond_error(error.status, error.message)

    def _dispatch(self, method: str, path: str, body: bytes) -> dict[str, object]:
        match method, path:
            case "GET", "/_origin/faults":
                return self._faults.describe()
            case "PUT", "/_origin/faults":
                self._faults.replace(decode_faults(body))
                return self._faults.describe()
            case "DELETE", "/_origin/faults":
                self._faults.replace(FaultConfig())
                return self._faults.describe()
            case "PUT", "/_origin/index-lag":
                return self._set_index_lag(body)
            case _, "/_origin/faults" | "/_origin/index-lag":
                raise MethodNotAllowedError(f"{path} does not take {method}")
            case _:
                raise NotFoundError(f"no control route {path}")

    def _set_index_lag(self, body: bytes) -> dict[str, object]:
        try:
            lag = msgspec.json.decode(body, type=IndexLag)
        except msgspec.DecodeError as error:
            raise ValidationError(f"index-lag: {error}") from error
        self._engine.set_index_lag(lag.namespace, lag.ms)
        return {"namespace": lag.namespace, "ms": lag.ms}
