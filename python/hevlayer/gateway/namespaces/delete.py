"""Deleting a namespace: the upstream first, then our own state, and no step forgotten in between.

A ledger object is written before the upstream is asked and removed when the last step is done, so a crash, a lost
answer or a failed step is taken up again: by the next DELETE, and by a loop.

What a client sees: 2xx as the upstream answered, with a report under `layer`; cleanup that is still to do does not
turn a successful delete into an error. A repeated DELETE gets the upstream's 404, as without us, unless the first one
had work left: then it finishes that work and answers 200.
"""

import logging
from dataclasses import dataclass, replace
from typing import TypeAlias

import msgspec

from hevlayer.clock import Clock
from hevlayer.errors import LayerError, UpstreamError, ValidationError
from hevlayer.gateway.consistency import Credentials, Registry
from hevlayer.gateway.consistency.facts import read_created_at
from hevlayer.gateway.namespaces.cleanup import Cleanup, Deletion, StepReport
from hevlayer.gateway.namespaces.exchange import Exchanges
from hevlayer.gateway.namespaces.listing import epoch_ms
from hevlayer.gateway.namespaces.splice import add_members
from hevlayer.gateway.responses import json_response
from hevlayer.gateway.router import RouteContext
from hevlayer.http.messages import Response
from hevlayer.stores.objects import ObjectStore
from hevlayer.wire.names import decode_name, object_key

LEDGER = "deletes"
PURGE_PARAMETER = "purge_history"
RESUME_SECONDS = 30.0
# A delete whose answer was lost may still take effect for as long as a write may.
UNKNOWN_DELETE_SECONDS = 120.0
# More than the name of any namespace takes, and less than file systems allow.
LEDGER_NAME_BYTES_MAX = 200

log = logging.getLogger("hevlayer.namespaces")


class LedgerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of a ledger object; its key holds the namespace."""

    started_at_ms: int
    created_at: str | None
    deleted: bool
    purge_history: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """The namespace is gone: run every step. `confirmed_now`: by this very answer."""

    confirmed_now: bool


@dataclass(frozen=True, slots=True)
class NeverWas:
    """There was nothing to delete, and nothing was left to do: only forget what a read would bring back."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The upstream has definitely not deleted it."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """It may have been deleted, or may yet be: the ledger stays."""


AnswerPlan: TypeAlias = Finish | NeverWas | Refused | Unclear


def plan_answer(status: int, *, pending: bool) -> AnswerPlan:
    """What the upstream's answer to a DELETE means; `pending`: an earlier delete of the name has work left."""
    if 200 <= status < 300:
        return Finish(confirmed_now=True)
    if status == 404:
        return Finish(confirmed_now=False) if pending else NeverWas()
    if status == 408 or status >= 500:
        return Unclear()
    return Refused()


def plan_resume(deletion: Deletion, status: int, created_at: str | None, now_ms: int) -> AnswerPlan:
    """What a metadata read says about an earlier delete whose outcome is unknown."""
    if status == 404:
        return Finish(confirmed_now=False)
    if not 200 <= status < 300:
        return Unclear()
    if deletion.created_at is not None:
        recreated = created_at is not None and created_at != deletion.created_at
    else:
        created_ms = epoch_ms(created_at)
        recreated = created_ms is not None and created_ms > deletion.started_at_ms
    if recreated:
        return Finish(confirmed_now=False)
    may_still_happen = now_ms - deletion.started_at_ms < UNKNOWN_DELETE_SECONDS * 1000
    return Unclear() if may_still_happen else Refused()


