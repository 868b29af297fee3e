"""The one error hierarchy. An error knows its code, its HTTP status, where it arose and whether a retry may help."""

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar


class Source(Enum):
    """Who caused an error; it decides what is logged and what is counted, never its text."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    CACHE = "cache"
    STORE = "store"
    INTERNAL = "internal"


class LayerError(Exception):
    """Base of every error that can reach a caller. `fields` are added to the error body where they help."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    source: ClassVar[Source] = Source.INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, fields: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields: Mapping[str, object] = fields or {}


class ValidationError(LayerError):
    """The request is well formed but breaks a rule; the message names the field and the rule."""

    code = "validation_error"
    status = 422
    source = Source.CLIENT


class NotSupportedError(ValidationError):
    """The request uses a documented feature that this version has not built."""

    code = "not_supported"


class NotFoundError(LayerError):
    code = "not_found"
    status = 404
    source = Source.CLIENT


class MethodNotAllowedError(LayerError):
    code = "method_not_allowed"
    status = 405
    source = Source.CLIENT


class BadRequestError(LayerError):
    """The request cannot be read: broken HTTP framing, broken gzip, a body that is not JSON."""

    code = "bad_request"
    status = 400
    source = Source.CLIENT


class RequestTimeoutError(LayerError):
    """The client did not send its request within the deadline."""

    code = "request_timeout"
    status = 408
    source = Source.CLIENT
    retryable = True


class ConflictError(LayerError):
    code = "conflict"
    status = 409
    source = Source.CLIENT


class PreconditionFailedError(LayerError):
    code = "precondition_failed"
    status = 412
    source = Source.CLIENT


class PayloadTooLargeError(LayerError):
    code = "payload_too_large"
    status = 413
    source = Source.CLIENT


class UnauthorizedError(LayerError):
    code = "unauthorized"
    status = 401
    source = Source.CLIENT


class ForbiddenError(LayerError):
    code = "forbidden"
    status = 403
    source = Source.CLIENT


class CacheColdError(LayerError):
    code = "cache_cold"
    status = 503
    source = Source.CACHE
    retryable = True

    def __init__(self, message: str) -> None:
        super().__init__(message, fields={"cache_state": "cold"})


class ServiceUnavailableError(LayerError):
    code = "service_unavailable"
    status = 503
    retryable = True


class GatewayDrainingError(LayerError):
    code = "gateway_draining"
    status = 503
    retryable = True


class UpstreamError(LayerError):
    """The upstream is unreachable, resets the connection or answers something that is not HTTP.

    `outcome_known` says whether the request certainly had no effect (the connection was refused before a byte was
    sent); a write whose outcome is unknown stays in flight for a while.
    """

    code = "upstream_error"
    status = 502
    source = Source.UPSTREAM
    retryable = True

    def __init__(self, message: str, *, outcome_known: bool = False) -> None:
        super().__init__(message)
        self.outcome_known = outcome_known


class GatewayTimeoutError(UpstreamError):
    """The upstream did not answer within the deadline."""

    code = "gateway_timeout"
    status = 504


class CacheUnavailableError(LayerError):
    """The document cache failed or is over its time budget. Soft: a reader falls through to the upstream."""

    code = "cache_unavailable"
    status = 503
    source = Source.CACHE
    retryable = True


class ConfigurationError(LayerError):
    """Every problem of a configuration at once; raised before anything starts."""

    code = "configuration_error"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
