"""The Serve deployment `Model`: one replica of one LLM, with its engine, its HTTP server and its reports."""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus

from deployments.draining import drain_on_sigterm
from deployments.home import home
from deployments.listening import LOOPBACK, Listening
from deployments.logger import get_logger
from deployments.model.config import SHUTDOWN_S, ModelConfig
from deployments.model.engines.base import LAST_PATIENCE, Engine, EngineError, EngineStats
from deployments.model.files import read_tokenizer
from deployments.model.load import ProcessLoad
from deployments.model.pusher import Pusher
from deployments.model.server import Admission, EngineServer
from deployments.model.settings import ModelSettings
from deployments.node import node_address
from deployments.records.snapshot import ReplicaRow, ReplicaState, tokenizer_artifact
from deployments.table.api import TableApi
from deployments.table.connect import join_table
from deployments.table.errors import StorageUnavailableError, TableError

logger = get_logger(__name__)

JOIN_RETRY_S = 0.5
_TEMPLATE_FLAGS = frozenset({"chat-template", "chat_template"})  # the engine renders by another one then
NOTICE_S = 1.0  # the ingress replicas hear that this one leaves, before it refuses
DRAIN_POLL_S = 0.05


def make_engine(config: ModelConfig) -> Engine:
    """The engine that `config` names; only that engine's libraries are imported."""
    if config.engine == "vllm":
        from deployments.model.engines.vllm import VllmEngine

        return VllmEngine(config)
    if config.engine == "openai":
        from deployments.model.engines.openai import OpenAiEngine

        return OpenAiEngine(config)
    from deployments.model.engines.simulated.engine import SimulatedEngine
    from deployments.model.simulated_settings import SimulatedSettings

    return SimulatedEngine(config.id, config.context_tokens, config.simulated or SimulatedSettings())


