"""POST /v2/namespaces/{ns}/warm and the warm jobs."""

from hevlayer.gateway.jobs import JobKind, JobRecord, Jobs
from hevlayer.gateway.reads import RefusedReadError
from hevlayer.gateway.responses import json_response, relayed_answer
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.warm.pages import read_page_size
from hevlayer.gateway.warm.service import Complete, Started, Warms
from hevlayer.http.messages import Response

ACCEPTED = 202


class WarmRoutes:
    """Warm jobs over HTTP."""

    def __init__(self, warms: Warms, jobs: Jobs) -> None:
        self._warms = warms
        self._jobs = jobs

    async def warm(self, context: RouteContext) -> Response:
        """202 with the job: a new one, the one that runs, or, when every row is cached, one that is completed."""
        page_rows = read_page_size(context.query_parameters().get("page_size"))
        try:
            started = await self._warms.start(
                context.namespace, context.credential, traceparent=context.traceparent, page_rows=page_rows
            )
        except RefusedReadError as refusal:
            return relayed_answer(refusal.answered, refusal.answer)
        match started:
            case Started(job):
                return json_response(ACCEPTED, job.as_json())
            case Complete(through_ms):
                done = await self._jobs.add_completed(
                    JobKind.WARM, context.namespace, _scope(context), stable_as_of_ms=through_ms
                )
                return json_response(ACCEPTED, done.as_json())
        raise AssertionError("a warm without a bound on its rows is started, or is not needed")

    async def list_warm_jobs(self, context: RouteContext) -> Response:
        """Newest first."""
        found = await self._jobs.list_jobs(JobKind.WARM, context.namespace, _scope(context))
        return json_response(200, {"warm_jobs": [job.as_json() for job in found]})

    async def warm_job(self, context: RouteContext) -> Response:
        job = await self._jobs.get(JobKind.WARM, context.namespace, _scope(context), context.parameter("job_id"))
        return json_response(200, job.as_json())

    async def delete_warm_job(self, context: RouteContext) -> Response:
        """Stops it when it runs. Rows that it has put stay."""
        job_id = context.parameter("job_id")
        job: JobRecord = await self._jobs.delete(JobKind.WARM, context.namespace, _scope(context), job_id)
        return json_response(200, {"status": "OK", "message": f"warm job {job.id} was deleted"})


def _scope(context: RouteContext) -> str:
    return context.credential.scope.hex()
