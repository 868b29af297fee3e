"""How a job is waited for: when to ask again, and when to stop."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from hevlayer.client.errors import HevlayerJobError, HevlayerWaitError
from hevlayer.client.models import JobBase

JobT = TypeVar("JobT", bound=JobBase)


class Wait(Generic[JobT]):
    """One wait. Times are in seconds; `timeout` None has no end."""

    def __init__(
        self,
        initial_delay: float,
        max_delay: float,
        timeout: float | None,
        progress: Callable[[JobT], object] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises: ValueError: a delay or the time-out is not above 0."""
        for name, value in (("initial_delay", initial_delay), ("max_delay", max_delay), ("timeout", timeout)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, not {value}")
        self._delay = min(initial_delay, max_delay)
        self._max_delay = max_delay
        self._progress = progress
        self._clock = clock
        self._timeout = timeout
        self._deadline = None if timeout is None else clock() + timeout

    def next_delay_seconds(self, job: JobT) -> float | None:
        """How long to wait before the next question; None when the job is completed.

        Raises: HevlayerJobError: it failed. HevlayerWaitError: the time is over.
        """
        if self._progress is not None:
            self._progress(job)
        if job.status == "completed":
            return None
        if job.status == "failed":
            raise HevlayerJobError(job.error or "the job failed and does not say why", job=job)
        delay = self._delay
        self._delay = min(self._delay * 2, self._max_delay)
        if self._deadline is None:
            return delay
        left = self._deadline - self._clock()
        if left <= 0:
            raise HevlayerWaitError(f"job {job.id} did not end in {self._timeout} s; it goes on", job=job)
        return min(delay, left)
