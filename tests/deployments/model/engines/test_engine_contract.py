"""One contract, three engines: the same requests through a replica's admission and HTTP server."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from deployments import sse
from deployments.model.config import ModelConfig
from deployments.model.engines.base import Engine
from deployments.model.engines.openai import OpenAiEngine
from deployments.model.engines.simulated.engine import SimulatedEngine
from deployments.model.engines.vllm import VllmEngine
from deployments.model.server import Admission, EngineServer
from deployments.model.simulated_settings import SimulatedSettings
from deployments.records.records import EngineRecord
from tests.deployments.tiny_llama import make_tiny_llama

TOKEN = "internal-secret"
CONTEXT_TOKENS = 512
SETTINGS = SimulatedSettings(decode_step_s=0.002, decode_step_per_sequence_s=0, mean_output_tokens=200)
SCHEMA = {
    "type": "object",
    "properties": {"unit": {"enum": ["celsius", "fahrenheit"]}, "rounded": {"type": "boolean"}},
    "required": ["unit", "rounded"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
MESSAGES = [{"role": "user", "content": "Count to ten."}]
CHOICE = "index finish_reason logprobs stop_reason token_ids routed_experts"
ANSWER = (
    "id object created model choices usage system_fingerprint service_tier kv_transfer_params "
    "ec_transfer_params metrics"
)
USAGE = "prompt_tokens completion_tokens total_tokens prompt_tokens_details completion_tokens_details"
MESSAGE = "role content refusal annotations audio function_call reasoning"


@dataclass
class Served:
    """An engine behind its server, and a client of it."""

    engine: Engine
    url: str
    client: aiohttp.ClientSession

    async def post(self, path: str, body: dict[str, Any], decision_id: str = "d") -> tuple[int, str]:
        headers = {"x-request-id": decision_id}
        async with self.client.post(self.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.text()

    async def record(self, decision_id: str) -> EngineRecord:
        async with asyncio.timeout(60):
            while True:
                for record in self.engine.take_finished():
                    if record.decision_id == decision_id:
                        return record
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def serve(engine: Engine, token: str = TOKEN) -> AsyncIterator[Served]:
    server = EngineServer(Admission(lambda: token, 64, await engine.start()), "127.0.0.1")
    await server.start()
    headers = {"authorization": f"Bearer {token}"}
    try:
        async with aiohttp.ClientSession(headers=headers) as client:
            yield Served(engine, server.url, client)
    finally:
        await server.stop()
        await engine.stop()


@contextlib.asynccontextmanager
async def serve_openai(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setenv("TEST_UPSTREAM_KEY", "upstream-key")
    upstream = SimulatedEngine("upstream-name", CONTEXT_TOKENS, SETTINGS)
    async with serve(upstream, "upstream-key") as behind:
        config = ModelConfig.model_validate(
            {
                "id": "small",
                "engine": "openai",
                "context_tokens": CONTEXT_TOKENS,
                "upstream": {
                    "base_url": f"{behind.url}/v1",
                    "key_env": "TEST_UPSTREAM_KEY",
                    "model": "upstream-name",
                },
            }
        )
        async with serve(OpenAiEngine(config)) as served:
            yield served


@contextlib.asynccontextmanager
async def serve_vllm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = ModelConfig(
        id="small",
        source=str(make_tiny_llama(folder)),
        context_tokens=CONTEXT_TOKENS,
        engine_args={"enforce_eager": True, "dtype": "bfloat16", "max_num_seqs": 8},
    )
    async with serve(VllmEngine(config)) as served:
        yield served


@pytest_asyncio.fixture(
    loop_scope="module",
    params=["simulated", "openai", pytest.param("vllm", marks=pytest.mark.vllm)],
    scope="module",
    name="served",
)
async def served_fixture(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param == "simulated":
            context = serve(SimulatedEngine("small", CONTEXT_TOKENS, SETTINGS))
        elif request.param == "openai":
            context = serve_openai(monkeypatch)
        else:
            context = serve_vllm(tmp_path_factory.mktemp("tiny"), monkeypatch)
        async with context as served:
            yield served


pytestmark = pytest.mark.asyncio(loop_scope="module")


def events(text: str) -> list[dict[str, Any]]:
    found = sse.parse(text.encode())
    assert found[-1].data == sse.DONE
    return [json.loads(event.data or b"") for event in found[:-1]]


async def test_chat_answers_with_usage_and_the_decision_id(served: Served) -> None:
    status, text = await served.post(
        "/v1/chat/completions",
        {"model": "small", "messages": MESSAGES, "max_tokens": 5, "ignore_eos": True},
        "one",
    )
    body = json.loads(text)
    assert status == 200
    assert body["id"] == "chatcmpl-one"
    assert body["usage"]["completion_tokens"] == 5
    assert body["choices"][0]["finish_reason"] == "length"
    assert isinstance(body["choices"][0]["message"]["content"], str)


async def test_whole_answers_have_the_same_fields_on_every_engine(served: Served) -> None:
    asked = {"model": "small", "max_tokens": 3}
    _, text = await served.post("/v1/chat/completions", {**asked, "messages": MESSAGES})
    chat = json.loads(text)
    assert chat.keys() == {*ANSWER.split(), "prompt_logprobs", "prompt_token_ids", "prompt_text"}
    assert chat["choices"][0].keys() == {*CHOICE.split(), "message"}
    assert chat["choices"][0]["message"].keys() == set(MESSAGE.split())
    assert chat["usage"].keys() == set(USAGE.split())
    _, text = await served.post("/v1/completions", {**asked, "prompt": "Once"})
    written = json.loads(text)
    assert written.keys() == set(ANSWER.split())
    assert written["choices"][0].keys() == {*CHOICE.split(), "text", "prompt_logprobs", "prompt_token_ids"}


async def test_a_stream_ends_with_usage_and_done(served: Served) -> None:
    _, text = await served.post(
        "/v1/chat/completions",
        {
            "model": "small",
            "messages": MESSAGES,
            "max_tokens": 5,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        "two",
    )
    chunks = events(text)
    assert chunks[-1]["usage"]["completion_tokens"] == 5
    assert chunks[-1]["choices"] == []
    reasons = [choice.get("finish_reason") for chunk in chunks for choice in chunk["choices"]]
    assert [reason for reason in reasons if reason] == ["length"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"


async def test_several_choices_are_one_record(served: Served) -> None:
    body = {"model": "small", "messages": MESSAGES, "max_tokens": 4, "n": 3, "ignore_eos": True}
    _, text = await served.post("/v1/chat/completions", body, "three-7")
    assert len(json.loads(text)["choices"]) == 3
    record = await served.record("three-7")
    if not isinstance(served.engine, OpenAiEngine):  # which does not read the answers that it passes on
        assert record.output_tokens == 12
        assert record.prompt_tokens == json.loads(text)["usage"]["prompt_tokens"]
        assert record.ttft_s is not None
        assert record.tpot_s is not None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 3}),
        ("/v1/completions", {"prompt": "Once", "max_tokens": 3}),
        ("/v1/responses", {"input": "Once", "max_output_tokens": 3, "request_id": "four"}),
    ],
)
async def test_each_endpoint_joins_its_record_by_decision_id(
    served: Served, path: str, body: dict[str, Any]
) -> None:
    status, text = await served.post(path, {"model": "small", **body}, "four")
    assert status == 200, text
    record = await served.record("four")
    assert record.e2e_s is not None
    assert 0 < record.e2e_s < 30


async def test_a_stop_string_ends_the_answer(served: Served) -> None:
    body = {"model": "small", "prompt": "Once", "max_tokens": 30, "temperature": 0, "ignore_eos": True}
    _, text = await served.post("/v1/completions", body)
    whole = json.loads(text)["choices"][0]["text"]
    stop = whole[len(whole) // 2 : len(whole) // 2 + 2]
    _, text = await served.post("/v1/completions", {**body, "stop": [stop]})
    choice = json.loads(text)["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert stop not in choice["text"]
    assert whole.startswith(choice["text"])


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/v1/chat/completions", {"model": "other", "messages": MESSAGES}, 404, "model"),
        ("/v1/chat/completions", {"model": "small", "messages": MESSAGES, "max_tokens": 100_000}, 400, None),
        ("/v1/chat/completions", {"model": "small", "messages": MESSAGES, "max_tokens": -1}, 400, None),
    ],
)
async def test_bad_requests_get_an_error_object(
    served: Served, path: str, body: dict[str, Any], status: int, param: str | None
) -> None:
    got, text = await served.post(path, body)
    error = json.loads(text)["error"]
    assert got == status
    assert error["message"]
    assert param is None or error["param"] == param


async def test_models_lists_the_model_by_our_id(served: Served) -> None:
    async with served.client.get(f"{served.url}/v1/models") as answer:
        body = await answer.json()
    assert [model["id"] for model in body["data"]] == ["small"]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_client_that_leaves_ends_the_generation(served: Served, stream: bool) -> None:
    body = {"model": "small", "messages": MESSAGES, "max_tokens": 400, "stream": stream, "ignore_eos": True}
    call = asyncio.create_task(served.post("/v1/chat/completions", body))
    async with asyncio.timeout(60):
        while not served.engine.stats().running:
            await asyncio.sleep(0.01)
    call.cancel()
    async with asyncio.timeout(60):
        while served.engine.stats().running:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    progressed_s = served.engine.stats().progressed_s
    await asyncio.sleep(0.2)
    assert served.engine.stats().progressed_s == progressed_s  # no step is made for nobody


async def test_the_load_shows_in_the_stats(served: Served) -> None:
    body = {"model": "small", "messages": MESSAGES, "max_tokens": 150, "ignore_eos": True}
    calls = [asyncio.create_task(served.post("/v1/chat/completions", body, f"load{i}")) for i in range(3)]
    seen = 0
    while not all(call.done() for call in calls):
        stats = served.engine.stats()
        seen = max(seen, stats.running + stats.waiting)
        await asyncio.sleep(0.01)
    assert seen == 3
    assert served.engine.stats().running == 0


async def test_a_healthy_engine_passes_its_check(served: Served) -> None:
    await served.engine.check_health()


def assert_follows_the_schema(text: str) -> None:
    value = json.loads(text)
    assert set(value) == {"unit", "rounded"}
    assert value["unit"] in ("celsius", "fahrenheit")
    assert isinstance(value["rounded"], bool)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=["required", "named"]
)
async def test_a_forced_tool_call_has_arguments_of_the_schema(served: Served, choice: Any) -> None:
    body = {"model": "small", "messages": MESSAGES, "max_tokens": 200, "tools": [TOOL], "tool_choice": choice}
    status, text = await served.post("/v1/chat/completions", {**body, "parallel_tool_calls": False})
    assert status == 200, text
    call = json.loads(text)["choices"][0]["message"]["tool_calls"][0]
    assert call["function"]["name"] == "weather"
    assert_follows_the_schema(call["function"]["arguments"])


async def test_an_answer_follows_a_json_schema(served: Served) -> None:
    response_format = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}
    body = {"model": "small", "messages": MESSAGES, "max_tokens": 200, "response_format": response_format}
    status, text = await served.post("/v1/chat/completions", body)
    assert status == 200, text
    assert_follows_the_schema(json.loads(text)["choices"][0]["message"]["content"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_a_streamed_call_of_a_tool_is_the_plain_one(served: Served, path: str) -> None:
    body = {"model": "small", "max_tokens": 200, "tools": [TOOL], "tool_choice": "required", "stream": True}
    if path == "/v1/chat/completions":
        body |= {"messages": MESSAGES, "parallel_tool_calls": False}
    else:
        body |= {"input": MESSAGES, "tools": [{"type": "function", **TOOL["function"]}]}
        body["max_output_tokens"] = body.pop("max_tokens")
    status, text = await served.post(path, body)
    assert status == 200, text
    events = [event.data or b"" for event in sse.parse(text.encode())]
    said = [json.loads(event) for event in events if event != sse.DONE]
    if path == "/v1/responses":
        items = [one for one in said[-1]["response"]["output"] if one["type"] == "function_call"]
        assert_follows_the_schema(items[0]["arguments"])  # vLLM may call several times
        return
    calls = [
        call for one in said for choice in one["choices"] for call in choice["delta"].get("tool_calls") or ()
    ]
    assert calls[0]["function"]["name"] == "weather"
    assert calls[0]["id"]
    assert_follows_the_schema("".join(call["function"].get("arguments") or "" for call in calls))


async def test_text_goes_to_tokens_and_back(served: Served) -> None:
    if isinstance(served.engine, OpenAiEngine):
        pytest.skip("Another endpoint's tokens are not told.")
    status, text = await served.post("/tokenize", {"model": "small", "prompt": "Hello there"})
    told = json.loads(text)
    assert (status, told["count"]) == (200, len(told["tokens"]))
    status, text = await served.post("/detokenize", {"model": "small", "tokens": told["tokens"]})
    assert (status, "Hello there" in json.loads(text)["prompt"]) == (200, True)
