import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from deployments import sse
from deployments.model.engines.base import EngineError
from deployments.model.engines.simulated.engine import SimulatedEngine
from deployments.model.server import Admission, EngineServer
from deployments.model.settings import ModelSettings
from deployments.model.simulated_settings import SimulatedFaults, SimulatedSettings

FAST = {"decode_step_s": 0.001, "decode_step_per_sequence_s": 0.0}


@contextlib.asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[SimulatedEngine, aiohttp.ClientSession]]:
    engine = SimulatedEngine("mock", 1024, SimulatedSettings.model_validate({**FAST, **settings}))
    server = EngineServer(Admission(lambda: "t", 100, await engine.start()), "127.0.0.1")
    await server.start()
    try:
        headers = {"authorization": "Bearer t"}
        async with aiohttp.ClientSession(base_url=server.url, headers=headers) as client:
            yield engine, client
    finally:
        await server.stop()
        await engine.stop()


async def ask(client: aiohttp.ClientSession, content: str = "Hi", **body: Any) -> tuple[int, str]:
    messages = [{"role": "user", "content": content}]
    async with client.post(
        "/v1/chat/completions", json={"model": "mock", "messages": messages, **body}
    ) as answer:
        return answer.status, await answer.text()


def content_of(text: str) -> str:
    return str(json.loads(text)["choices"][0]["message"]["content"])


async def test_it_says_that_it_is_simulated() -> None:
    async with serving() as (_, client):
        async with client.get("/v1/models") as answer:
            assert (await answer.json())["data"][0]["simulated"] is True
        _, text = await ask(client)
        assert json.loads(text)["system_fingerprint"] == "simulated"
        assert content_of(text).startswith("[simulated]")


async def test_the_same_question_gets_the_same_answer() -> None:
    async with serving(seed=1) as (_, client):
        first, again, other = [content_of((await ask(client, seed=seed))[1]) for seed in (5, 5, 6)]
    async with serving(seed=2) as (_, client):
        elsewhere = content_of((await ask(client, seed=5))[1])
    assert first == again
    assert len({first, other, elsewhere}) == 3


async def test_lengths_follow_the_mean() -> None:
    async with serving(mean_output_tokens=20, max_sequences=256, decode_step_s=0) as (_, client):
        answers = await asyncio.gather(*(ask(client, seed=seed) for seed in range(300)))
    lengths = [json.loads(text)["usage"]["completion_tokens"] for _, text in answers]
    assert 16 < sum(lengths) / len(lengths) < 24


async def test_an_answer_has_at_least_the_tokens_that_are_asked_for() -> None:
    async with serving(mean_output_tokens=1) as (_, client):
        _, text = await ask(client, min_tokens=7)
        status, refused = await ask(client, min_tokens=7, max_tokens=6)
    assert json.loads(text)["usage"]["completion_tokens"] == 7
    assert status == 400
    assert "min_tokens" in refused


async def test_given_answers_are_given() -> None:
    async with serving(answers={"2+2?": "It is four."}) as (_, client):
        _, text = await ask(client, "2+2?")
        _, stream = await ask(client, "2+2?", stream=True)
    assert content_of(text) == "It is four."
    deltas = [json.loads(event.data) for event in sse.parse(stream.encode())[:-1]]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in deltas) == "It is four."


async def test_embeddings_are_unit_vectors_of_the_text() -> None:
    async with serving() as (_, client):
        body = {"model": "mock", "input": ["one", "two", "one"]}
        async with client.post("/v1/embeddings", json=body) as answer:
            one, two, same = [item["embedding"] for item in (await answer.json())["data"]]
    assert sum(value * value for value in one) == pytest.approx(1.0)
    assert one == same != two


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages"),
        ({"max_tokens": True}, "max_completion_tokens"),
        ({"n": 99}, "n"),
        ({"stop": [1]}, "stop"),
        ({"seed": "x"}, "seed"),
    ],
)
async def test_bad_fields_are_named(body: dict[str, Any], param: str) -> None:
    async with serving() as (_, client):
        whole = {"model": "mock", "messages": [{"role": "user", "content": "x"}], **body}
        async with client.post("/v1/chat/completions", json=whole) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["param"] == param


async def test_a_body_that_is_not_json_is_400() -> None:
    async with serving() as (_, client), client.post("/v1/chat/completions", data=b"{") as answer:
        assert answer.status == 400


async def test_the_error_rate_is_met() -> None:
    async with serving(faults={"error_rate": 0.3}) as (_, client):
        statuses = [(await ask(client, max_tokens=1))[0] for _ in range(200)]
    assert 35 <= statuses.count(500) <= 85
    assert set(statuses) == {200, 500}


async def test_a_hanging_request_counts_as_running_until_its_client_leaves() -> None:
    async with serving(faults={"hang_rate": 1.0}) as (engine, client):
        call = asyncio.create_task(ask(client))
        async with asyncio.timeout(60):
            while engine.stats().running == 0:
                await asyncio.sleep(0.01)
        assert not call.done()
        call.cancel()
        async with asyncio.timeout(60):
            while engine.stats().running:
                await asyncio.sleep(0.01)


async def test_a_stream_that_dies_never_looks_whole() -> None:
    async with serving(faults={"die_at_token": 3}) as (engine, client):
        body = {"model": "mock", "prompt": "x", "max_tokens": 50, "stream": True, "ignore_eos": True}
        text = bytearray()

        async def read_all() -> None:
            async with client.post("/v1/completions", json=body) as answer:
                async for part in answer.content.iter_any():
                    text.extend(part)

        with pytest.raises(aiohttp.ClientError):
            await read_all()
        assert text.count(b"data: ") == 3
        assert b"[DONE]" not in text
        assert engine.stats().running == 0
        assert engine.take_finished()[0].finish_reason == "abort"


async def test_faults_switch_while_it_serves() -> None:
    async with serving() as (engine, client):
        engine.reconfigure(ModelSettings(faults=SimulatedFaults(error_rate=1.0)))
        assert (await ask(client, max_tokens=1))[0] == 500
        engine.reconfigure(ModelSettings())
        assert (await ask(client, max_tokens=1))[0] == 200


async def test_records_tell_queue_prefill_and_decode() -> None:
    async with serving(max_sequences=1, decode_step_s=0.005, prefill_tokens_per_s=1000) as (engine, client):
        await asyncio.gather(*(ask(client, "x" * 200, max_tokens=10, ignore_eos=True) for _ in range(2)))
        first, second = sorted(engine.take_finished(), key=lambda record: record.queue_s or 0.0)
    assert (first.prompt_tokens, first.output_tokens) == (50, 10)
    assert first.prefill_s == pytest.approx(0.055, abs=0.02)
    assert first.tpot_s == pytest.approx(0.005, abs=0.002)
    assert (second.queue_s or 0.0) > 0.05
    assert second.ttft_s == pytest.approx((second.queue_s or 0.0) + (second.prefill_s or 0.0))


async def test_a_dead_clock_fails_the_health_check() -> None:
    async with serving() as (engine, _):
        await engine.check_health()
        await engine.stop()
        with pytest.raises(EngineError, match="clock does not run"):
            await engine.check_health()
