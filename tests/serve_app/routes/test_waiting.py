"""Requests for a model whose slots are taken, through the whole endpoint."""

import asyncio
from collections import Counter

import pytest
import pytest_asyncio

from tests.serve_app.routes.holding import slots_held

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = {"decode_step_s": 0.01, "max_sequences": 2, "mean_output_tokens": 1000}


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def narrow(pool):
    """One model of two slots, for which six more requests may wait."""
    if not pool.models:
        await pool.add("narrow", simulated=SLOW)
    pool.ingress.reconfigure({"dispatch": {"limits": {"in_flight_per_slot": 4.0}}})


async def waiting(pool, requests):
    """Until so many wait."""
    while pool.ingress.forwarder.room.backlog("narrow") < requests:
        await asyncio.sleep(0.005)


async def ask(pool, **body):
    return await pool.chat("narrow", max_tokens=20, ignore_eos=True, **body)


async def test_who_finds_a_slot_free_does_not_wait(pool):
    answers = await asyncio.gather(ask(pool), ask(pool))
    assert {answer.status_code for answer in answers} == {200}
    assert not any("x-fastserve-queue-ms" in answer.headers for answer in answers)


@pytest.mark.parametrize("stream", [False, True])
async def test_others_wait_in_the_ingress_and_say_so(pool, stream):
    async with slots_held(pool):
        answers = [asyncio.create_task(ask(pool, stream=stream)) for _ in range(6)]
        await waiting(pool, 4)
        assert pool.ingress.view.in_flight("narrow") == 6  # dispatch sees those that wait
        assert pool.models[0]._admission.ongoing <= 2  # the engine does not
    done = await asyncio.gather(*answers)
    assert {answer.status_code for answer in done} == {200}
    assert sum("x-fastserve-queue-ms" in answer.headers for answer in done) == 4
    assert pool.ingress.view.own_in_flight() == {}


async def test_beyond_the_places_it_is_429_with_retry_after_and_no_decision(pool):
    await pool.ingress.view.outbox.flush()
    before = len(await pool.table.transitions(0.0, 10_000))
    async with slots_held(pool):
        asked = [asyncio.create_task(ask(pool)) for _ in range(12)]
        while sum(one.done() for one in asked) < 4:
            await asyncio.sleep(0.005)
    done = await asyncio.gather(*asked)
    assert Counter(answer.status_code for answer in done) == {200: 8, 429: 4}
    refused = next(answer for answer in done if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1
    await pool.ingress.view.outbox.flush()
    assert len(await pool.table.transitions(0.0, 10_000)) == before + 8


async def test_auto_waits_too(pool):
    done = await asyncio.gather(*(pool.chat("auto", max_tokens=20, ignore_eos=True) for _ in range(6)))
    assert {answer.status_code for answer in done} == {200}


async def test_batch_requests_say_that_they_are_and_come_last(pool):
    async with slots_held(pool):
        first = [asyncio.create_task(ask(pool)) for _ in range(2)]
        while pool.models[0]._admission.ongoing < 2:
            await asyncio.sleep(0.002)
        batch = asyncio.create_task(ask(pool, fastserve={"priority": "batch"}))
        await waiting(pool, 1)
        later = [asyncio.create_task(ask(pool)) for _ in range(3)]
        await waiting(pool, 4)
    await asyncio.gather(*first, *later)
    answer = await batch
    assert answer.headers["x-fastserve-priority"] == "batch"
    waited = [int(one.result().headers.get("x-fastserve-queue-ms", 0)) for one in later]
    assert int(answer.headers["x-fastserve-queue-ms"]) >= max(waited)


async def test_a_deadline_that_comes_while_it_waits_is_504(pool):
    async with slots_held(pool):
        held = [asyncio.create_task(ask(pool)) for _ in range(2)]
        while pool.models[0]._admission.ongoing < 2:
            await asyncio.sleep(0.002)
        for queue in pool.ingress.forwarder.room._queues.values():
            queue._service_s = 0.0  # nothing is known yet of how long one takes
        answer = await ask(pool, fastserve={"deadline_s": 0.2})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    await asyncio.gather(*held)
    assert pool.ingress.view.own_in_flight() == {}


async def test_a_client_that_leaves_the_queue_leaves_nothing_behind(pool):
    async with slots_held(pool):
        tasks = [asyncio.create_task(ask(pool)) for _ in range(6)]
        await waiting(pool, 4)
        for task in tasks:
            task.cancel()
        while pool.ingress.view.own_in_flight():
            await asyncio.sleep(0.01)
    queue = pool.ingress.forwarder.room._queues["narrow"]
    assert (queue.held, queue.waiting) == (0, 0)


async def test_a_full_ingress_still_takes_a_key_with_less_than_its_part(pool):
    endpoint = pool.ingress.endpoint
    endpoint.active, endpoint._max_in_flight = 10, 10
    endpoint._active.update({"other": 10})
    try:
        assert (await ask(pool)).status_code == 200
        endpoint._active["other"] = 5
        mine = endpoint.keys.keys[0].key_id
        endpoint._active[mine] = 5
        refused = await ask(pool)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
    finally:
        endpoint.active, endpoint._max_in_flight = 0, 2048
        endpoint._active.clear()
