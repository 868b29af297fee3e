"""What a deleted namespace leaves behind here, and the steps that remove it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from hevlayer.errors import LayerError
from hevlayer.gateway.consistency import Registry
from hevlayer.metrics import Metrics

STEP_SECONDS = 30.0

log = logging.getLogger("hevlayer.namespaces")


@dataclass(frozen=True, slots=True)
class Deletion:
    """One delete, known from before the upstream is asked until nothing is left to do.

    Attributes:
        started_at_ms: state made later may belong to a new namespace of the same name, and is spared.
        created_at: of the namespace that was to be deleted, as the upstream spells it, when it was known.
        deleted: the upstream has confirmed it; before that its outcome is unknown.
        purge_history: what was recorded of its searches goes as well.
    """

    namespace: str
    started_at_ms: int
    created_at: str | None = None
    deleted: bool = False
    purge_history: bool = False


@dataclass(frozen=True, slots=True)
class CleanupStep:
    """Removes one kind of state. Idempotent: it may run again after a crash or beside another process.

    A step that `destroys` removes what cannot be had again from the upstream; it runs only for a delete that the
    upstream confirmed, never because a name was not found.
    """

    name: str
    run: Callable[[Deletion], Awaitable[None]]
    destroys: bool = False


@dataclass(frozen=True, slots=True)
class StepReport:
    name: str
    error: str | None

    def as_json(self) -> dict[str, object]:
        if self.error is None:
            return {"step": self.name, "status": "done"}
        return {"step": self.name, "status": "failed", "error": self.error}


def own_steps(registry: Registry, forget_listing: Callable[[], None]) -> tuple[CleanupStep, ...]:
    """The steps for what the consistency watcher and the listing know."""

    async def unwatch(deletion: Deletion) -> None:
        registry.forget(deletion.namespace)
        registry.announce(deletion.namespace, "deleted")

    async def unlist(deletion: Deletion) -> None:
        forget_listing()

    return (CleanupStep("watermark", unwatch), CleanupStep("listing", unlist))


class Cleanup:
    """Runs the steps in their order; one that fails does not keep the others from running."""

    def __init__(self, steps: Sequence[CleanupStep], metrics: Metrics, *, step_seconds: float = STEP_SECONDS) -> None:
        self._steps = tuple(steps)
        self._metrics = metrics
        self._step_seconds = step_seconds

    async def run(self, deletion: Deletion, *, destroy: bool = True) -> list[StepReport]:
        return [await self._one(step, deletion) for step in self._steps if destroy or not step.destroys]

    async def _one(self, step: CleanupStep, deletion: Deletion) -> StepReport:
        error: str | None = None
        try:
            async with asyncio.timeout(self._step_seconds):
                await step.run(deletion)
        except TimeoutError:
            error = f"not done within {self._step_seconds:g} s"
        except LayerError as failure:
            error = failure.message
        except Exception:
            error = "failed unexpectedly"
            log.exception("cleanup step failed", extra={"step": step.name, "namespace": deletion.namespace})
        self._metrics.count_cleanup(step.name, ok=error is None)
        return StepReport(step.name, error)
