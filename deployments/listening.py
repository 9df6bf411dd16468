"""Where the HTTP server that Serve gives to a replica listens, behind HAProxy. Bound to Ray 2.60.

Serve binds it to `http_options.host`, which says where HAProxy listens for clients. HAProxy reaches ingress
replicas of its own node by loopback and those of other nodes by the node's address: they have to listen on
these two, and on nothing else. Model replicas get such a server too, which nobody calls: loopback will do.
"""

import asyncio
import socket
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from typing import Any, Final

LOOPBACK: Final = "127.0.0.1"


class Listening:
    """What `install` arranges: once Serve has started the server, `url` says where it is reached."""

    def __init__(self, node: str, loopback: str = LOOPBACK) -> None:
        """`node` is the address under which Ray knows this node."""
        self.url = ""
        self.addresses = tuple(dict.fromkeys((node, loopback)))
        self._start: Any = None

    def install(self) -> None:
        """Have Serve start the replica's server through `start`."""
        replica: Any = import_module("ray.serve._private.replica")
        self.serve_starts(replica.start_asgi_http_server)
        replica.start_asgi_http_server = self.start

    def serve_starts(self, start: Any) -> None:
        """`start` is how Serve itself starts a replica's server."""
        self._start = start

    async def start(self, app: Any, http_options: Any, **named: Any) -> "tuple[asyncio.Task[None], Any]":
        """Serve's `start_asgi_http_server`, on each of `addresses`, at the port that Serve chose.

        Raises RuntimeError from OSError for a port that is taken, after which Serve tries another one.
        """
        node, *others = self.addresses
        sockets = list(bound(others, http_options.port))
        try:
            task, server = await self._start(app, http_options.model_copy(update={"host": node}), **named)
        except BaseException:
            for one in sockets:
                one.close()
            raise
        server.startup = partial(_startup, server.startup, sockets)  # which the task has not called yet
        self.url = f"http://{_bracketed(node)}:{http_options.port}"
        return task, server


async def _startup(
    startup: Any, more: list[socket.socket], sockets: list[socket.socket] | None = None
) -> None:
    """uvicorn's own startup on the sockets that Serve gave it, and on ours."""
    await startup(sockets=[*(sockets or ()), *more])


def bound(addresses: Iterable[str], port: int) -> "Iterable[socket.socket]":
    """A socket on each address. Raises RuntimeError from OSError, as Serve's own function does."""
    for address in addresses:
        one = socket.socket(
            socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )
        try:
            one.bind((address, port))
        except OSError as error:
            one.close()
            raise RuntimeError(f"Failed to bind to address '{address}:{port}'.") from error
        yield one


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
