"""The Serve deployment `Ingress`: the endpoint with its table and its settings from `user_config`."""

import asyncio
import gc
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deployments.background import Background
from deployments.dispatch.dispatcher import Dispatcher
from deployments.draining import drain_on_sigterm
from deployments.listening import Listening
from deployments.logger import get_logger
from deployments.metrics.meter import MemoryMeter, ray_meter
from deployments.model.config import SHUTDOWN_MARGIN_S
from deployments.node import node_address, require_authentication
from deployments.records.snapshot import Snapshot
from deployments.table.api import TableApi
from deployments.table.connect import join_table
from deployments.table.view import TableView
from serve_app.access.keys import KeyRing
from serve_app.access.leases import RENEW_S, Leases
from serve_app.access.limits import Limiter
from serve_app.access.prices import unpriced
from serve_app.asgi import create_app
from serve_app.config import IngressConfig, IngressSettings, TracingSettings
from serve_app.grading import Grader
from serve_app.http import guard, haproxy
from serve_app.http.cors import ORIGINS, App
from serve_app.metrics import IngressMetrics
from serve_app.routes.configured import PERIOD_S as CONFIGURED_S
from serve_app.routes.configured import ConfiguredModels, serve_apps
from serve_app.routes.endpoint import Endpoint
from serve_app.routes.report import Reporter
from serve_app.routes.request_log import RequestLog
from serve_app.upstream.attempt import PERIOD_S
from serve_app.upstream.ejection import Ejections
from serve_app.upstream.forward import Forwarder
from serve_app.upstream.replicas import Upstreams

