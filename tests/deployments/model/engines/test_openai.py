import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from deployments.model.config import ModelConfig
from deployments.model.engines.base import EngineError
from deployments.model.engines.openai import OpenAiEngine, renamed
from deployments.model.server import Admission, EngineServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BODY = {"model": "ours", "messages": [{"role": "user", "content": "Hi"}]}


def config(base_url: str, **upstream: Any) -> ModelConfig:
    return ModelConfig.model_validate(
        {"id": "ours", "engine": "openai", "upstream": {"base_url": base_url, **upstream}}
    )


@contextlib.asynccontextmanager
async def passing_to(
    handler: Handler, **upstream: Any
) -> AsyncIterator[tuple[OpenAiEngine, aiohttp.ClientSession]]:
    app = web.Application()
    app.router.add_route("*", "/v1/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with served(config(f"http://{host}:{port}/v1", **upstream)) as pair:
            yield pair
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def served(parsed: ModelConfig) -> AsyncIterator[tuple[OpenAiEngine, aiohttp.ClientSession]]:
    engine = OpenAiEngine(parsed)
    server = EngineServer(Admission(lambda: "t", 8, await engine.start()), "127.0.0.1")
    await server.start()
    headers = {"authorization": "Bearer t", "x-request-id": "decision"}
    try:
        async with aiohttp.ClientSession(base_url=server.url, headers=headers) as client:
            yield engine, client
    finally:
        await server.stop()
        await engine.stop()


async def test_key_name_and_id_go_up_and_the_answer_comes_back_unchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UP_KEY", "sk-up")
    seen: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(
            path=request.path,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.json(),
        )
        return web.Response(body=b'{"odd":  "spacing"}', content_type="application/json")

    async with passing_to(handler, key_env="UP_KEY", model="theirs") as (engine, client):
        async with client.post("/v1/chat/completions", json={**BODY, "user": "é"}) as answer:
            assert await answer.read() == b'{"odd":  "spacing"}'
        assert engine.take_finished()[0].decision_id == "decision"
    assert seen["path"] == "/v1/chat/completions"
    assert seen["headers"]["authorization"] == "Bearer sk-up"
    assert seen["headers"]["x-request-id"] == "decision"
    assert seen["body"] == {**BODY, "model": "theirs", "user": "é"}


async def test_an_upstreams_error_passes_through_with_retry_after() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(
            {"error": {"message": "slow down"}}, status=429, headers={"retry-after": "7"}
        )

    async with (
        passing_to(handler) as (_, client),
        client.post("/v1/chat/completions", json=BODY) as answer,
    ):
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert (await answer.json())["error"]["message"] == "slow down"


async def test_an_upstream_that_is_away_is_502_and_then_unhealthy() -> None:
    async with served(config("http://127.0.0.1:9/v1", failures_until_unhealthy=2)) as (engine, client):
        for _ in range(2):
            await engine.check_health()
            async with client.post("/v1/chat/completions", json=BODY) as answer:
                assert answer.status == 502
                assert (await answer.json())["error"]["code"] == "upstream_failed"
        with pytest.raises(EngineError, match="upstream of model 'ours' is down"):
            await engine.check_health()


async def test_an_upstream_that_recovers_is_healthy_again() -> None:
    status = 500

    async def handler(_: web.Request) -> web.Response:
        return web.json_response({}, status=status)

    async with passing_to(handler, failures_until_unhealthy=1) as (engine, client):
        async with client.post("/v1/chat/completions", json=BODY):
            pass
        with pytest.raises(EngineError, match="status 500"):
            await engine.check_health()
        status = 200
        await engine.check_health()


async def test_a_stream_that_breaks_never_looks_whole() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: {}\n\n")
        assert request.transport is not None
        request.transport.abort()
        return answer

    async with passing_to(handler) as (engine, client):
        with pytest.raises(aiohttp.ClientError):
            async with client.post("/v1/chat/completions", json=BODY) as answer:
                await answer.read()
        assert engine.stats().running == 0


async def test_a_client_that_leaves_closes_the_upstream_connection() -> None:
    left = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b"data: {}\n\n")
                await asyncio.sleep(0.01)
        except ConnectionError:
            left.set()
            raise

    async with passing_to(handler) as (engine, client):
        async with client.post("/v1/chat/completions", json=BODY) as answer:
            await answer.content.readline()
            assert engine.stats().running == 1
            answer.close()
        async with asyncio.timeout(60):
            await left.wait()
            while engine.stats().running:
                await asyncio.sleep(0.01)


async def test_without_its_key_the_engine_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(EngineError, match="'NO_SUCH_KEY' holds no key"):
        await OpenAiEngine(config("http://127.0.0.1:9/v1", key_env="NO_SUCH_KEY")).start()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": "x"}', b"\xff"])
def test_only_bodies_for_our_model_are_renamed(body: bytes) -> None:
    assert renamed(body, "ours", "theirs") is None


def test_an_equal_name_leaves_the_bytes_alone() -> None:
    body = b'{"model":   "ours", "x": 1e2}'
    assert renamed(body, "ours", "ours") == body
    assert json.loads(renamed(body, "ours", "theirs") or b"") == {"model": "theirs", "x": 100.0}