class Model:
    """A replica: it loads the engine, serves it on a port of its own and reports to the performance table.

    Ray Serve awaits the first `reconfigure`, so a replica counts as running only when its engine serves and
    its card is never one without its settings. It awaits `__del__` too.
    """

    def __init__(
        self,
        config: ModelConfig,
        table: TableApi | None = None,
        host: str | None = None,
        replica: str | None = None,
        is_removed: Callable[[], bool] | None = None,
    ) -> None:
        if table is None:
            Listening(LOOPBACK).install()
            drain_on_sigterm(SHUTDOWN_S)
        self.config = config
        self.settings = ModelSettings()
        self.replica = replica or replica_name()
        self._state = ReplicaState.COLD
        self._engine = make_engine(config)
        self._load = ProcessLoad()
        self._admission = Admission(self._token, self.settings.max_ongoing_requests)
        self._server = EngineServer(self._admission, host or node_address())
        self._table = table or join_table()
        self._tokenizer = ""
        self._is_removed = is_removed or app_is_deleted
        self._pusher = Pusher(self._table, config.id, self.row)
        self._begun = False

    async def reconfigure(self, user_config: Mapping[str, Any] | None) -> None:
        """Take live settings. Serve calls it before a replica counts as running: the first begins everything.

        Raises:
            ValueError: settings that are wrong, which change nothing.
            EngineError: the engine cannot start.
        """
        settings = ModelSettings.model_validate(user_config or {})
        self._engine.reconfigure(settings)
        self.settings = settings
        self._admission.limit = settings.max_ongoing_requests
        self._declare()
        if not self._begun:
            self._begun = True
            await self._begin()

    async def _begin(self) -> None:
        await self._server.start()
        await self._join_table()
        self._admission.app = await self._engine.start()
        await self._publish_tokenizer()
        self._state = ReplicaState.WARM
        self._pusher.touch()
        logger.info("Model '%s' serves on %s.", self.config.id, self._server.url)

    def _declare(self) -> None:
        self._pusher.declare(self.config.card(self.settings, self._tokenizer))

    def _token(self) -> str:
        return self._pusher.secret

    async def _join_table(self) -> None:
        """Register and learn the internal secret; a table that is away is waited for."""
        while True:
            try:
                await self._pusher.start()
                return
            except TableError as error:
                logger.warning("Model '%s' waits for the table: %s", self.config.id, error)
                await asyncio.sleep(JOIN_RETRY_S)

    async def _publish_tokenizer(self) -> None:
        """Hand the table the tokenizer by which prompts are counted before they are sent here."""
        config = self.config
        data = await asyncio.to_thread(
            read_tokenizer,
            config.source,
            home(),
            config.revision,
            with_template=config.engine == "vllm" and _TEMPLATE_FLAGS.isdisjoint(config.engine_args),
        )
        if data is None:
            return
        tokenizer = hashlib.sha256(data).hexdigest()[:16]
        try:
            await self._table.put_artifact(tokenizer_artifact(tokenizer), tokenizer, data)
        except (TableError, StorageUnavailableError) as error:
            logger.warning("Prompts to '%s' are not counted beforehand: %s", self.config.id, error)
            return
        self._tokenizer = tokenizer
        self._declare()

    async def check_health(self) -> None:
        """Serve replaces the replica when this fails.

        Raises:
            EngineError: the engine is dead or stalled, or the HTTP server ended.
        """
        if not self._begun:
            raise EngineError(f"Model '{self.config.id}' has user_config null: remove that line of the file.")
        if not self._server.alive:
            raise EngineError(f"The HTTP server of model '{self.config.id}' ended.")
        if self.state() is ReplicaState.STALLED and not await self._is_the_last_and_slow():
            raise EngineError(f"Model '{self.config.id}' made no step for {self.settings.stall_s:g} s.")
        await self._engine.check_health()

    async def _is_the_last_and_slow(self) -> bool:
        """Whether the engine still computes and no other replica of the model would answer meanwhile: who
        replaced this one would lose what it has, and meet the same prompts again."""
        stats, limit_s = self._engine.stats(), self.settings.stall_s
        if not stats.is_computing or stats.is_stalled(time.monotonic(), limit_s, LAST_PATIENCE):
            return False
        try:
            found = (await self._table.snapshot("", 0, 0.0)).models.get(self.config.id)
        except TableError:
            found = None
        others = [row.state for row in found.replicas if row.replica != self.replica] if found else []
        if ReplicaState.WARM in others:
            return False
        self._pusher.metrics.spared()
        return True

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Requests in the replica or waiting for it, for deployments.model.autoscaling."""
        return {"ongoing": float(self._admission.wanted)}

    def state(self) -> ReplicaState:
        """The replica's state now."""
        if self._state is not ReplicaState.WARM:
            return self._state
        stalled = self._engine.stats().is_stalled(time.monotonic(), self.settings.stall_s)
        return ReplicaState.STALLED if stalled else ReplicaState.WARM

    def row(self) -> ReplicaRow:
        """What the replica tells the table about itself; hands over the finished requests on the way."""
        serving = self._state is not ReplicaState.COLD
        stats = self._engine.stats() if serving else EngineStats()
        for record in self._engine.take_finished() if serving else []:
            self._pusher.finished(record)
        cpu_share, memory_bytes = self._load.sample()
        return ReplicaRow(
            replica=self.replica,
            model=self.config.id,
            url=self._server.url,
            state=self.state(),
            running=stats.running,
            waiting=stats.waiting,
            slots=min(stats.slots, self.settings.max_ongoing_requests),
            kv_use=stats.kv_use,
            prefix_hit_rate=stats.prefix_hit_rate,
            tokens_per_s=stats.tokens_per_s,
            cpu_share=cpu_share,
            gpu_share=stats.gpu_share,
            memory_bytes=memory_bytes,
            kv_tokens=stats.kv_tokens,
            step_s=stats.step_s(time.monotonic()),
        )

    def __del__(self) -> Coroutine[Any, Any, None] | None:
        """Leave. Serve awaits what this returns; Python, which collects the object later, gets nothing."""
        if not self.__dict__.get("_begun") or self._state is ReplicaState.DRAINING:
            return None
        return self.leave()

    async def leave(self) -> None:
        """Tell the table, let streams end for at most `drain_s`, free everything."""
        self._state = ReplicaState.DRAINING
        self._pusher.touch()
        until_s = time.monotonic() + self.settings.drain_s
        await asyncio.sleep(min(NOTICE_S, self.settings.drain_s))
        self._admission.draining = True
        while self._admission.ongoing and time.monotonic() < until_s:
            await asyncio.sleep(DRAIN_POLL_S)
        await self._pusher.close()
        await self._retire()
        await self._server.stop()
        await self._engine.stop()

    async def _retire(self) -> None:
        """Take the model out of the table if it is taken out of the pool, not merely scaled or redeployed."""
        if await asyncio.to_thread(self._is_removed):
            try:
                await self._table.retire_model(self.config.id)
            except TableError as error:
                logger.warning("Model '%s' stays listed: %s", self.config.id, error)


def app_is_deleted() -> bool:
    """Whether Serve is deleting the app of this replica; False outside Serve."""
    try:
        app = serve.get_replica_context().app_name
    except RayServeException:
        return False
    status = serve.status().applications.get(app)
    return status is None or status.status is ApplicationStatus.DELETING


def replica_name() -> str:
    """Serve's id of this replica; a random one outside Serve."""
    try:
        return str(serve.get_replica_context().replica_id.unique_id)
    except RayServeException:
        return uuid.uuid4().hex[:8]
