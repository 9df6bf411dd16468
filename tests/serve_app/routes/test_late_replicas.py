"""A replica that gives no token, through the whole endpoint: another one answers, the caller pays once."""

import asyncio
import json

import pytest
import pytest_asyncio

from deployments import sse

pytestmark = pytest.mark.asyncio(loop_scope="module")
PRICE = {"prompt_usd_per_mtok": 1.0, "completion_usd_per_mtok": 2.0}


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def twins(pool):
    """Two replicas of one model, of which the first one's engine stands still."""
    if not pool.models:
        for replica in ("twin-a", "twin-b"):
            await pool.add("twin", replica, price=PRICE)
    for model in pool.models:
        await model.switch(stalled=model.replica == "twin-a")
        pool.ingress.ejections.succeeded(model.replica)
    budget = pool.ingress.forwarder.budget
    budget._retries, budget._hedges, budget._requests = [0] * 10, [0] * 10, [0] * 10
    pool.ingress.reconfigure({"retries": {"floor": 100}})


async def until(condition):
    async with asyncio.timeout(60.0):
        while not condition():
            await asyncio.sleep(0.01)


async def outcome(pool, answer):
    await pool.ingress.view.outbox.flush()
    decision_id = answer.headers["x-fastserve-decision-id"]
    log = await pool.table.transitions(0.0, 10_000)
    return next(o for d, o in log if d.decision_id == decision_id)


async def hedged(pool, **body):
    """An answer to a request that went to the one that stands still, its outcome, what its key paid for."""
    meter = pool.ingress.metrics.meter
    for turn in range(200):
        before = [meter.value("fastserve_key_tokens", "environment", kind) for kind in ("input", "output")]
        answer = await pool.chat("twin", f"Number {turn}", **body)
        assert answer.status_code == 200, answer.text
        after = [meter.value("fastserve_key_tokens", "environment", kind) for kind in ("input", "output")]
        record = await outcome(pool, answer)
        if record.outcome.hedges:
            return answer, record, tuple(b - a for a, b in zip(before, after, strict=True))
        assert record.replica == "twin-b"
    raise AssertionError("No request went to the replica that stands still.")


def is_idle(pool):
    """Whether every slot was given back, in the ingress and in the replicas."""
    queue = pool.ingress.forwarder.room._queues["twin"]
    engines = [model._admission.ongoing for model in pool.models]
    return (queue.held, queue.waiting, engines, pool.ingress.view.own_in_flight()) == (0, 0, [0, 0], {})


@pytest.mark.parametrize("stream", [True, False])
async def test_another_replica_answers_and_the_caller_pays_once(pool, stream):
    options = {"stream_options": {"include_usage": True}} if stream else {}
    answer, record, paid = await hedged(pool, stream=stream, **options)
    if stream:
        events = [event.data for event in sse.parse(answer.content)]
        assert events.count(sse.DONE) == 1
        usage = json.loads(events[-2])["usage"]
    else:
        usage = answer.json()["usage"]
    said = record.outcome
    assert paid == (usage["prompt_tokens"], usage["completion_tokens"])
    assert (said.prompt_tokens, said.output_tokens) == paid
    assert said.cost_usd == pytest.approx((paid[0] + 2 * paid[1]) / 1e6)
    assert (record.replica, said.status, said.attempts, record.fallbacks) == ("twin-b", "ok", 1, ())
    assert said.hedged_tokens > 0
    await until(lambda: is_idle(pool))


async def test_a_client_that_leaves_stops_both_engines(pool):
    for model in pool.models:
        await model.switch(stalled=True)
    asking = asyncio.create_task(pool.chat("twin", stream=True))
    await until(lambda: [model._admission.ongoing for model in pool.models] == [1, 1])
    asking.cancel()
    await until(lambda: is_idle(pool))
    assert pool.ingress.metrics.meter.value("fastserve_hedges", "twin", "left") == 1


async def test_switched_off_the_late_one_is_waited_for(pool):
    pool.ingress.reconfigure({"retries": {"hedging": False}, "deadlines": {"first_byte_s": 0.5}})
    for turn in range(200):
        answer = await pool.chat("twin", f"Again {turn}", stream=True)
        record = await outcome(pool, answer)
        assert (answer.status_code, record.outcome.hedges, record.replica) == (200, 0, "twin-b")
        if record.outcome.attempts == 2:
            return
    raise AssertionError("No request went to the replica that stands still.")
