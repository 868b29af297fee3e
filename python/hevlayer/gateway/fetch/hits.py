"""Cached documents given before their fetch becomes a request.

A **voucher** stands for what the general way has just established of a caller and a namespace: that the caller may read
it, that the cached rows under the name are this namespace's, and its id type. With one, and while the cache is healthy,
one native call makes the whole answer. Anything unusual about the request or the row is left to the general way.
"""

import random
from collections.abc import Callable

from hevlayer.clock import Clock
from hevlayer.gateway.access_log import AccessLog
from hevlayer.gateway.auth import Credential
from hevlayer.gateway.drain import Drain
from hevlayer.gateway.fetch.decode import PROJECTIONS_MAX
from hevlayer.kernels.doccache import DocProjection, FetchHits
from hevlayer.kernels.http import RequestHead, access_line
from hevlayer.metrics.recorder import HitMeter, Metrics
from hevlayer.stores.doccache import DocumentCache

# How long a voucher stands for what it says. Every so often one fetch goes the general way, which looks again and notes
# that the namespace is in use; short beside each of the times for which that way itself believes something.
VOUCHER_SECONDS = 1.0
VOUCHERS_MAX = 10_000


class CachedHits:
    """Answers fetches at once; see `AtOnce`."""

    def __init__(
        self,
        cache: DocumentCache,
        drain: Drain,
        metrics: Metrics,
        access_log: AccessLog,
        clock: Clock,
        rng: random.Random,
        *,
        gateway_key: str,
        operation: str,
    ) -> None:
        """Args:
        gateway_key: what callers show as their bearer; empty: each has its own.
        operation: the metric name of the route.
        """
        self._hits = FetchHits(
            rng.getrandbits(64),
            gateway_key.encode() or None,
            vouchers_max=VOUCHERS_MAX,
            projections_max=PROJECTIONS_MAX,
        )
        self._cache = cache
        self._drain = drain
        self._metrics = metrics
        self._access_log = access_log
        self._now: Callable[[], float] = clock.monotonic
        self._now_ms: Callable[[], int] = clock.now_ms
        self._operation = operation
        self.given = 0
        """Answers so far."""
        self.forgotten = 0
        """Grows whenever what was established before no longer counts."""

    def admit(
        self,
        credential: Credential,
        namespace: str,
        id_type: str,
        query: str,
        projection: DocProjection,
        *,
        until: float | None = None,
    ) -> None:
        """A fetch was just answered from the cache in the general way.

        Args:
            until: monotonic seconds from which the caller has to prove its access anew.
        """
        ends = self._now() + VOUCHER_SECONDS
        if until is not None and until < ends:
            ends = until
        self._hits.learn(query, projection)
        meter = self._metrics.hit_meter(self._operation, namespace)
        self._hits.admit(credential.authorization, namespace, id_type, ends, meter)

    def forget(self, namespace: str) -> None:
        """The namespace was deleted or made anew."""
        self.forgotten += 1
        self._hits.forget(namespace)

    def answer(self, head: RequestHead, peer: str, date_line: bytes) -> bytes | None:
        """See `AtOnce`."""
        if self._drain.draining:
            return None
        started = self._now()
        found = self._cache.answer_now(self._hits, head, started, date_line)
        if found is None:
            return None
        message, meter, size, trace_id, request_id = found
        assert type(meter) is HitMeter
        seconds = self._now() - started
        self.given += 1
        meter.observe(seconds, size)
        if self._access_log.enabled:
            self._access_log.add(
                access_line(
                    self._now_ms(), "GET", head.path, self._operation, 200, size, seconds, 0.0, request_id, trace_id,
                    peer, "", "",
                )
            )  # fmt: skip
        return message
