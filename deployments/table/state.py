"""What a life of the table leaves to the next one, in the store."""

import secrets
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from deployments.table.statistics import TableStatistics
from deployments.table.store import ledger
from policies.promotion.rollout import RolloutState

decode_rollout = msgspec.msgpack.Decoder(RolloutState).decode


@dataclass(frozen=True, slots=True)
class TableState:
    """All that a table starts from."""

    secret: str
    statistics: TableStatistics
    live: bytes | None  # LiveRows.dump
    artifacts: dict[str, str]  # name -> revision
    rollout: RolloutState


def restore(connection: Connection, secret: str, now_s: float) -> TableState:
    """The last checkpoint and all that was stored after it. An earlier secret wins over the one given."""
    stored = ledger.read_state(connection, "secret")
    if stored is None:
        save_secret(connection, secret)
    rollout = ledger.read_state(connection, "policy")
    return TableState(
        secret=secret if stored is None else stored.decode(),
        statistics=_statistics(connection, now_s),
        live=ledger.read_state(connection, "live"),
        artifacts=ledger.artifact_revisions(connection),
        rollout=decode_rollout(rollout) if rollout else RolloutState(),
    )


def _statistics(connection: Connection, now_s: float) -> TableStatistics:
    checkpoint = ledger.read_state(connection, "statistics")
    statistics = TableStatistics.load(checkpoint) if checkpoint else TableStatistics()
    for sequence, outcome in ledger.outcomes_since(connection, statistics.sequence):
        statistics.add(outcome, now_s)
        statistics.sequence = sequence
    for evaluation in ledger.read_evaluations(connection, None, None):
        statistics.of(evaluation.model).add_score(evaluation)
    return statistics


def save_checkpoint(
    connection: Connection, statistics: bytes, live: bytes, secret: str, rollout: RolloutState
) -> None:
    """What the next life starts from; all of it, as the store may have been replaced by an empty one.

    `statistics` is TableStatistics.dump, `live` LiveRows.dump.
    """
    ledger.write_state(connection, "statistics", statistics)
    save_live(connection, live)
    save_secret(connection, secret)
    save_rollout(connection, rollout)


def save_secret(connection: Connection, secret: str) -> None:
    """The bearer token between ingress and replicas."""
    ledger.write_state(connection, "secret", secret.encode())


def save_live(connection: Connection, live: bytes) -> None:
    """Who is there, at once: a restart a moment later must know the replica that has just come."""
    ledger.write_state(connection, "live", live)


def save_rollout(connection: Connection, rollout: RolloutState) -> None:
    """The rollout state."""
    ledger.write_state(connection, "policy", msgspec.msgpack.encode(rollout))


def new_secret() -> str:
    """A bearer token between ingress and replicas."""
    return secrets.token_urlsafe(32)
