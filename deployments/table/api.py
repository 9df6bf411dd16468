"""The one interface of the performance table: `Table` has it in process, `RemoteTable` over Ray."""

from typing import Any, Protocol

from deployments.keys.key import Key
from deployments.records.leases import Ask, Grant, Spent
from deployments.records.records import (
    DecisionRecord,
    EngineRecord,
    EvaluationRecord,
    FeedbackRecord,
    OutcomeRecord,
    PolicyEvent,
)
from deployments.records.snapshot import ModelCard, ReplicaRow, Snapshot
from policies.promotion.rollout import RolloutState
from policies.scaling import Planned

Transition = tuple[DecisionRecord, OutcomeRecord | None]


class TableApi(Protocol):
    """Every method may raise TableError where the table is remote and cannot be reached.

    Methods that read or write the store raise StorageUnavailableError while it cannot be used.
    """

    # -- models and their replicas ----------------------------------------------------------------

    async def register_model(self, card: ModelCard) -> None:
        """Take over a model's card. Idempotent."""

    async def retire_model(self, model: str) -> None:
        """Forget a model that was taken out of the pool, unless it has a replica; its records stay."""

    async def push_replica(self, row: ReplicaRow, finished: list[EngineRecord]) -> str:
        """Take over a replica's live row and what its engine measured; returns the boot id."""

    async def drop_replica(self, replica: str) -> None:
        """Remove a replica that ends."""

    # -- ingress replicas -------------------------------------------------------------------------

    async def report_ingress(
        self,
        ingress: str,
        sequence: int,
        in_flight: dict[str, int],
        decisions: list[DecisionRecord],
        outcomes: list[OutcomeRecord],
        url: str = "",
        planned: dict[str, Planned] | None = None,
    ) -> int:
        """Take over an ingress replica's counts and records; returns `sequence` once they are durable.

        `url` is the base URL of its own HTTP server, which appears in the snapshot; empty where it has none.
        `planned` is what it has planned for each model since it began.
        Records that are there already are left alone, so a report may be sent again. Where the store cannot
        be used, the counts are taken over all the same.
        """

    async def replicas_wanted(
        self, app: str, settings: dict[str, Any], running: int, least: int, most: int
    ) -> int:
        """How many replicas the model of a Serve app should have, by `PlanSettings`.

        Raises ValueError for settings that are wrong.
        """

    async def snapshot(self, boot_id: str, version: int, timeout_s: float) -> Snapshot:
        """The present snapshot, once it is newer than (`boot_id`, `version`); at the timeout the same."""

    async def secret(self) -> str:
        """The bearer token between ingress and replicas; the same over restarts."""

    async def keys(self) -> tuple[str, dict[bytes, Key]]:
        """The API keys that hold by SHA-256, and their revision, which the snapshot has too."""

    # -- limits -----------------------------------------------------------------------------------

    async def lease(self, holder: str, asks: list[Ask]) -> list[Grant]:
        """Grant an ingress replica its parts of limits, for LEASE_S. Its asks must not overtake each other.

        What its outcomes cost is taken off the grant by `report_ingress`, under the same name.
        """

    async def spent(self, accounts: list[str], window: str) -> dict[str, Spent]:
        """What each account has used in the present window, such as `1d`."""

    # -- records ----------------------------------------------------------------------------------

    async def record_evaluations(self, records: list[EvaluationRecord]) -> int:
        """Store graded answers; returns how many were new."""

    async def evaluations(self, suite: str | None = None, model: str | None = None) -> list[EvaluationRecord]:
        """Graded answers, oldest first; of one suite or one model where given."""

    async def feedback(self, record: FeedbackRecord) -> str:
        """Store a vote before this returns "new"; one vote a decision and metric.

        "same": sent before; "conflict": another score is there, and stays; "unknown": no such decision of
        this key, also not a second later, as ingress replicas report only a few times a second;
        "cancelled": its client left before the end.
        """

    async def feedback_records(self, after_s: float) -> list[FeedbackRecord]:
        """Votes received after `after_s` (wall clock), oldest first."""

    async def transitions(self, after_s: float, limit: int) -> list[Transition]:
        """The decision log after `after_s` (wall clock), oldest first, with the outcomes known by now."""

    async def transitions_of(self, decision_ids: list[str]) -> list[Transition]:
        """These decisions, as far as they are stored, with the outcomes known by now."""

    async def start_of_newest(self, count: int) -> float:
        """Wall time after which the newest `count` decisions were made; -inf where there are no more."""

    async def forget(self, key_id: str, decision_id: str, by: str) -> dict[str, int]:
        """Delete the decisions of a key, or the one decision that is not "", with their outcomes and votes.

        Returns how many of each kind; that it was done, and `by` whom, is kept.
        """

    # -- learning ---------------------------------------------------------------------------------

    async def put_artifact(self, name: str, revision: str, data: bytes) -> None:
        """Store a blob in place of the one of that name; its revision appears in the snapshot."""

    async def artifact(self, name: str) -> tuple[str, bytes]:
        """Revision and bytes. Raises KeyError for an unknown name."""

    # Writes raise FencedError where another cluster on the same store is the one that writes; it may only
    # add artifacts of new names.

    async def set_rollout(self, state: RolloutState) -> RolloutState:
        """Store the rollout state, which appears in the snapshot; returns it with its new revision.

        Raises ConflictError where `state.revision` is not the stored one any more.
        """

    async def rollout(self) -> RolloutState:
        """The rollout state as last stored, ahead of the next snapshot."""

    async def policy_event(self, event: PolicyEvent) -> None:
        """Store a step of a policy version, once."""

    async def policy_events(self) -> list[PolicyEvent]:
        """All steps of all policy versions, oldest first."""

    # -- changes of the config --------------------------------------------------------------------

    async def config_change(self, name: str, detail: dict[str, Any]) -> None:
        """Store that something was configured anew."""

    async def config_changes(self, name: str) -> list[tuple[float, dict[str, Any]]]:
        """Wall time and detail of the changes of that name, oldest first."""

    # -- operation --------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """How the table itself fares, for operators."""


METHODS = frozenset(name for name in vars(TableApi) if not name.startswith("_"))
