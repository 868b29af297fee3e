"""Deleting: the upstream first, then every step, and nothing forgotten across failures and restarts."""

import asyncio

import orjson
import pytest
from namespace_house import CREATED, context

from hevlayer.errors import GatewayTimeoutError, ServiceUnavailableError, UpstreamError
from hevlayer.gateway.auth import ANONYMOUS
from hevlayer.gateway.consistency import NamespaceView, Outcome
from hevlayer.gateway.namespaces import CleanupStep, Deletion, Exchanged
from hevlayer.gateway.namespaces.delete import Finish, NeverWas, Refused, Unclear, plan_answer, plan_resume
from hevlayer.stores.objects import ObjectStoreError


@pytest.mark.parametrize(
    ("status", "pending", "expected"),
    [
        (200, False, Finish(confirmed_now=True)),
        (202, True, Finish(confirmed_now=True)),
        (404, False, NeverWas()),
        (404, True, Finish(confirmed_now=False)),
        (400, True, Refused()),
        (401, False, Refused()),
        (429, False, Refused()),
        (408, False, Unclear()),
        (500, False, Unclear()),
        (503, True, Unclear()),
    ],
)
def test_what_an_answer_means(status, pending, expected):
    assert plan_answer(status, pending=pending) == expected


NOW = 1_795_205_000_000
LOOP_SECONDS_MAX = 30


@pytest.mark.parametrize(
    ("known", "started", "status", "created", "expected"),
    [
        (CREATED, NOW, 404, None, Finish(confirmed_now=False)),
        (CREATED, NOW, 200, CREATED, Unclear()),
        (CREATED, NOW - 120_000, 200, CREATED, Refused()),
        (CREATED, NOW - 120_000, 200, "2026-11-20T20:00:09Z", Finish(confirmed_now=False)),
        # Not known what was deleted: only a namespace that is younger than the delete is another one.
        (None, NOW, 200, CREATED, Unclear()),
        (None, NOW - 120_000, 200, CREATED, Refused()),
        (None, NOW - 120_000, 200, "2026-11-20T21:00:00Z", Finish(confirmed_now=False)),
        (None, NOW - 120_000, 200, None, Refused()),
        (CREATED, NOW - 120_000, 500, None, Unclear()),
        (CREATED, NOW - 120_000, 403, None, Unclear()),
    ],
)
def test_what_a_later_look_means(known, started, status, created, expected):
    assert plan_resume(Deletion("films", started, known), status, created, NOW) == expected


class Step:
    """A cleanup step that fails as long as it is told to."""

    def __init__(self, name="documents", failure=None, destroys=True):
        self.failure = failure
        self.seen = []
        self.step = CleanupStep(name, self.run, destroys)

    async def run(self, deletion):
        self.seen.append(deletion)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def step(house):
    made = Step()
    house.steps.append(made.step)
    house.restart()
    return made


async def delete(house, namespace="films"):
    response = await house.routes.handlers["delete_namespace"](
        context("DELETE", f"/v2/namespaces/{namespace}", namespace=namespace)
    )
    return response.status, orjson.loads(response.body)


async def test_a_delete_keeps_the_upstreams_answer_and_reports_its_steps(house, step):
    house.upstream.add("films")
    house.registry.touch("films")
    heard = []
    house.registry.on_epoch(lambda namespace, reason: heard.append((namespace, reason)))
    status, body = await delete(house)
    assert status == 200
    assert body == {
        "status": "OK",
        "layer": {
            "cleanup": "done",
            "steps": [
                {"step": "watermark", "status": "done"},
                {"step": "listing", "status": "done"},
                {"step": "documents", "status": "done"},
            ],
        },
    }
    assert "films" not in house.registry
    assert heard == [("films", "deleted")]
    assert await house.ledgers() == []


