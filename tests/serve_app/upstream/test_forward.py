"""Tries, deadlines and fallback over simulated replicas that fail in every way they can."""

import asyncio
import json
import socket

import pytest
import pytest_asyncio

from deployments import sse
from deployments.dispatch.lengths import Lengths

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def outcome(pool, answer):
    await pool.ingress.view.outbox.flush()
    decision_id = answer.headers["x-fastserve-decision-id"]
    log = await pool.table.transitions(0.0, 10_000)
    return next(o for d, o in log if d.decision_id == decision_id)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def healthy(pool):
    """Two replicas of `best`, one of `next`; no faults, nobody ejected."""
    if not pool.models:
        await pool.add("best", "best-a", accuracy_prior=1.0)
        await pool.add("best", "best-b", accuracy_prior=1.0)
        await pool.add("next", "next-a", accuracy_prior=0.1)
    for model in pool.models:
        await model.switch()
        pool.ingress.ejections.succeeded(model.replica)
    pool.ingress.forwarder.budget._retries, pool.ingress.forwarder.budget._requests = [0] * 10, [0] * 10
    pool.ingress.reconfigure({"dispatch": {"epsilon": 0.0, "weights": {"accuracy": 9, "latency": 0}}})


async def test_a_named_model_moves_to_its_other_replica(pool):
    await pool.models[0].switch(error_rate=1.0)
    answers = [await pool.chat("best") for _ in range(6)]
    assert {a.status_code for a in answers} == {200}
    outcomes = [await outcome(pool, a) for a in answers]
    assert {o.replica for o in outcomes} == {"best-b"}
    assert max(o.outcome.attempts for o in outcomes) == 2


async def test_a_named_model_never_becomes_another_one(pool):
    for model in pool.models[:2]:
        await model.switch(error_rate=1.0)
    answer = await pool.chat("best")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "upstream_failed"
    kept = await outcome(pool, answer)
    assert (kept.outcome.status, kept.outcome.attempts) == ("failed", 2)


async def test_auto_goes_to_the_next_best_and_says_so(pool):
    for model in pool.models[:2]:
        await model.switch(error_rate=1.0)
    for stream in (False, True):
        answer = await pool.chat("auto", stream=stream)
        assert answer.status_code == 200
        assert answer.headers["x-fastserve-model"] == "next"
        assert answer.headers["x-fastserve-fallbacks"] == "best"
        kept = await outcome(pool, answer)
        assert (kept.model, kept.fallbacks, kept.outcome.status) == ("next", ("best",), "ok")


async def test_a_hanging_try_ends_at_its_limit_and_auto_goes_on(pool):
    for model in pool.models[:2]:
        await model.switch(hang_rate=1.0)
    limits = {"deadlines": {"first_byte_s": 1.5, "try_s": 1.5}}
    pool.ingress.reconfigure({"dispatch": {"epsilon": 0.0, "weights": {"accuracy": 9}}, **limits})
    for stream in (False, True):
        answer = await asyncio.wait_for(pool.chat("auto", stream=stream), 25.0)
        assert answer.headers["x-fastserve-model"] == "next"


async def test_the_caller_s_deadline_ends_everything(pool):
    for model in pool.models:
        await model.switch(hang_rate=1.0)
    answer = await asyncio.wait_for(pool.chat("auto", fastserve={"deadline_s": 0.4}), 25.0)
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert answer.headers["x-should-retry"] == "false"


async def test_a_stream_that_breaks_tells_so_and_is_the_model_s_failure(pool):
    for model in pool.models:
        await model.switch(die_at_token=1)
    answer = await pool.chat("auto", stream=True, max_tokens=50)
    events = [event.data for event in sse.parse(answer.content)]
    assert answer.status_code == 200
    assert events[-1] == sse.DONE
    assert json.loads(events[-2])["error"]["code"] == "upstream_interrupted"
    for event in events[:-2]:
        json.loads(event)
    kept = await outcome(pool, answer)
    assert kept.outcome.status == "failed"
    assert kept.outcome.error_code.startswith("upstream_interrupted")


