"""The replica's HTTP server: a free port, a bearer token, an admission limit."""

import asyncio
import hmac
import time
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.model.engines.http import header, send_error
from deployments.model.ports import bound_socket, replica_ports
from deployments.records.operation import BACKLOG_HEADER

RETRY_AFTER_S = 1
_ROOM_S = 0.5  # so long a request may wait to be let in
_BACKLOG = BACKLOG_HEADER.encode()
_BACKLOG_S = 10.0  # so long it counts what an ingress has said of those that wait


class Admission:
    """ASGI middleware: only with the bearer token, at most `limit` requests at once; counts them."""

    def __init__(self, token: Callable[[], str], limit: int, app: ASGIApp | None = None) -> None:
        self.app = app  # None while the engine loads
        self.limit = limit
        self._token = token
        self.ongoing = 0
        self.refused = 0
        self.draining = False
        self._waiting: list[asyncio.Future[None]] = []
        self._backlog = (float("-inf"), 0)  # when an ingress has told it, and how many

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
        elif not await self._has_room():
            await self._refuse(send, 429, f"This replica is at its limit of {self.limit}.", "replica_busy")
        else:
            await self._serve(self.app, scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        token = self._token()
        given = (header(scope, b"authorization") or "").encode("latin-1")
        return bool(token) and hmac.compare_digest(given, f"Bearer {token}".encode())

    async def _refuse(self, send: Send, status: int, message: str, code: str) -> None:
        self.refused += 1
        retry = (b"retry-after", str(RETRY_AFTER_S).encode())
        kind = "rate_limit_error" if status == 429 else "server_error"
        await send_error(send, status, message, kind=kind, code=code, headers=[retry])

    @property
    def wanted(self) -> int:
        """Requests here, and those that wait in the ingress for a replica like this one."""
        told_s, backlog = self._backlog
        return self.ongoing + (backlog if time.monotonic() - told_s < _BACKLOG_S else 0)

    async def _has_room(self) -> bool:
        """Whether a request is let in, which it may wait for a moment: two ingress replicas may have thought
        that a slot is theirs."""
        if self.ongoing < self.limit:
            self.ongoing += 1
            return True
        if len(self._waiting) >= self.limit:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(_ROOM_S):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def _leave(self) -> None:
        """A request is over: the next one that waits takes its place."""
        self.ongoing -= 1
        turn = next((one for one in self._waiting if not one.done()), None)
        if turn is not None and self.ongoing < self.limit:
            self._waiting.remove(turn)
            self.ongoing += 1
            turn.set_result(None)

    async def _serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        told = header(scope, _BACKLOG) or ""
        self._backlog = (time.monotonic(), int(told) if told.isdecimal() else 0)
        try:
            await app(scope, receive, send)
        finally:
            self._leave()


class EngineServer:
    """Serves an ASGI app on `host` and a free port of the range for replicas."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        config = uvicorn.Config(
            app,
            backlog=1024,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            ws="none",
        )
        self._host = host
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None
        self.url = ""  # known once it listens

    async def start(self) -> None:
        """Return once it listens."""
        bound = bound_socket(self._host, replica_ports())
        self._task = asyncio.create_task(self._server.serve(sockets=[bound]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise RuntimeError(f"The engine's HTTP server on {self._host} ended while starting.")
            await asyncio.sleep(0.01)
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{host}:{bound.getsockname()[1]}"

    async def stop(self) -> None:
        """Close all connections; what still runs has a second."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task

    @property
    def alive(self) -> bool:
        """Whether it still accepts connections."""
        return self._task is not None and not self._task.done()
