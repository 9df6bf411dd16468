"""The Serve deployment `Ingress`: the endpoint with its table and its settings from `user_config`."""

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from typing import Any

from deployments.background import Background
from deployments.dispatch.dispatcher import Dispatcher
from deployments.home import home
from deployments.logger import get_logger
from deployments.metrics.meter import MemoryMeter, RayMeter
from deployments.records.snapshot import Snapshot
from deployments.table.api import TableApi
from deployments.table.connect import join_table
from deployments.table.view import TableView
from serve_app.access.keys import KEY_FILE, KeyRing, ensure_key
from serve_app.access.limits import DAY_S
from serve_app.access.prices import unpriced
from serve_app.access.spending import spent_by_key
from serve_app.asgi import create_app
from serve_app.config import IngressConfig, IngressSettings
from serve_app.http import guard
from serve_app.http.cors import ORIGINS, App
from serve_app.metrics import IngressMetrics
from serve_app.routes.endpoint import Endpoint
from serve_app.routes.report import Reporter
from serve_app.upstream.attempt import PERIOD_S
from serve_app.upstream.ejection import Ejections
from serve_app.upstream.forward import Forwarder
from serve_app.upstream.replicas import Upstreams

logger = get_logger(__name__)

_HOUSEKEEPING_S = 1.0


class Ingress:
    """One replica of the endpoint. Everything a request needs is in this process."""

    def __init__(
        self,
        config: IngressConfig,
        table: TableApi | None = None,
        name: str = "",
        companions: Sequence[object] = (),
    ) -> None:
        """`table` and `name` are found on Ray when not given; `companions` only share the app.

        Raises RuntimeError on Ray without the guard, ValueError or OSError without a usable key file.
        """
        if table is None:
            guard.require_installed()
        self.config = config
        self.table = table if table is not None else join_table()
        settings = IngressSettings()
        self.view = TableView(self.table, name or _replica_name())
        self.ejections = Ejections()
        self.upstreams = Upstreams(self.view, self.ejections)
        self.dispatcher = Dispatcher(self.view, settings.dispatch, ejected=self.upstreams.avoided)
        self.view.on_snapshot = self.dispatcher.prepare
        self.metrics = IngressMetrics(RayMeter() if table is None else MemoryMeter())
        self.forwarder = Forwarder(self.view, self.upstreams, settings, self.metrics)
        self.endpoint = Endpoint(
            self.view,
            self.dispatcher,
            self.forwarder,
            KeyRing(ensure_key(home()).with_name(KEY_FILE)),
            settings,
            Reporter(self.view, self.dispatcher.settlement, self.metrics),
            max_in_flight=config.max_in_flight,
        )
        self._guarded = table is None
        self._unpriced: list[str] = []
        self._counts_from_s: float | None = time.time()  # None once earlier spending is restored
        self._background = Background("ingress", meter=self.metrics.meter)

    def reconfigure(self, user_config: Mapping[str, Any] | None) -> None:
        """Take `user_config` live. Raises ValueError for a bad one, which changes nothing."""
        settings = IngressSettings.model_validate(user_config or {})
        self.endpoint.reconfigure(settings)
        ORIGINS.allow(settings.cors_origins)
        logger.info("Ingress took new settings, profiles: %s.", sorted(settings.dispatch.profiles))

    def __serve_build_asgi_app__(self) -> App:
        """Serve's hook for an app that is made in the replica."""
        return self.app()

    def app(self) -> App:
        """The ASGI app; its lifespan runs the background work."""
        return create_app(self.endpoint, self.table, self.start, self.stop, guarded=self._guarded)

    async def start(self) -> None:
        """Begin: connections, the table's snapshots, the watch over tries."""
        self.upstreams.open(self.endpoint.settings.deadlines)
        await self.view.start()
        gc.collect()
        gc.freeze()  # what a start makes stays: a full collection over it stops all requests for 0.1 s
        self._background.repeat("attempts", self._watch, PERIOD_S)
        self._background.repeat("housekeeping", self._keep_house, _HOUSEKEEPING_S)

    def check_health(self) -> None:
        """Serve replaces the replica when this raises: a background task that ended will not come back."""
        self._background.check()
        self.view.check()

    async def stop(self) -> None:
        """End: what is recorded is sent before the connections close."""
        await self._background.close()
        await self.view.close()
        await self.upstreams.close()

    async def _watch(self) -> None:
        self.forwarder.watch.look(asyncio.get_running_loop().time())

    def _check_prices(self, snapshot: Snapshot) -> None:
        """Say that a dollar limit does not hold, as long as a model has no price."""
        cards = [row.card for row in snapshot.models.values()]
        found = unpriced(cards, self.endpoint.keys.keys, self.endpoint.settings.dispatch)
        if found:
            self.metrics.degraded("price 0 under a dollar limit")
        for sentence in found:
            if sentence not in self._unpriced:
                logger.error(sentence)
        self._unpriced = found

    async def _catch_up(self, snapshot: Snapshot) -> None:
        """Read of the table what this replica lacks: artifacts, and what keys spent before it began."""
        if self.dispatcher.host.wanted(snapshot):
            await self.dispatcher.host.refresh(snapshot, self.table.artifact)
        if self.endpoint.tokenizers.wanted(snapshot):
            await self.endpoint.tokenizers.refresh(snapshot, self.table.artifact)
        began_s = self._counts_from_s
        if began_s is not None and any(k.limits.usd_per_day is not None for k in self.endpoint.keys.keys):
            day_s = time.time() // DAY_S * DAY_S
            self.endpoint.limiter.restore(await spent_by_key(self.table, day_s, began_s))
            self._counts_from_s = None

    async def _keep_house(self) -> None:
        """Slow work: changed keys, replicas gone for good, new models and policies for the dispatcher."""
        self.metrics.watch(self.view)
        self.endpoint.keys.refresh()
        self.ejections.forget(self.upstreams.known())
        snapshot = self.view.snapshot
        self._check_prices(snapshot)
        await self._catch_up(snapshot)


def _replica_name() -> str:
    from ray import serve

    return str(serve.get_replica_context().replica_id.unique_id)
