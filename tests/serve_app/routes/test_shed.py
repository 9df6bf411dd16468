"""Requests that are refused for load: the log keeps them while a canary compares slices of time."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
import pytest_asyncio

from policies.promotion.rollout import Candidate, RolloutState, Stage, Step
from tests.serve_app.routes.holding import slots_held

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = {"decode_step_s": 0.01, "max_sequences": 2, "mean_output_tokens": 1000}
CANARY = Candidate(7, Stage.CANARY, share=0.5, steps=(Step(0.0, 0.5),))


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def narrow(pool):
    """One model of two slots, for which two more requests may wait; no candidate."""
    if not pool.models:
        await pool.add("narrow", simulated=SLOW)
    pool.ingress.reconfigure({"dispatch": {"limits": {"in_flight_per_slot": 2.0}}})
    await rollout(pool, None)


async def rollout(pool, candidate):
    """The ingress knows of the candidate, or that there is none."""
    state = await pool.table.rollout()
    await pool.table.set_rollout(replace(RolloutState(candidate=candidate), revision=state.revision))
    while pool.ingress.view.snapshot.rollout.candidate != candidate:
        await asyncio.sleep(0.01)


async def log_of(pool, asking):
    """What the log keeps of the requests that `asking` makes, with their answers."""
    await pool.ingress.view.outbox.flush()
    before = len(await pool.table.transitions(0.0, 10_000))
    answers = await asking
    await pool.ingress.view.outbox.flush()
    return answers, (await pool.table.transitions(0.0, 10_000))[before:]


async def eight(pool, model="auto"):
    """Four more than there is room for."""
    async with slots_held(pool):
        asked = [asyncio.create_task(pool.chat(model, max_tokens=20, ignore_eos=True)) for _ in range(8)]
        while sum(one.done() for one in asked) < 4:
            await asyncio.sleep(0.005)
    return await asyncio.gather(*asked)


async def test_the_queue_is_full(pool):
    await rollout(pool, CANARY)
    answers, kept = await log_of(pool, eight(pool))
    assert Counter(answer.status_code for answer in answers) == {200: 4, 429: 4}
    shed = [(decision, end) for decision, end in kept if end is not None and end.outcome.is_shed]
    assert (len(shed), len(kept)) == (4, 8)
    for decision, end in shed:
        assert (end.outcome.status, end.outcome.error_code) == ("rejected", "overloaded")
        assert (decision.model, decision.is_dispatched) == ("narrow", True)
        assert decision.charged_version in (0, 7)
        assert end.accounts == ()


async def test_without_a_canary_nobody_reads_it(pool):
    _, kept = await log_of(pool, eight(pool))
    assert len(kept) == 4


async def test_a_model_that_is_named_is_no_choice_of_a_policy(pool):
    await rollout(pool, CANARY)
    _, kept = await log_of(pool, eight(pool, "narrow"))
    assert len(kept) == 4


async def test_the_deadline_passes_while_it_waits(pool):
    await rollout(pool, CANARY)
    async with slots_held(pool):
        held = [asyncio.create_task(pool.chat(max_tokens=20, ignore_eos=True)) for _ in range(2)]
        while pool.models[0]._admission.ongoing < 2:
            await asyncio.sleep(0.002)
        for queue in pool.ingress.forwarder.room._queues.values():
            queue._service_s = 0.0  # nothing is known yet of how long one takes
        answer = await pool.chat(fastserve={"deadline_s": 0.2})
    assert answer.status_code == 504
    await asyncio.gather(*held)
    await pool.ingress.view.outbox.flush()
    found = await pool.table.transitions_of([answer.headers["x-fastserve-decision-id"]])
    assert found[0][1].outcome.is_shed


async def test_no_model_is_there(pool, monkeypatch):
    await rollout(pool, CANARY)
    monkeypatch.setattr(pool.ingress.forwarder, "may_come_back", lambda _: False)
    avoided = frozenset({pool.models[0].replica})
    monkeypatch.setattr(pool.ingress.dispatcher._observer, "_ejected", lambda: avoided)
    answer, kept = await log_of(pool, pool.chat())
    assert answer.status_code == 503
    ((decision, end),) = kept
    assert (decision.model, decision.policy) == ("narrow", "none")
    assert end.outcome.is_shed


@pytest.mark.parametrize(
    ("body", "status"),
    [({"max_tokens": -1}, 400), ({"fastserve": {"models": ["other"]}}, 404)],
)
async def test_what_is_the_callers_own_doing_does_not_count(pool, body, status):
    await rollout(pool, CANARY)
    answer, kept = await log_of(pool, pool.chat(**body))
    assert answer.status_code == status
    assert kept == []


async def test_a_key_over_its_limit_does_not_count(pool, monkeypatch):
    await rollout(pool, CANARY)
    key = pool.ingress.endpoint.keys.keys[0]
    limited = replace(key, limits=key.limits.model_copy(update={"tokens_per_min": 1}))
    monkeypatch.setattr(pool.ingress.endpoint, "authorize", lambda *_: limited)

    async def two():
        return [await pool.chat(max_tokens=2) for _ in range(2)]

    answers, kept = await log_of(pool, two())
    assert [answer.status_code for answer in answers] == [200, 429]
    assert len(kept) == 1
