"""Snapshots over HTTP: jobs, history, bodies, activity and the policy."""

import asyncio
import re
from collections.abc import Callable

from hevlayer.clock import Clock
from hevlayer.errors import NotFoundError, ValidationError
from hevlayer.gateway.auth import Grants
from hevlayer.gateway.consistency import Registry
from hevlayer.gateway.jobs import JobKind, Jobs
from hevlayer.gateway.reads import RefusedReadError
from hevlayer.gateway.responses import json_response, relayed_answer
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.scan.service import Caller
from hevlayer.gateway.scanning import OFF_LOOP_BYTES
from hevlayer.gateway.snapshots.activity import Activity, read_cursor
from hevlayer.gateway.snapshots.jobs import SnapshotJobs, read_wanted
from hevlayer.gateway.snapshots.place import namespace_in, place_of
from hevlayer.gateway.snapshots.policy import Policies, read_policy
from hevlayer.gateway.snapshots.store import Entry, SnapshotStore
from hevlayer.gateway.snapshots.writer import SnapshotWriter
from hevlayer.http.messages import Response

BODY_BYTES_MAX = 16 * 1024 * 1024
POLICY_BYTES_MAX = 256 * 1024
LIMIT_DEFAULT, LIMIT_MAX = 50, 500
_SHA = re.compile(r"[0-9a-f]{7,64}")
_POINT = re.compile(r"([0-9]{13})-([0-9a-f]{7,64})")
_MOMENT = re.compile(r"[0-9]{1,13}")


SettledCut = Callable[[str], int | None]
"""The stamp up to which every write of a namespace has its answer now."""


def _limit(text: str | None) -> int:
    """Raises: ValidationError."""
    if text is None:
        return LIMIT_DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
        raise ValidationError("limit must be an integer of at least 1")
    return min(int(text), LIMIT_MAX)


def _sha(name: str, text: str) -> str:
    """Raises: ValidationError."""
    if not _SHA.fullmatch(text):
        raise ValidationError(f"{name}: must be a SHA-256 in lower-case hex, or at least its first seven characters")
    return text