class DeleteRoutes:
    """DELETE /v2/namespaces/{ns}, and the loop that finishes what was left."""

    def __init__(
        self,
        exchanges: Exchanges,
        store: ObjectStore,
        cleanup: Cleanup,
        registry: Registry,
        credentials: Credentials,
        clock: Clock,
    ) -> None:
        self._exchanges = exchanges
        self._store = store
        self._cleanup = cleanup
        self._registry = registry
        self._credentials = credentials
        self._clock = clock
        # True until a look at the store has found no ledger: an earlier process may have left some.
        self._work_left = True

    async def delete_namespace(self, context: RouteContext) -> Response:
        """Refuses, with nothing done, when the ledger cannot be written: a half-done delete must be remembered."""
        namespace = context.namespace
        key = object_key(LEDGER, namespace)
        if context.credential.authorization is None or len(key) > len(LEDGER) + 1 + LEDGER_NAME_BYTES_MAX:
            # The upstream will refuse it: a caller without a key costs us no durable write, and neither does a name
            # that no namespace can have.
            return (await self._exchanges.call(context)).relayed()
        view = self._registry.view(namespace, context.credential.scope)
        purge = _wants_purge(context)
        deletion = Deletion(namespace, self._clock.now_ms(), view.created_at, purge_history=purge)
        first = await self._store.put_if_absent(key, _record(deletion))
        self._work_left = True
        try:
            answer = await self._exchanges.call(context, target=_without_purge(context.upstream_target))
        except UpstreamError as error:
            if error.outcome_known and first:
                await self._close_ledger(key)
            raise
        match plan_answer(answer.status, pending=not first):
            case Finish(confirmed_now):
                if not first:
                    deletion = await self._read(key) or deletion
                    deletion = replace(deletion, purge_history=deletion.purge_history or purge)
                reports = await self._finish(key, replace(deletion, deleted=True))
                layer = describe_cleanup(reports)
                if confirmed_now:
                    return answer.relayed(add_members(answer.body, {"layer": layer}))
                message = "the namespace was deleted before; its cleanup went on"
                return json_response(200, {"status": "OK", "message": message, "layer": layer})
            case NeverWas():
                await self._cleanup.run(deletion, destroy=False)
                await self._close_ledger(key)
            case Refused():
                if first:
                    await self._close_ledger(key)
            case Unclear():
                log.warning(
                    "outcome of a delete is unknown", extra={"namespace": namespace, "upstream_status": answer.status}
                )
        return answer.relayed()

    async def run(self) -> None:
        """Takes up what was left, at start and then every half minute while there is something."""
        while True:
            if self._work_left:
                await self.resume()
            await self._clock.sleep(RESUME_SECONDS)

    async def resume(self) -> int:
        """Looks at every ledger once. Returns: how many deletes still have work left."""
        try:
            keys = await self._store.list_keys(LEDGER + "/")
            left = [key for key in keys if not await self._resume_one(key)]
        except LayerError as error:
            log.warning("cannot resume deletes", extra={"error": error.message})
            return 0
        self._work_left = bool(left)
        return len(left)

    async def _resume_one(self, key: str) -> bool:
        """True when nothing is left to do for this ledger."""
        deletion = await self._read(key)
        if deletion is None:
            return True
        plan: AnswerPlan = Finish(confirmed_now=False)
        if not deletion.deleted:
            plan = await self._ask(deletion)
        match plan:
            case Finish():
                reports = await self._finish(key, replace(deletion, deleted=True))
                return all(report.error is None for report in reports)
            case Refused() | NeverWas():
                log.warning("a delete did not happen", extra={"namespace": deletion.namespace})
                return await self._close_ledger(key)
            case Unclear():
                return False

    async def _ask(self, deletion: Deletion) -> AnswerPlan:
        bearer = self._credentials.background_bearer(deletion.namespace)
        if bearer is None:
            return Unclear()
        try:
            status, body = await self._exchanges.metadata(deletion.namespace, bearer)
        except UpstreamError:
            return Unclear()
        return plan_resume(deletion, status, read_created_at(body), self._clock.now_ms())

    async def _finish(self, key: str, deletion: Deletion) -> list[StepReport]:
        try:
            await self._store.put(key, _record(deletion))
        except LayerError as error:
            # The older ledger still names the delete; resuming it asks the upstream once more.
            log.warning("cannot confirm a delete in its ledger", extra={"error": error.message})
        reports = await self._cleanup.run(deletion)
        failed = [report.name for report in reports if report.error is not None]
        if failed:
            log.warning(
                "cleanup of a deleted namespace is not done", extra={"namespace": deletion.namespace, "steps": failed}
            )
        else:
            await self._close_ledger(key)
        return reports

    async def _read(self, key: str) -> Deletion | None:
        body = await self._store.get(key)
        if body is None:
            return None
        try:
            record = msgspec.json.decode(body, type=LedgerRecord)
            namespace = decode_name(key.removeprefix(LEDGER + "/"))
        except (msgspec.DecodeError, ValueError):
            log.warning("a delete's ledger is unreadable", extra={"key": key})
            return None
        return Deletion(namespace, record.started_at_ms, record.created_at, record.deleted, record.purge_history)

    async def _close_ledger(self, key: str) -> bool:
        try:
            await self._store.delete(key)
        except LayerError as error:
            log.warning("cannot remove a delete's ledger", extra={"error": error.message})
            return False
        return True


def _wants_purge(context: RouteContext) -> bool:
    """Raises: ValidationError: the parameter is neither true nor false."""
    text = context.query_parameters().get(PURGE_PARAMETER, "false")
    if text not in ("true", "false"):
        raise ValidationError(f"{PURGE_PARAMETER} must be true or false")
    return text == "true"


def _without_purge(target: bytes) -> bytes:
    """The request's target without what the upstream does not know."""
    path, _, query = target.partition(b"?")
    name = PURGE_PARAMETER.encode()
    kept = [part for part in query.split(b"&") if part and part.partition(b"=")[0] != name]
    return path + b"?" + b"&".join(kept) if kept else path


def describe_cleanup(reports: list[StepReport]) -> dict[str, object]:
    """The report of a delete: `done`, or `pending` with the steps that will be tried again."""
    done = all(report.error is None for report in reports)
    return {"cleanup": "done" if done else "pending", "steps": [report.as_json() for report in reports]}


def _record(deletion: Deletion) -> bytes:
    return msgspec.json.encode(
        LedgerRecord(deletion.started_at_ms, deletion.created_at, deletion.deleted, deletion.purge_history)
    )