if TYPE_CHECKING:
    from serve_app.tracing import Tracing

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
        configured: ConfiguredModels | None = None,
    ) -> None:
        """`table`, `name` and `configured` are found on Ray when not given; `companions` only share the app.

        Raises RuntimeError on Ray without the guard, where Ray is open to others, or where HAProxy would not
        speak the TLS that is asked for.
        """
        self.listening = _on_ray(config) if table is None else None
        self.config = config
        self.table = table if table is not None else join_table()
        settings = IngressSettings()
        self.view = TableView(self.table, name or _replica_name(), url=self._url)
        self.ejections = Ejections()
        self.upstreams = Upstreams(self.view, self.ejections)
        self.dispatcher = Dispatcher(self.view, settings.dispatch, ejected=self.upstreams.avoided)
        self.view.on_snapshot = self._look
        self.view.planned = self.dispatcher.planner.totals
        self.metrics = IngressMetrics(ray_meter() if table is None else MemoryMeter())
        self.forwarder = Forwarder(self.view, self.upstreams, settings, self.metrics)
        self._configured = configured or ConfiguredModels(serve_apps if table is None else frozenset)
        self.leases = Leases(self.table, self.view.ingress, self.metrics.degraded)
        self._reporter = Reporter(self.view, self.dispatcher.settlement, self.metrics, RequestLog())
        self.endpoint = Endpoint(
            self.view,
            self.dispatcher,
            self.forwarder,
            KeyRing(self.view),
            settings,
            self._reporter,
            Limiter(self.leases),
            max_in_flight=config.max_in_flight,
            configured=self._configured,
        )
        self._grader = self.endpoint.grader = Grader(self.endpoint, self.table, self.metrics.meter)
        self._tracing: Tracing | None = None
        self._guarded = table is None
        self._unpriced: list[str] = []
        self._background = Background("ingress", meter=self.metrics.meter)

    def _url(self) -> str:
        return self.listening.url if self.listening is not None else ""

    def reconfigure(self, user_config: Mapping[str, Any] | None) -> None:
        """Take `user_config` live. Raises ValueError for a bad one, which changes nothing."""
        settings = IngressSettings.model_validate(user_config or {})
        tracing = self._tracing_of(settings.tracing)
        self.endpoint.reconfigure(settings)
        if tracing is not self._tracing:
            self._trace(tracing)
        ORIGINS.allow(settings.cors_origins)
        logger.info("Ingress took new settings, profiles: %s.", sorted(settings.dispatch.profiles))

    def _tracing_of(self, settings: TracingSettings) -> "Tracing | None":
        """The tracer of these settings: the present one where they have not changed. Raises ValueError."""
        if settings == self.endpoint.settings.tracing:
            return self._tracing
        if settings.endpoint is None:
            return None
        try:
            from serve_app.tracing import Tracing  # the SDK is loaded only where it is used
        except ImportError as error:
            lacks = f"'tracing' needs a package that is not installed here: {error}."
            raise ValueError(f"{lacks} pip install 'fastserve-dispatch[tracing]' on every node.") from error
        return Tracing(settings, self.view.ingress, self.metrics.degraded)

    def _trace(self, tracing: "Tracing | None") -> None:
        """Take a tracer from now on; the one before sends what it has."""
        if self._tracing is not None:
            self._tracing.close()
        self._tracing = self.endpoint.tracing = tracing

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
        self._background.repeat("leases", self.leases.renew, RENEW_S)
        self._background.repeat("housekeeping", self._keep_house, _HOUSEKEEPING_S)
        self._background.repeat("grading", self._grader.turn, _HOUSEKEEPING_S)
        self._background.repeat("configured", self._configured.refresh, CONFIGURED_S)

    def check_health(self) -> None:
        """Serve replaces the replica when this raises: a background task that ended will not come back."""
        self._background.check()
        self.view.check()

    async def stop(self) -> None:
        """End: what is recorded is sent before the connections close."""
        await self._background.close()
        await self.view.close()
        await self.upstreams.close()
        self._reporter.close()
        self._trace(None)

    def _look(self) -> None:
        """There is another snapshot: prepare for the next request, and see to those that wait."""
        self.dispatcher.prepare()
        self.forwarder.room.pump()

    async def _watch(self) -> None:
        self.forwarder.room.pump()
        self.forwarder.watch.look(asyncio.get_running_loop().time())

    def _check_prices(self, snapshot: Snapshot) -> None:
        """Say that a dollar limit does not hold, as long as a model has no price."""
        cards = [row.card for row in snapshot.models.values()]
        found = unpriced(cards, self.endpoint.keys.keys, self.endpoint.settings)
        if found:
            self.metrics.degraded("price 0 under a dollar limit")
        for sentence in (sentence for _, sentence in found):
            if sentence not in self._unpriced:
                logger.error(sentence)
        self._unpriced = [sentence for _, sentence in found]

    async def _catch_up(self, snapshot: Snapshot) -> None:
        """Read the artifacts of the table that this replica lacks."""
        if self.dispatcher.host.wanted(snapshot):
            await self.dispatcher.host.refresh(snapshot, self.table.artifact)
        if self.endpoint.tokenizers.wanted(snapshot):
            await self.endpoint.tokenizers.refresh(snapshot, self.table.artifact)

    async def _retire(self, snapshot: Snapshot) -> None:
        """Take models out of the table that have neither app nor replica: the last one crashed."""
        for model, row in snapshot.models.items():
            if not row.replicas and self._configured.lacks(model):
                logger.warning("Model '%s' has no app and no replica any more: it leaves the table.", model)
                await self.table.retire_model(model)

    async def _keep_house(self) -> None:
        """Slow work: replicas gone for good, new models and policies for the dispatcher."""
        self.metrics.watch(self.view)
        self.metrics.queued(self.forwarder.room.depths())
        self._reporter.flush()
        if self.endpoint.keys.problem:
            self.metrics.degraded("no API key accepted")
        self.upstreams.forget(self.upstreams.known())
        snapshot = self.view.snapshot
        self._check_prices(snapshot)
        await self._retire(snapshot)
        await self._catch_up(snapshot)


def _on_ray(config: IngressConfig) -> Listening:
    """What a replica needs on Ray before anything else. Raises RuntimeError, see Ingress."""
    guard.require_installed()
    haproxy.require_launched(os.environ)
    address = node_address()
    require_authentication(address)
    listening = Listening(address)
    listening.install()
    drain_on_sigterm(config.drain_s + SHUTDOWN_MARGIN_S)
    return listening


def _replica_name() -> str:
    from ray import serve

    return str(serve.get_replica_context().replica_id.unique_id)