async def test_a_plain_answer_that_breaks_is_tried_elsewhere(pool):
    for model in pool.models[:2]:
        await model.switch(die_at_token=1)
    answer = await pool.chat("auto", max_tokens=50)
    assert answer.status_code == 200
    assert answer.headers["x-fastserve-model"] == "next"


async def test_a_4xx_of_the_engine_is_never_retried(pool):
    answer = await pool.chat("best", "word " * 1500, max_tokens=200)
    assert answer.status_code == 400
    kept = await outcome(pool, answer)
    assert (kept.outcome.status, kept.outcome.attempts) == ("rejected", 1)
    assert pool.ingress.ejections.current() == frozenset()


async def test_a_prompt_too_long_for_every_model_is_a_400_in_the_words_clients_look_for(pool):
    for text in ("0123456789abcdef" * 600, "hello there my friend " * 4_000):
        for model in ("auto", "best"):
            answer = await pool.chat(model, text)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (400, "context_length_exceeded"), error
            assert "maximum context length" in error["message"]


async def test_a_prompt_too_long_for_one_model_goes_to_one_with_a_longer_context(pool):
    pool.ingress.forwarder.budget._retries = [10**6] * 10  # which costs no budget
    pool.ingress.dispatcher.settlement.lengths = Lengths()
    roomy = await pool.add("roomy", accuracy_prior=0.05, context_tokens=8_192)
    try:
        first, again = [await pool.chat("auto", "0123456789abcdef" * 600, stream=s) for s in (False, True)]
        for answer in (first, again):
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-fastserve-model"] == "roomy"
        assert first.headers["x-fastserve-fallbacks"] == "best"
        assert "x-fastserve-fallbacks" not in again.headers  # it has learned what such a text comes to
        kept = await outcome(pool, first)
        assert (kept.fallbacks, kept.outcome.status) == (("best",), "ok")
        assert pool.ingress.ejections.current() == frozenset()
    finally:
        await roomy.leave()
        pool.models.remove(roomy)


async def test_a_default_limit_takes_no_room_from_a_prompt_that_fits(pool):
    profile = {"generation_defaults": {"max_tokens": 1_000}}
    pool.ingress.reconfigure({"dispatch": {"epsilon": 0.0, "profiles": {"p": profile}}})
    answer = await pool.chat("auto:p", "word " * 1_500)
    assert answer.status_code == 200, answer.text
    assert "x-fastserve-fallbacks" not in answer.headers
    own = await pool.chat("best", "word " * 1_500, max_tokens=1_000)  # a limit of the caller is kept
    assert own.status_code == 400


async def test_full_replicas_are_429_with_retry_after(pool):
    limits = [model._admission.limit for model in pool.models]
    for model in pool.models:
        model._admission.limit = 0
    try:
        answer = await pool.chat("auto")
    finally:
        for model, limit in zip(pool.models, limits, strict=True):
            model._admission.limit = limit
    assert answer.status_code == 429
    assert answer.headers["retry-after"]
    assert pool.ingress.ejections.current() == frozenset()
    assert (await outcome(pool, answer)).outcome.status == "rejected"


async def test_retries_stay_within_the_budget(pool):
    for model in pool.models:
        await model.switch(error_rate=1.0)
    pool.ingress.reconfigure({"retries": {"share": 0.1, "floor": 3}})
    answers = [await pool.chat("auto") for _ in range(20)]
    tries = [(await outcome(pool, answer)).outcome.attempts for answer in answers]
    assert sum(tries) <= 20 + 4


async def test_a_slow_answer_is_given_where_no_other_try_could_be_faster(pool):
    slow = {"decode_step_s": 0.05, "mean_output_tokens": 1000}
    await pool.add("patient", weight=0.0, simulated=slow)
    limits = {"deadlines": {"first_byte_s": 0.01, "try_s": 0.3}}
    pool.ingress.reconfigure(limits)
    for stream in (False, True):
        answer = await pool.chat("patient", stream=stream, max_tokens=20, ignore_eos=True)
        assert answer.status_code == 200
        record = await outcome(pool, answer)
        assert (record.outcome.status, record.outcome.attempts) == ("ok", 1)
    await pool.add("patient", weight=0.0, simulated=slow)
    # 4 s, longer than a first try may take also where a busy machine has taught a slow first token.
    answer = await pool.chat("patient", max_tokens=80, ignore_eos=True)
    assert answer.status_code == 200
    assert (await outcome(pool, answer)).outcome.attempts == 2  # the second has the rest of the time


