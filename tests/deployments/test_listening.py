"""An ingress replica's server listens on its node's address and on loopback, at one port."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import uvicorn

from deployments.listening import Listening


@dataclass
class Options:
    """The part of Serve's HTTPOptions that counts here."""

    host: str
    port: int

    def model_copy(self, update: dict[str, Any]) -> "Options":
        return replace(self, **update)


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def serve(app: Any, options: Options) -> tuple[asyncio.Task[None], uvicorn.Server]:
    """As Serve starts a replica's server."""
    one = socket.create_server((options.host, options.port))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    return asyncio.create_task(server.serve(sockets=[one])), server


def listening(node: str) -> Listening:
    made = Listening(node)
    made.serve_starts(serve)
    return made


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def answers(address: str, port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    line = await reader.readline()
    writer.close()
    return b"204" in line


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("node", "reached"), [("127.0.0.1", 1), ("127.0.0.2", 2)])
async def test_it_listens_on_the_nodes_address_and_on_loopback(node: str, reached: int) -> None:
    made, port = listening(node), free_port()
    task, server = await made.start(app, Options("0.0.0.0", port))
    await until(lambda: server.started)
    assert made.url == f"http://{node}:{port}"
    assert [await answers(address, port) for address in ("127.0.0.1", node)] == [True, True]
    assert not await answers("127.0.0.3", port)
    assert len(server.servers) == reached
    server.should_exit = True
    await task
    assert not await answers(node, port)


async def test_a_port_that_is_taken_on_one_address_is_given_back_whole() -> None:
    made = listening("127.0.0.2")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError, match="Failed to bind") as raised:
            await made.start(app, Options("127.0.0.1", port))
        assert isinstance(raised.value.__cause__, OSError), "by which Serve knows to try another port"
    assert made.url == ""
    with socket.create_server(("127.0.0.2", port)):
        pass