async def test_the_ledger_is_there_before_the_upstream_is_asked(house, step):
    house.upstream.add("films")
    house.registry.touch("films")
    next(iter(house.registry)).view = NamespaceView(created_at=CREATED)
    seen = []
    call = house.upstream.call

    async def spying(context, **arguments):
        seen.append(orjson.loads(await house.store.get("deletes/films")))
        return await call(context, **arguments)

    house.upstream.call = spying
    await delete(house)
    assert seen == [{"started_at_ms": house.clock.now_ms(), "created_at": CREATED, "deleted": False}]
    assert step.seen == [Deletion("films", house.clock.now_ms(), CREATED, deleted=True)]


async def test_a_write_in_flight_survives_the_delete_in_the_ledger_of_stamps(house):
    house.upstream.add("films")
    ticket = house.stamper.begin("films")
    await delete(house)
    assert house.stamper.floor_ms("films") == ticket.stamp_ms
    ticket.settle(Outcome.OK)


async def test_the_upstreams_404_is_relayed_and_destroys_nothing(house, step):
    status, body = await delete(house, "none")
    assert status == 404
    assert body == {"status": "error", "error": "🤷 namespace 'none' was not found"}
    assert step.seen == []
    assert await house.ledgers() == []


async def test_a_repeated_delete_is_a_404_once_all_is_done(house, step):
    house.upstream.add("films")
    assert (await delete(house))[0] == 200
    assert (await delete(house))[0] == 404
    assert len(step.seen) == 1


async def test_a_failed_step_does_not_fail_the_delete_and_is_finished_by_the_next(house, step):
    house.upstream.add("films")
    step.failure = ServiceUnavailableError("the store is away")
    status, body = await delete(house)
    assert status == 200
    assert body["layer"]["cleanup"] == "pending"
    assert body["layer"]["steps"][2] == {"step": "documents", "status": "failed", "error": "the store is away"}
    assert await house.ledgers() == ["deletes/films"]
    step.failure = None
    status, body = await delete(house)
    assert (status, body["status"], body["layer"]["cleanup"]) == (200, "OK", "done")
    assert await house.ledgers() == []
    assert (await delete(house))[0] == 404


async def test_a_step_that_breaks_unexpectedly_keeps_its_secrets(house, step):
    house.upstream.add("films")
    step.failure = ValueError("password=hunter2")
    _, body = await delete(house)
    assert body["layer"]["steps"][2]["error"] == "failed unexpectedly"


async def test_the_loop_finishes_what_a_crash_left(house, step):
    house.upstream.add("films")
    step.failure = ServiceUnavailableError("the store is away")
    await delete(house)
    step.failure = None
    house.restart()
    assert await house.routes.deletes.resume() == 0
    assert [deletion.deleted for deletion in step.seen] == [True, True]
    assert await house.ledgers() == []


@pytest.mark.parametrize(
    "failure", [GatewayTimeoutError("the upstream did not answer in time"), UpstreamError("reset")]
)
async def test_a_lost_answer_is_looked_into(house, step, failure):
    house.upstream.add("films")
    house.upstream.next_answers = [failure]
    with pytest.raises(UpstreamError):
        await delete(house)
    assert await house.ledgers() == ["deletes/films"]
    # It is still there: the delete may yet take effect.
    assert await house.routes.deletes.resume() == 1
    assert step.seen == []
    del house.upstream.namespaces["films"]
    assert await house.routes.deletes.resume() == 0
    assert len(step.seen) == 1
    assert await house.ledgers() == []


async def test_a_delete_that_never_happened_is_given_up_and_destroys_nothing(house, step):
    house.upstream.add("films")
    house.upstream.next_answers = [Exchanged(500, [], b'{"status":"error","error":"oops"}')]
    status, body = await delete(house)
    assert (status, body) == (500, {"status": "error", "error": "oops"})
    house.clock.move(121)
    assert await house.routes.deletes.resume() == 0
    assert step.seen == []
    assert await house.ledgers() == []