async def test_a_client_that_leaves_stops_the_engine_and_blames_nobody(pool):
    pool.ingress.reconfigure({})
    model = await pool.add(
        "slow", weight=0.0, simulated={"decode_step_s": 0.05, "mean_output_tokens": 100_000}
    )
    body = {"model": "slow", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 500}
    host, port = pool.url.removeprefix("http://").split(":")
    for stream in (True, False):
        raw = json.dumps(body | {"stream": stream}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            f"authorization: {pool.client.headers['authorization']}\r\ncontent-length: {len(raw)}\r\n\r\n"
        )
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + raw)
        await _until(lambda: model._admission.ongoing == 1)
        writer.close()
        await _until(lambda: model._admission.ongoing == 0)
    await pool.ingress.view.outbox.flush()
    log = await pool.table.transitions(0.0, 10_000)
    kept = [o.outcome.status for d, o in log if d.model == "slow"]
    assert kept == ["cancelled", "cancelled"]


async def test_a_client_that_does_not_read_is_left_and_the_engine_stopped(pool):
    fast = {"decode_step_s": 0.0, "decode_step_per_sequence_s": 0.0, "mean_output_tokens": 1e6}
    model = await pool.add("endless", weight=0.0, simulated=fast, context_tokens=50_000)
    pool.ingress.reconfigure({"deadlines": {"reader_s": 0.5}})
    raw = json.dumps(
        {"model": "endless", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    ).encode()
    host, port = pool.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"authorization: {pool.client.headers['authorization']}\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.connect((host, int(port)))
    try:
        stalled.sendall(head.encode() + raw)
        await _until(lambda: model._admission.ongoing == 1)
        await _until(lambda: model._admission.ongoing == 0, 60.0)  # megabytes of buffers fill first
        await pool.ingress.view.outbox.flush()
        kept = [o for d, o in await pool.table.transitions(0.0, 10_000) if d.model == "endless"]
        assert [(o.outcome.status, o.outcome.error_code) for o in kept] == [("cancelled", "reader_stalled")]
    finally:
        stalled.close()


async def _until(condition, timeout_s=20.0):
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_prompt_under_which_two_replicas_were_lost_is_held_back_and_others_are_answered(pool):
    third = await pool.add("best", "best-c", accuracy_prior=1.0)
    snapshots = pool.ingress.forwarder.losses
    find, snapshots._find = snapshots._find, lambda replica: None  # none of them reports again
    try:
        for model in (*pool.models[:2], third):
            await model.switch(die_at_token=0)
        answer = await pool.chat("best", "A prompt that breaks engines", max_tokens=50, stream=True)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "prompt_held_back"), error
        assert answer.headers["x-should-retry"] == "false"
        assert (await outcome(pool, answer)).outcome.attempts == 2
        for model in (*pool.models[:2], third):
            await model.switch()
        again = await pool.chat("best", "A prompt that breaks engines", max_tokens=50)
        assert (again.status_code, again.json()["error"]["code"]) == (503, "prompt_held_back")
        assert (await outcome(pool, again)).outcome.status == "rejected"
        other = await pool.chat("best", "Another prompt", max_tokens=50)
        assert other.status_code == 200
        snapshots._find = find  # all report: they were only busy
        await asyncio.sleep(1.2)
        answer = await pool.chat("best", "A prompt that breaks engines", max_tokens=50)
        assert answer.status_code == 200
        assert pool.ingress.metrics.meter.value("fastserve_degraded", "prompt held back") == 2
    finally:
        snapshots._find = find
        await third.leave()
        pool.models.remove(third)
