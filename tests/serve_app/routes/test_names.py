"""Several names for one model, and the chain behind a named one: over HTTP, on simulated replicas."""

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def chained(pool):
    """`first` (also `nick`) falls over to `second` and then to `third`; `alone` to nobody."""
    if not pool.models:
        await pool.add("first", aliases=["nick", "org/nick"], fallback=["second"], price=PRICE)
        await pool.add("second", fallback=["third"], capabilities=["chat", "json"], weight=0.0)
        await pool.add("third", weight=0.0)
        await pool.add("alone", weight=0.0)
    for model in pool.models:
        await model.switch()
        pool.ingress.ejections.succeeded(model.replica)
    budget = pool.ingress.forwarder.budget
    budget._retries, budget._requests = [0] * 10, [0] * 10
    pool.ingress.reconfigure({"dispatch": {"epsilon": 0.0}})


PRICE = {"prompt_usd_per_mtok": 1.0, "completion_usd_per_mtok": 1.0}


async def outcome(pool, answer):
    await pool.ingress.view.outbox.flush()
    log = await pool.table.transitions(0.0, 10_000)
    return next((d, o) for d, o in log if d.decision_id == answer.headers["x-fastserve-decision-id"])


async def test_an_alias_is_the_model_itself(pool):
    answer = await pool.chat("org/nick")
    assert (answer.status_code, answer.json()["model"]) == (200, "first")
    decision, done = await outcome(pool, answer)
    assert (decision.requested, done.model) == ("first", "first")
    assert done.outcome.cost_usd > 0.0
    assert "x-fastserve-fallbacks" not in answer.headers
    only = await pool.chat("auto", fastserve={"models": ["nick"]})
    assert only.json()["model"] == "first"


async def test_the_listing_has_aliases_and_finds_them(pool):
    listed = {one["id"]: one for one in (await pool.client.get("/v1/models")).json()["data"]}
    assert listed["first"]["aliases"] == ["nick", "org/nick"]
    assert listed["first"]["fallback"] == ["second"]
    assert listed["nick"]["alias_of"] == "first"
    one = (await pool.client.get("/v1/models/org/nick")).json()
    assert (one["id"], one["alias_of"]) == ("org/nick", "first")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_named_model_that_fails_falls_over_to_its_chain_and_says_so(pool, stream):
    await pool.models[0].switch(error_rate=1.0)
    answer = await pool.chat("nick", stream=stream)
    assert answer.status_code == 200
    assert answer.headers["x-fastserve-model"] == "second"
    assert answer.headers["x-fastserve-fallbacks"] == "first"
    _, done = await outcome(pool, answer)
    assert done.outcome.cost_usd == 0.0  # the price of the model that answered


async def test_the_chain_of_a_substitute_follows(pool):
    for model in pool.models[:2]:
        await model.switch(error_rate=1.0)
    answer = await pool.chat("first")
    assert answer.headers["x-fastserve-model"] == "third"
    assert answer.headers["x-fastserve-fallbacks"] == "first,second"


async def test_a_model_that_is_ejected_is_passed_over_before_any_try(pool):
    await pool.models[0].switch(error_rate=1.0)
    for _ in range(6):
        answer = await pool.chat("first")
        assert answer.headers["x-fastserve-fallbacks"] == "first"
    decision, done = await outcome(pool, answer)
    assert (decision.requested, decision.model, done.outcome.attempts) == ("first", "second", 1)


async def test_a_prompt_too_long_and_a_capability_that_lacks_go_down_the_chain(pool):
    answer = await pool.chat("first", response_format={"type": "json_object"})
    assert answer.headers["x-fastserve-model"] == "second"
    assert answer.headers["x-fastserve-fallbacks"] == "first"


async def test_a_model_without_a_chain_stays_alone(pool):
    await pool.models[3].switch(error_rate=1.0)
    answer = await pool.chat("alone")
    assert answer.status_code == 503


async def test_auto_knows_no_chain(pool):
    await pool.models[0].switch(error_rate=1.0)
    await pool.models[1].switch(error_rate=1.0)
    assert (await pool.chat("auto")).status_code == 503  # the others have weight 0
