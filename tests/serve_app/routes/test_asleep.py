"""A model without replicas that is scaled by the plan: a request that names it wakes it and waits."""

import asyncio
from dataclasses import replace

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {"target_ttft_s": 1.0, "idle_s": 60.0}


async def planned(pool, name, running=0):
    """What Serve is told to have of a model."""
    return await pool.table.replicas_wanted(f"model-{name}", SETTINGS, running, 0, 2)


async def asleep(pool, name):
    """A model that has served, sleeps now, and is known to the ingress as such."""
    row = next(iter(pool.ingress.view.snapshot.models.values()))
    assert await planned(pool, name) == 1, "not known yet: loaded once"
    await pool.table.register_model(replace(row.card, model=name))
    while not getattr(pool.ingress.view.snapshot.models.get(name), "ready_in_s", 0.0):
        await planned(pool, name)
        await asyncio.sleep(0.02)
    await pool.ingress.view.outbox.flush()


async def test_a_request_wakes_the_model_and_waits_for_it(pool):
    await pool.add("warm")
    await asleep(pool, "dozing")
    assert (await pool.client.get("/ready")).status_code == 200
    assert (await pool.chat("auto")).headers["x-fastserve-model"] == "warm"
    asking = asyncio.ensure_future(pool.chat("dozing"))
    while "dozing" not in pool.ingress.dispatcher.planner.totals:
        await asyncio.sleep(0.01)
    await pool.ingress.view.outbox.flush()
    assert await planned(pool, "dozing") == 1
    assert not asking.done()
    await pool.add("dozing")
    answer = await asking
    assert (answer.status_code, answer.headers["x-fastserve-model"]) == (200, "dozing")


async def test_where_it_would_take_too_long_the_caller_is_told_when_to_come_back(pool):
    await asleep(pool, "slow")
    pool.table._demand._models["model-slow"].plan.load_s = 500.0
    while pool.ingress.view.snapshot.models["slow"].ready_in_s < 400.0:
        await planned(pool, "slow")
        await asyncio.sleep(0.02)
    for path, body in (
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
        ("/tokenize", {"prompt": "Hello"}),
    ):
        before = pool.ingress.dispatcher.planner.totals.get("slow")
        answer = await pool.client.post(path, json={"model": "slow", **body})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_asleep")
        assert 400 < int(answer.headers["retry-after"]) <= 500
        assert pool.ingress.dispatcher.planner.totals["slow"] != before, "it wakes all the same"
    await pool.ingress.view.outbox.flush()
    assert await planned(pool, "slow") == 1
