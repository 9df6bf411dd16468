"""The table on Ray: its actor, and an adapter that gives the actor the methods of a local Table."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from deployments.home import store_url
from deployments.metrics.meter import RayMeter
from deployments.records.records import (
    DecisionRecord,
    EngineRecord,
    EvaluationRecord,
    FeedbackRecord,
    OutcomeRecord,
    PolicyEvent,
)
from deployments.records.report import Report, decision_row, encode_report
from deployments.records.snapshot import ModelCard, ReplicaRow, Snapshot
from deployments.table.live import LiveRows
from deployments.table.publisher import decode_snapshot
from deployments.table.store.store import Store
from deployments.table.table import Table
from deployments.table.upkeep import Retention
from deployments.table.view import TableError, TableView
from policies.promotion.rollout import RolloutState

__all__ = ["RayTable", "TableError", "TableView", "get_or_create_table", "local_snapshot"]

VERSION: Final = 2  # raised when old and new code cannot share one actor
NAME: Final = f"fastserve:table:v{VERSION}"
NAMESPACE: Final = "fastserve"
CALL_S: Final = 10.0
HEAD: Final = "node:__internal_head__"


class TableActor(Table):
    """A Table that opens its own store: actors are made from what can be pickled."""

    def __init__(self, url: str, retention: Retention) -> None:
        super().__init__(Store(url), RayMeter(), retention)


def get_or_create_table(url: str | None = None) -> "ActorHandle[Any]":
    """The table's actor, made on the head node if there is none; ends those of older versions.

    It outlives whoever made it and restarts for ever. `url` names the store, by default `store_url()`.
    """
    for version in range(1, VERSION):
        try:
            ray.kill(ray.get_actor(f"fastserve:table:v{version}", NAMESPACE))
        except ValueError:  # there is none
            continue
    resources: dict[str, float] = ray.cluster_resources()
    actor: Any = ray.remote(TableActor).options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        num_cpus=0,
        max_concurrency=1000,
        resources={HEAD: 0.001} if HEAD in resources else None,
    )
    handle: ActorHandle[Any] = actor.remote(url or store_url(), _retention())
    return handle


def _retention() -> Retention:
    """From FASTSERVE_RETENTION_DAYS and FASTSERVE_RETENTION_ROWS, read where the table is first asked for."""
    days = float(os.environ.get("FASTSERVE_RETENTION_DAYS", "30"))
    return Retention(days * 86_400.0, int(os.environ.get("FASTSERVE_RETENTION_ROWS", "200000")))


class RayTable:
    """The methods of Table over an actor handle. Raises TableError while the actor cannot be reached."""

    def __init__(self, actor: "ActorHandle[Any]") -> None:
        self.actor = actor

    async def _call(self, method: str, *args: object, timeout_s: float = CALL_S) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await getattr(self.actor, method).remote(*args)
        except RayTaskError as error:
            raise error.cause from None
        except (RayError, TimeoutError) as error:
            reason = str(error) or "timeout"
            raise TableError(f"Table '{NAME}' did not answer '{method}': {reason}.") from error

    async def register_model(self, card: ModelCard) -> None:
        await self._call("register_model", card)

    async def retire_model(self, model: str) -> None:
        await self._call("retire_model", model)

    async def push_replica(self, row: ReplicaRow, finished: list[EngineRecord]) -> str:
        return str(await self._call("push_replica", row, finished))

    async def drop_replica(self, replica: str) -> None:
        await self._call("drop_replica", replica)

    async def report_ingress(
        self,
        ingress: str,
        sequence: int,
        in_flight: dict[str, int],
        decisions: list[DecisionRecord],
        outcomes: list[OutcomeRecord],
    ) -> int:
        rows = [decision_row(record) for record in decisions]
        data = encode_report(Report(ingress, sequence, in_flight, rows, outcomes))
        return int(await self._call("report_encoded", data))

    async def snapshot(self, boot_id: str, version: int, timeout_s: float) -> Snapshot:
        data = await self._call("snapshot_bytes", boot_id, version, timeout_s, timeout_s=timeout_s + CALL_S)
        return decode_snapshot(data)

    async def secret(self) -> str:
        return str(await self._call("secret"))

    async def record_evaluations(self, records: list[EvaluationRecord]) -> int:
        return int(await self._call("record_evaluations", records))

    async def evaluations(self, suite: str | None = None, model: str | None = None) -> list[EvaluationRecord]:
        return list(await self._call("evaluations", suite, model, timeout_s=60.0))

    async def feedback(self, record: FeedbackRecord) -> str:
        return str(await self._call("feedback", record))

    async def feedback_records(self, after_s: float) -> list[FeedbackRecord]:
        return list(await self._call("feedback_records", after_s, timeout_s=60.0))

    async def transitions(
        self, after_s: float, limit: int
    ) -> list[tuple[DecisionRecord, OutcomeRecord | None]]:
        return list(await self._call("transitions", after_s, limit, timeout_s=60.0))

    async def transitions_of(
        self, decision_ids: list[str]
    ) -> list[tuple[DecisionRecord, OutcomeRecord | None]]:
        return list(await self._call("transitions_of", decision_ids, timeout_s=60.0))

    async def start_of_newest(self, count: int) -> float:
        return float(await self._call("start_of_newest", count))

    async def put_artifact(self, name: str, revision: str, data: bytes) -> None:
        await self._call("put_artifact", name, revision, data, timeout_s=60.0)

    async def artifact(self, name: str) -> tuple[str, bytes]:
        revision, data = await self._call("artifact", name, timeout_s=60.0)
        return revision, data

    async def set_rollout(self, state: RolloutState) -> None:
        await self._call("set_rollout", state)

    async def rollout(self) -> RolloutState:
        state: RolloutState = await self._call("rollout")
        return state

    async def policy_event(self, event: PolicyEvent) -> None:
        await self._call("policy_event", event)

    async def policy_events(self) -> list[PolicyEvent]:
        return list(await self._call("policy_events"))

    async def status(self) -> dict[str, Any]:
        return dict(await self._call("status"))

    async def config_change(self, name: str, detail: dict[str, Any]) -> None:
        await self._call("config_change", name, detail)


def local_snapshot(
    cards: Mapping[str, ModelCard] | None = None, replicas: list[ReplicaRow] | None = None
) -> Snapshot:
    """A snapshot for tests: these models with these warm replicas, just pushed."""
    rows = LiveRows()
    for card in (cards or {}).values():
        rows.register(card, 0.0)
    for row in replicas or []:
        rows.push(row, 0.0)
    return Snapshot("local", 1, 0.0, rows.models({}))
