"""The replica's HTTP server: a free port, a bearer token, an admission limit."""

import asyncio
import hmac
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.model.engines.http import header, send_error

RETRY_AFTER_S = 1


class Admission:
    """ASGI middleware: only with the bearer token, at most `limit` requests at once; counts them."""

    def __init__(self, token: Callable[[], str], limit: int, app: ASGIApp | None = None) -> None:
        self.app = app  # None while the engine loads
        self._token = token
        self._limit = limit
        self.ongoing = 0
        self.refused = 0
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if not self._is_known(scope):
            await send_error(send, 401, "The internal token is missing or wrong.", code="invalid_token")
        elif self.app is None:
            await self._refuse(send, 503, "This replica is loading its model.", "replica_loading")
        elif scope["method"] != "POST":
            await self.app(scope, receive, send)
        elif self.draining:
            await self._refuse(send, 503, "This replica is shutting down.", "replica_draining")
        elif self.ongoing >= self._limit:
            await self._refuse(send, 429, f"This replica is at its limit of {self._limit}.", "replica_busy")
        else:
            await self._count(self.app, scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        token = self._token()
        given = (header(scope, b"authorization") or "").encode("latin-1")
        return bool(token) and hmac.compare_digest(given, f"Bearer {token}".encode())

    async def _refuse(self, send: Send, status: int, message: str, code: str) -> None:
        self.refused += 1
        retry = (b"retry-after", str(RETRY_AFTER_S).encode())
        kind = "rate_limit_error" if status == 429 else "server_error"
        await send_error(send, status, message, kind=kind, code=code, headers=[retry])

    async def _count(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self.ongoing += 1
        try:
            await app(scope, receive, send)
        finally:
            self.ongoing -= 1


class EngineServer:
    """Serves an ASGI app on `host` and a port that the system picks."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=0,
            backlog=1024,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            ws="none",
        )
        self._host = f"[{host}]" if ":" in host else host
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None
        self.url = ""  # known once it listens

    async def start(self) -> None:
        """Return once it listens."""
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise RuntimeError(f"The engine's HTTP server on {self._host} ended while starting.")
            await asyncio.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://{self._host}:{port}"

    async def stop(self) -> None:
        """Close all connections; what still runs has a second."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task

    @property
    def alive(self) -> bool:
        """Whether it still accepts connections."""
        return self._task is not None and not self._task.done()
