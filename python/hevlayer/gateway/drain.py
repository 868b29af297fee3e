"""How a gateway stops: it says so, goes on serving for a while, then refuses."""

from enum import Enum

from hevlayer.errors import GatewayDrainingError


class Phase(Enum):
    SERVING = "serving"
    LEAVING = "leaving"
    """/ready is 503 so that load balancers look elsewhere; requests are still served."""
    REFUSING = "refusing"
    """New requests are refused; those in flight finish."""


class Drain:
    """The phase of the process, read by every request."""

    __slots__ = ("phase",)

    def __init__(self) -> None:
        self.phase = Phase.SERVING

    @property
    def draining(self) -> bool:
        return self.phase is not Phase.SERVING

    def reason(self) -> str | None:
        """Why the process is not ready, if so."""
        return "the gateway is shutting down" if self.draining else None

    def refuse_if_stopping(self) -> None:
        """Raises: GatewayDrainingError: the process is about to stop."""
        if self.phase is Phase.REFUSING:
            raise GatewayDrainingError("the gateway is shutting down; send the request again")
