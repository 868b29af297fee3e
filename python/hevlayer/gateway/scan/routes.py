"""POST …/scans, the scan jobs and their results, and POST …/result-count."""

import asyncio
import re
from collections.abc import Awaitable
from typing import TypeVar

from hevlayer.errors import BadRequestError, ConflictError, ValidationError
from hevlayer.gateway.jobs import JobKind, Jobs, JobStatus
from hevlayer.gateway.reads import RefusedReadError
from hevlayer.gateway.responses import json_response, relayed_answer
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.scan.request import Mode, decode_result_count, decode_scan
from hevlayer.gateway.scan.results import Results
from hevlayer.gateway.scan.service import Caller, Scans
from hevlayer.gateway.scanning import OFF_LOOP_BYTES
from hevlayer.http.messages import Request, Response

T = TypeVar("T")

ACCEPTED = 202
BODY_BYTES_MAX = 16 * 1024 * 1024
RESULTS_DEFAULT = 1_000
RESULTS_MAX = 10_000
OFFSET_MAX = 1_000_000_000_000
_DIGITS = re.compile(r"[0-9]{1,13}")


def read_slice(query: dict[str, str]) -> tuple[int, int]:
    """Offset and limit. Raises: ValidationError: names the parameter and its rule."""
    limit = _number(query.get("limit", str(RESULTS_DEFAULT)))
    if limit is None or not 1 <= limit <= RESULTS_MAX:
        raise ValidationError(f"limit must be an integer in 1..{RESULTS_MAX}")
    offset = _number(query.get("offset", "0"))
    if offset is None or offset > OFFSET_MAX:
        raise ValidationError(f"offset must be an integer in 0..{OFFSET_MAX}")
    return offset, limit


def _number(text: str) -> int | None:
    return int(text) if _DIGITS.fullmatch(text) else None


class ScanRoutes:
    """Scans over HTTP. Access to the namespace is proved before they run."""

    def __init__(self, scans: Scans, jobs: Jobs, results: Results) -> None:
        self._scans = scans
        self._jobs = jobs
        self._results = results

    async def create_scan(self, context: RouteContext) -> Response:
        """A count at once, or 202 with a job."""
        body = await context.request.body.read(BODY_BYTES_MAX)
        request = decode_scan(body) if len(body) < OFF_LOOP_BYTES else await asyncio.to_thread(decode_scan, body)
        caller = _caller(context)
        try:
            if request.mode is Mode.COUNT:
                return json_response(200, await _while_awaited(context.request, self._scans.count(caller, request)))
            job = await self._scans.start(caller, request)
        except RefusedReadError as refusal:
            return relayed_answer(refusal.answered, refusal.answer)
        return json_response(ACCEPTED, job.as_json())

    async def list_scans(self, context: RouteContext) -> Response:
        """Newest first."""
        caller = _caller(context)
        found = await self._jobs.list_jobs(JobKind.SCAN, caller.namespace, caller.scope)
        return json_response(200, {"scans": [job.as_json() for job in found]})

    async def scan(self, context: RouteContext) -> Response:
        caller = _caller(context)
        job = await self._jobs.get(JobKind.SCAN, caller.namespace, caller.scope, context.parameter("job_id"))
        return json_response(200, job.as_json())

    async def scan_results(self, context: RouteContext) -> Response:
        """A slice of a completed scan's ids or values; 409 before it is completed."""
        offset, limit = read_slice(context.query_parameters())
        caller = _caller(context)
        job = await self._jobs.get(JobKind.SCAN, caller.namespace, caller.scope, context.parameter("job_id"))
        if job.status is JobStatus.RUNNING:
            raise ConflictError(f"scan '{job.id}' is still running; its results come when it is completed")
        if job.status is JobStatus.FAILED:
            raise ConflictError(f"scan '{job.id}' has failed and has no results: {job.error}")
        return json_response(200, await self._results.read(job, offset, limit))

    async def delete_scan(self, context: RouteContext) -> Response:
        """Stops it when it runs, and removes its results."""
        caller = _caller(context)
        job = await self._jobs.delete(JobKind.SCAN, caller.namespace, caller.scope, context.parameter("job_id"))
        return json_response(200, {"status": "OK", "message": f"scan {job.id} was deleted"})

    async def result_count(self, context: RouteContext) -> Response:
        """How many rows match a ranked query."""
        body = await context.request.body.read(BODY_BYTES_MAX)
        decode = decode_result_count
        request = decode(body) if len(body) < OFF_LOOP_BYTES else await asyncio.to_thread(decode, body)
        try:
            work = self._scans.result_count(_caller(context), request)
            return json_response(200, await _while_awaited(context.request, work))
        except RefusedReadError as refusal:
            return relayed_answer(refusal.answered, refusal.answer)


async def _while_awaited(request: Request, work: Awaitable[T]) -> T:
    """Work for one client alone: it ends when the client goes away. Raises: BadRequestError: it did."""
    request.cancel_on_disconnect()
    try:
        return await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not request.disconnected:
            raise
        # For the request's end, which is measured and logged as every other.
        task.uncancel()
        raise BadRequestError("the client went away before its answer was there") from None
    finally:
        request.cancel_on_disconnect(False)


def _caller(context: RouteContext) -> Caller:
    identity = context.grant.identity if context.grant is not None else None
    return Caller(context.namespace, context.credential, context.traceparent, identity)