async def test_without_a_key_the_look_waits_for_one(house, step):
    house.upstream.add("films")
    house.upstream.next_answers = [UpstreamError("reset")]
    with pytest.raises(UpstreamError):
        await delete(house)
    del house.upstream.namespaces["films"]
    house.keys.key = None
    assert await house.routes.deletes.resume() == 1
    house.keys.key = b"key"
    assert await house.routes.deletes.resume() == 0


@pytest.mark.parametrize("refusal", [401, 403, 429])
async def test_a_refused_delete_leaves_nothing(house, step, refusal):
    house.upstream.add("films")
    house.upstream.next_answers = [Exchanged(refusal, [], b'{"status":"error","error":"no"}')]
    assert (await delete(house))[0] == refusal
    assert await house.ledgers() == []
    assert step.seen == []


async def test_a_refusal_does_not_forget_an_earlier_delete(house, step):
    house.upstream.add("films")
    step.failure = ServiceUnavailableError("the store is away")
    await delete(house)
    house.upstream.next_answers = [Exchanged(403, [], b"{}")]
    assert (await delete(house))[0] == 403
    assert await house.ledgers() == ["deletes/films"]


async def test_an_unreachable_upstream_leaves_no_ledger(house):
    house.upstream.next_answers = [UpstreamError("the upstream cannot be reached", outcome_known=True)]
    with pytest.raises(UpstreamError):
        await delete(house)
    assert await house.ledgers() == []


async def test_a_delete_that_cannot_be_remembered_is_not_begun(house, tmp_path):
    house.upstream.add("films")

    async def broken(key, body):
        raise ObjectStoreError("the object store failed: no space left")

    house.store.put_if_absent = broken
    with pytest.raises(ObjectStoreError):
        await delete(house)
    assert house.upstream.calls == []


async def test_a_caller_without_a_key_costs_no_ledger(house):
    house.upstream.next_answers = [Exchanged(401, [], b"{}")]

    async def broken(key, body):
        raise AssertionError("nothing may be written")

    house.store.put_if_absent = broken
    asked = context("DELETE", "/v2/namespaces/films", namespace="films")
    asked.credential = ANONYMOUS
    assert (await house.routes.handlers["delete_namespace"](asked)).status == 401


async def test_a_name_that_is_too_long_for_any_namespace_is_the_upstreams_to_refuse(house):
    refusal = b"Invalid URL: Namespace `aa` is too long, limit is currently 128 characters"
    house.upstream.next_answers = [Exchanged(400, [(b"content-type", b"text/plain")], refusal)]
    for name in ("a" * 600, "é" * 128):
        answer = await house.routes.handlers["delete_namespace"](context("DELETE", namespace=name))
        assert answer.status in (400, 404)
    assert await house.ledgers() == []


async def test_two_deletes_at_once_both_end_well(house, step):
    house.upstream.add("films")
    answers = await asyncio.gather(delete(house), delete(house))
    statuses = sorted(status for status, _ in answers)
    # The later one may come while the cleanup is under way, and then shares its success, or after it.
    assert statuses in ([200, 200], [200, 404])
    assert await house.ledgers() == []


@pytest.mark.parametrize("name", [".", "..", "a b/ü"])
async def test_any_name_can_be_deleted_and_resumed(house, step, name):
    house.upstream.add(name)
    step.failure = ServiceUnavailableError("the store is away")
    assert (await house.routes.handlers["delete_namespace"](context("DELETE", namespace=name))).status == 200
    step.failure = None
    assert len(await house.ledgers()) == 1
    assert await house.routes.deletes.resume() == 0
    assert await house.ledgers() == []


async def test_the_loop_looks_at_start_and_rests_when_nothing_is_left(house, step):
    house.upstream.add("films")
    step.failure = ServiceUnavailableError("the store is away")
    await delete(house)
    step.failure = None
    house.restart()
    loop = asyncio.create_task(house.routes.deletes.run())
    async with asyncio.timeout(LOOP_SECONDS_MAX):
        while await house.ledgers():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    assert len(step.seen) == 2
