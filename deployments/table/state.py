"""What a life of the table leaves to the next one, in the store."""

import secrets
from dataclasses import dataclass, replace

import msgspec
from sqlalchemy import Connection

from deployments.logger import get_logger
from deployments.table.keys import StoredKeys, read_stored_keys
from deployments.table.statistics import TableStatistics
from deployments.table.store import ledger
from policies.promotion.rollout import RolloutState

logger = get_logger(__name__)

decode_rollout = msgspec.msgpack.Decoder(RolloutState).decode


@dataclass(frozen=True, slots=True)
class TableState:
    """All that a table starts from."""

    secret: str
    statistics: TableStatistics
    live: bytes | None  # LiveRows.dump
    artifacts: dict[str, str]  # name -> revision
    rollout: RolloutState
    keys: StoredKeys


def restore(connection: Connection, secret: str, now_s: float) -> TableState:
    """The last checkpoint and all that was stored after it. An earlier secret wins over the one given."""
    stored = ledger.read_state(connection, "secret")
    if stored is None:
        save_secret(connection, secret)
    return TableState(
        secret=secret if stored is None else stored.decode(),
        statistics=_statistics(connection, now_s),
        live=ledger.read_state(connection, "live"),
        artifacts=ledger.artifact_revisions(connection),
        rollout=read_rollout(connection),
        keys=read_stored_keys(connection),
    )


def _statistics(connection: Connection, now_s: float) -> TableStatistics:
    statistics = _checkpoint(connection)
    for sequence, outcome in ledger.outcomes_since(connection, statistics.sequence):
        statistics.add(outcome, now_s)
        statistics.sequence = sequence
    for evaluation in ledger.read_evaluations(connection, None, None):
        statistics.of(evaluation.model).add_score(evaluation)
    return statistics


def _checkpoint(connection: Connection) -> TableStatistics:
    """The last checkpoint. One of another version is left out: then all stored outcomes count anew."""
    checkpoint = ledger.read_state(connection, "statistics")
    try:
        return TableStatistics.load(checkpoint) if checkpoint else TableStatistics()
    except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
        logger.error("The checkpoint of the statistics is of another version, counting anew: %s", error)
        return TableStatistics()


def save_checkpoint(
    connection: Connection, statistics: bytes, live: bytes, secret: str, rollout: RolloutState
) -> None:
    """What the next life starts from; all of it, as the store may have been replaced by an empty one.

    `statistics` is TableStatistics.dump, `live` LiveRows.dump.
    """
    ledger.write_state(connection, "statistics", statistics)
    save_live(connection, live)
    save_secret(connection, secret)
    if read_rollout(connection).revision == 0 and rollout.revision > 0:
        save_rollout(connection, replace(rollout, revision=0))


def save_secret(connection: Connection, secret: str) -> None:
    """The bearer token between ingress and replicas."""
    ledger.write_state(connection, "secret", secret.encode())


def save_live(connection: Connection, live: bytes) -> None:
    """Who is there, at once: a restart a moment later must know the replica that has just come."""
    ledger.write_state(connection, "live", live)


def read_rollout(connection: Connection) -> RolloutState:
    """The rollout state with its revision."""
    revision, state = ledger.read_rollout(connection)
    return RolloutState() if state is None else replace(decode_rollout(state), revision=revision)


def save_rollout(connection: Connection, rollout: RolloutState) -> bool:
    """Stores the rollout state where its revision is the stored one; tells whether it was."""
    return ledger.write_rollout(connection, rollout.revision, msgspec.msgpack.encode(rollout))


def save_writer(connection: Connection, description: str) -> None:
    """Who writes policy state now, for the status of a cluster that waits."""
    ledger.write_state(connection, "writer", description.encode())


def read_writer(connection: Connection) -> str:
    """Who wrote policy state last; '' where nobody did."""
    return (ledger.read_state(connection, "writer") or b"").decode()


def new_secret() -> str:
    """A bearer token between ingress and replicas."""
    return secrets.token_urlsafe(32)
