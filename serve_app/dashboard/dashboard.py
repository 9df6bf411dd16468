"""The Serve deployment `Dashboard`: its table, its keys, and the ASGI app over them."""

import asyncio
import contextlib
from typing import Any, Final

from deployments.draining import leave_on_sigterm
from deployments.listening import Listening
from deployments.node import node_address
from deployments.table.api import TableApi
from deployments.table.connect import await_table
from serve_app.access.keys import KeyRing
from serve_app.config import DashboardConfig
from serve_app.dashboard.desk import Desk
from serve_app.dashboard.feed import Feed
from serve_app.dashboard.router import Router
from serve_app.dashboard.serve_pool import Pool, ServePool
from serve_app.dashboard.streams import Hub
from serve_app.http import guard
from serve_app.http.cors import App
from serve_app.http.request import Receive, Send

_TABLE_S: Final = 60.0  # within which an ingress replica makes the table
_LEAVE_S: Final = 5.0  # that requests under way have where the process leaves
_LOOK_S: Final = 0.05


class Dashboard:
    """One replica, with one reading of the table for all viewers."""

    def __init__(
        self, config: DashboardConfig, table: TableApi | None = None, pool: Pool | None = None
    ) -> None:
        """`table` and `pool` are found on Ray when not given.

        Raises on Ray RuntimeError without the guard, TableError while nobody has made the table.
        """
        if table is None:
            guard.require_installed()
            Listening(node_address()).install()
        self._guarded = table is None
        self._under_way = 0  # requests, streams among them
        table = table if table is not None else await_table(_TABLE_S)
        hub = Hub()
        self.feed = Feed(table, config.decisions, hub)
        self.desk = Desk(table, pool or ServePool(), KeyRing(self.feed), config, hub, self.feed)

    def __serve_build_asgi_app__(self) -> App:
        """Serve's hook for an app that is made in the replica."""
        return self.app()

    def app(self) -> App:
        """The ASGI app; its lifespan runs the reading."""
        router = Router(self.desk, guarded=self._guarded)

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self._under_way += 1
                try:
                    await router(scope, receive, send)
                finally:
                    self._under_way -= 1
            elif scope["type"] == "lifespan":
                await self._lifespan(receive, send)

        return app

    async def start(self) -> None:
        """Begin to read; on Ray SIGTERM is heard from now on."""
        self.feed.start()
        if self._guarded:
            loop = asyncio.get_running_loop()
            leave_on_sigterm(lambda: asyncio.run_coroutine_threadsafe(self.leave(), loop).result())

    async def leave(self) -> None:
        """End the streams, and give what else is under way its time."""
        self.desk.hub.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                while self._under_way:
                    await asyncio.sleep(_LOOK_S)

    async def stop(self) -> None:
        """End."""
        await self.feed.close()
        await self.desk.playground.close()

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        self.feed.check()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return
