import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from starlette.types import Receive, Scope, Send

from deployments.model.engines.http import read_body, send_json
from deployments.model.server import Admission, EngineServer
from deployments.records.operation import BACKLOG_HEADER


class Held:
    """An app whose answers wait for `release`."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive) if scope["method"] == "POST" else b"now"
        if body != b"now":
            await self.release.wait()
        await send_json(send, 200, {"body": body.decode()})


@contextlib.asynccontextmanager
async def serving(admission: Admission) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    server = EngineServer(admission, "127.0.0.1")
    await server.start()
    try:
        async with aiohttp.ClientSession(headers={"authorization": "Bearer right"}) as client:
            yield server.url, client
    finally:
        await server.stop()


@pytest.mark.parametrize("given", ["", "Bearer wrong", "right", "Bearer right2", "Bearer ñ"])
async def test_without_the_token_nothing_is_served(given: str) -> None:
    async with (
        serving(Admission(lambda: "right", 4, Held())) as (url, client),
        client.post(url, data=b"now", headers={"authorization": given}) as answer,
    ):
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "invalid_token"


async def test_no_token_known_yet_lets_nobody_in() -> None:
    async with (
        serving(Admission(lambda: "", 4, Held())) as (url, client),
        client.post(url, data=b"now", headers={"authorization": "Bearer "}) as answer,
    ):
        assert answer.status == 401


async def test_a_new_token_counts_at_once() -> None:
    tokens = ["old"]
    async with serving(Admission(lambda: tokens[-1], 4, Held())) as (url, client):
        tokens.append("right")
        async with client.post(url, data=b"now") as answer:
            assert answer.status == 200


async def test_beyond_the_limit_is_429_with_retry_after() -> None:
    app = Held()
    admission = Admission(lambda: "right", 2, app)
    async with serving(admission) as (url, client):
        held = [asyncio.create_task(client.post(url, data=b"wait")) for _ in range(2)]
        while admission.ongoing < 2:
            await asyncio.sleep(0.01)
        async with client.post(url, data=b"now") as answer:
            error = (await answer.json())["error"]
            assert answer.status == 429
            assert answer.headers["retry-after"] == "1"
            assert (error["type"], error["code"]) == ("rate_limit_error", "replica_busy")
            assert set(error) == {"message", "type", "param", "code"}
        async with client.get(url) as answer:
            assert answer.status == 200  # reads are not counted
        app.release.set()
        assert [(await answer).status for answer in held] == [200, 200]
        assert (admission.ongoing, admission.refused) == (0, 1)


async def test_a_loading_replica_says_so() -> None:
    async with (
        serving(Admission(lambda: "right", 2)) as (url, client),
        client.post(url, data=b"now") as answer,
    ):
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "replica_loading"


async def test_a_draining_replica_ends_what_it_has_and_takes_no_more() -> None:
    app = Held()
    admission = Admission(lambda: "right", 2, app)
    async with serving(admission) as (url, client):
        held = asyncio.create_task(client.post(url, data=b"wait"))
        while not admission.ongoing:
            await asyncio.sleep(0.01)
        admission.draining = True
        async with client.post(url, data=b"now") as answer:
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
        app.release.set()
        assert (await held).status == 200


async def test_a_client_that_leaves_frees_its_place() -> None:
    admission = Admission(lambda: "right", 1, Leaving())
    async with serving(admission) as (url, client):
        call = asyncio.create_task(client.post(url, data=b"wait"))
        while not admission.ongoing:
            await asyncio.sleep(0.01)
        call.cancel()
        async with asyncio.timeout(60):
            while admission.ongoing:
                await asyncio.sleep(0.01)


async def test_requests_that_wait_in_an_ingress_count_for_the_autoscaler() -> None:
    admission = Admission(lambda: "right", 4, Held())
    async with serving(admission) as (url, client):
        async with client.post(url, data=b"now", headers={BACKLOG_HEADER: "7"}):
            assert admission.wanted == admission.ongoing + 7
        async with client.post(url, data=b"now"):  # nobody waits any more
            assert admission.wanted == admission.ongoing


class Leaving:
    """An app that waits until its client is gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


async def test_small_answers_do_not_wait_for_acknowledgements() -> None:
    """Without TCP_NODELAY, headers and body in two writes cost a client 40 ms."""
    server = EngineServer(Admission(lambda: "right", 4, Held()), "127.0.0.1")
    await server.start()
    async with aiohttp.ClientSession(headers={"authorization": "Bearer right"}) as client:
        async with client.post(server.url, data=b"now") as answer:
            await answer.read()
        (connection,) = server._server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")  # type: ignore[union-attr]
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await server.stop()


async def test_a_stopped_server_is_not_alive() -> None:
    server = EngineServer(Admission(lambda: "x", 1), "127.0.0.1")
    await server.start()
    assert server.alive
    await server.stop()
    assert not server.alive