class SnapshotRoutes:
    """The handlers of snapshots, by their names in the route table."""

    def __init__(
        self,
        store: SnapshotStore,
        policies: Policies,
        snapshots: SnapshotJobs,
        writer: SnapshotWriter,
        jobs: Jobs,
        registry: Registry,
        grants: Grants,
        clock: Clock,
        settled: SettledCut,
    ) -> None:
        self._store = store
        self._policies = policies
        self._snapshots = snapshots
        self._writer = writer
        self._jobs = jobs
        self._registry = registry
        self._grants = grants
        self._clock = clock
        self._settled = settled
        self._activity = Activity(store)
        self.handlers = {
            "create_snapshot": self.create_snapshot,
            "list_snapshot_jobs": self.list_snapshot_jobs,
            "snapshot_job": self.snapshot_job,
            "delete_snapshot_job": self.delete_snapshot_job,
            "snapshot_history": self.history,
            "snapshot_body": self.body,
            "snapshot_policy": self.policy,
            "put_snapshot_policy": self.put_policy,
            "snapshot_activity": self.activity,
        }

    async def create_snapshot(self, context: RouteContext) -> Response:
        """202 with the job."""
        body = await context.request.body.read(BODY_BYTES_MAX)
        wanted = read_wanted(body) if len(body) < OFF_LOOP_BYTES else await asyncio.to_thread(read_wanted, body)
        view = self._registry.touch(context.namespace, context.credential.scope)
        identity = view.created_at if context.grant is None else context.grant.identity
        caller = Caller(context.namespace, context.credential, context.traceparent, identity)
        try:
            through_ms = self._settled(context.namespace) or self._clock.now_ms()
            job = await self._snapshots.start(caller, wanted, through_ms)
        except RefusedReadError as refusal:
            return relayed_answer(refusal.answered, refusal.answer)
        return json_response(202, job.as_json())

    async def list_snapshot_jobs(self, context: RouteContext) -> Response:
        """Newest first."""
        found = await self._jobs.list_jobs(JobKind.SNAPSHOT, context.namespace, _scope(context))
        return json_response(200, {"snapshot_jobs": [job.as_json() for job in found]})

    async def snapshot_job(self, context: RouteContext) -> Response:
        job_id = context.parameter("job_id")
        job = await self._jobs.get(JobKind.SNAPSHOT, context.namespace, _scope(context), job_id)
        return json_response(200, job.as_json())

    async def delete_snapshot_job(self, context: RouteContext) -> Response:
        """Stops it when it runs; a body that it has kept stays."""
        job_id = context.parameter("job_id")
        await self._jobs.delete(JobKind.SNAPSHOT, context.namespace, _scope(context), job_id)
        return json_response(200, {"status": "OK", "message": f"snapshot job {job_id} was deleted"})

    async def history(self, context: RouteContext) -> Response:
        """Automatic snapshots, newest first, told from their keys."""
        asked = context.query_parameters()
        limit, before, place = _limit(asked.get("limit")), asked.get("before"), _place(context)
        entries = await self._store.newest(place, limit, before=await self._key_before(context, place, before))
        return json_response(200, [{"watermark_ms": each.watermark_ms, "sha": each.short_sha} for each in entries])

    async def _key_before(self, context: RouteContext, place: str, before: str | None) -> str:
        if before is None:
            return ""
        found: Entry | None = None
        point = _POINT.fullmatch(before)
        if point is not None:
            found = await self._store.at(place, int(point[1]), point[2])
        else:
            found = await self._store.find_entry(place, _sha("before", before))
        if found is None:
            raise NotFoundError(f"before: namespace '{context.namespace}' has no snapshot '{before}'")
        return found.key

    async def body(self, context: RouteContext) -> Response:
        """A whole body by its hash or the first seven characters of it."""
        sha = _sha("sha", context.parameter("sha"))
        found = await self._store.find(_place(context), sha)
        if found is None:
            raise NotFoundError(f"namespace '{context.namespace}' has no snapshot '{sha}'")
        # A body may have hundreds of thousands of values.
        return await asyncio.to_thread(lambda: json_response(200, found.as_json(context.namespace)))

    async def policy(self, context: RouteContext) -> Response:
        return json_response(200, (await self._policies.rules(_place(context))).as_json())

    async def put_policy(self, context: RouteContext) -> Response:
        """What the policy leaves out is as the configuration has it."""
        policy = read_policy(await context.request.body.read(POLICY_BYTES_MAX))
        place = _place(context)
        await self._policies.put(place, policy, self._clock.now_ms())
        self._writer.wake(place)
        return json_response(200, self._policies.rules_of(place, policy).as_json())

    async def activity(self, context: RouteContext) -> Response:
        """Snapshots of all namespaces, newest first. A caller who is not trusted names one that it may read."""
        asked = context.query_parameters()
        since = asked.get("since")
        if since is None or not _MOMENT.fullmatch(since):
            raise ValidationError("since: required, epoch milliseconds")
        limit, namespace, cursor = _limit(asked.get("limit")), asked.get("namespace"), read_cursor(asked.get("cursor"))
        places = None
        if namespace is not None or not context.credential.trusted:
            if namespace is None:
                raise ValidationError("namespace: required where the gateway has no key of its own")
            grant = await self._grants.require(namespace, context.credential)
            places = [place_of(namespace, grant is None, None if grant is None else grant.identity)]
        page = await self._activity.page(int(since), limit, places, cursor)
        events = [
            {"ts_ms": each.watermark_ms, "namespace": namespace_in(each.place), "sha": each.short_sha}
            for each in page.entries
        ]
        more = page.cursor is not None
        told: dict[str, object] = {"events": events, "truncated": more}
        return json_response(200, {**told, "next_cursor": page.cursor} if more else told)


def _scope(context: RouteContext) -> str:
    return context.credential.scope.hex()


def _place(context: RouteContext) -> str:
    grant = context.grant
    return place_of(context.namespace, context.credential.trusted, None if grant is None else grant.identity)
