"""What the table reads and writes in its store: each function runs inside one transaction."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Select, Table, delete, func, insert, select, update

from deployments.records.decision_id import of_request, request_of
from deployments.records.records import (
    DecisionRecord,
    EvaluationRecord,
    FeedbackRecord,
    OutcomeRecord,
    PolicyEvent,
)
from deployments.records.report import DecisionRow
from deployments.table.store import schema
from deployments.table.store.seal import Sealer
from policies.outcome import Status

CHUNK: Final = 500  # values in one IN (...), below every database's limit

encode = msgspec.msgpack.Encoder().encode
_decision = msgspec.msgpack.Decoder(DecisionRecord).decode
_outcome = msgspec.msgpack.Decoder(OutcomeRecord).decode
_evaluation = msgspec.msgpack.Decoder(EvaluationRecord).decode
_feedback = msgspec.msgpack.Decoder(FeedbackRecord).decode
_event = msgspec.msgpack.Decoder(PolicyEvent).decode
_detail = msgspec.msgpack.Decoder(dict[str, Any]).decode


def _sealer(connection: Connection) -> Sealer:
    """The sealer of the store that the connection belongs to, see `Store`."""
    sealer: Sealer = connection.get_execution_options()["sealer"]
    return sealer


def _opened(
    connection: Connection, query: Select[Any]
) -> Iterator[tuple[DecisionRecord, OutcomeRecord | None]]:
    """The transitions of a query for both records, without those whose decision no key opens."""
    sealer = _sealer(connection)
    for sealed_decision, sealed_outcome in connection.execute(query):
        decision = sealer.try_open(sealed_decision, schema.decisions.name)
        if decision is None:
            continue
        outcome = sealed_outcome and sealer.try_open(sealed_outcome, schema.outcomes.name)
        yield _decision(decision), _outcome(outcome) if outcome else None


def _present(connection: Connection, column: Column[Any], values: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(values), CHUNK):
        query = select(column).where(column.in_(values[start : start + CHUNK]))
        found.update(connection.scalars(query))
    return found


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def write_decisions(connection: Connection, decisions: Iterable[DecisionRow]) -> int:
    """Stores those that are not there yet; returns how many."""
    by_id = {row.decision_id: row for row in decisions}
    present = _present(connection, schema.decisions.c.decision_id, list(by_id))
    sealer = _sealer(connection)
    rows = [
        {**msgspec.structs.asdict(row), "record": sealer.seal(row.record, schema.decisions.name)}
        for row in by_id.values()
        if row.decision_id not in present
    ]
    _insert(connection, schema.decisions, rows)
    return len(rows)


def write_outcomes(connection: Connection, records: Iterable[OutcomeRecord]) -> list[OutcomeRecord]:
    """Stores those that are not there yet and returns them, in the order of their sequence."""
    by_id = {record.decision_id: record for record in records}
    present = _present(connection, schema.outcomes.c.decision_id, list(by_id))
    new = [record for record in by_id.values() if record.decision_id not in present]
    sealer = _sealer(connection)
    rows = [
        {
            "decision_id": r.decision_id,
            "finished_s": r.finished_s,
            "model": r.model,
            "status": r.outcome.status.value,
            "record": sealer.seal(encode(r), schema.outcomes.name),
        }
        for r in new
    ]
    _insert(connection, schema.outcomes, rows)
    return new


def last_sequence(connection: Connection) -> int:
    """Sequence of the newest outcome, 0 where there is none."""
    query = select(schema.outcomes.c.sequence).order_by(schema.outcomes.c.sequence.desc()).limit(1)
    return int(connection.scalar(query) or 0)


def outcomes_since(connection: Connection, sequence: int) -> Iterator[tuple[int, OutcomeRecord]]:
    """Outcomes after `sequence` with theirs, oldest first."""
    table = schema.outcomes.c
    query = select(table.sequence, table.record).where(table.sequence > sequence).order_by(table.sequence)
    sealer = _sealer(connection)
    for number, sealed in connection.execute(query.execution_options(yield_per=CHUNK)):
        record = sealer.try_open(sealed, schema.outcomes.name)
        if record is not None:
            yield number, _outcome(record)


def update_outcomes(connection: Connection, records: Iterable[OutcomeRecord]) -> None:
    """Replaces stored outcomes by the same ones joined with what their engines measured."""
    table = schema.outcomes
    for record in records:
        statement = update(table).where(table.c.decision_id == record.decision_id)
        sealed = _sealer(connection).seal(encode(record), table.name)
        connection.execute(statement.values(record=sealed))


def read_transitions(
    connection: Connection, after_s: float, limit: int
) -> list[tuple[DecisionRecord, OutcomeRecord | None]]:
    """Decisions made after `after_s`, oldest first, each with its outcome where it has one."""
    decisions, outcomes = schema.decisions, schema.outcomes
    query = (
        select(decisions.c.record, outcomes.c.record)
        .outerjoin(outcomes, outcomes.c.decision_id == decisions.c.decision_id)
        .where(decisions.c.created_s > after_s)
        .order_by(decisions.c.created_s)
        .limit(limit)
    )
    return list(_opened(connection, query))


def read_transitions_of(
    connection: Connection, decision_ids: Sequence[str]
) -> list[tuple[DecisionRecord, OutcomeRecord | None]]:
    """These decisions, as far as they are stored, each with its outcome where it has one."""
    decisions, outcomes = schema.decisions, schema.outcomes
    query = select(decisions.c.record, outcomes.c.record).outerjoin(
        outcomes, outcomes.c.decision_id == decisions.c.decision_id
    )
    found: list[tuple[DecisionRecord, OutcomeRecord | None]] = []
    for start in range(0, len(decision_ids), CHUNK):
        chosen = query.where(decisions.c.decision_id.in_(decision_ids[start : start + CHUNK]))
        found += _opened(connection, chosen)
    return found


def repeated(connection: Connection, decision_ids: Sequence[str]) -> set[str]:
    """Those whose request was let in once more, later, for the same key."""
    table = schema.decisions.c
    found = set()
    for identifier in decision_ids:
        request = request_of(identifier)
        if request is None:
            continue
        query = select(table.decision_id, table.created_s, table.key_id).where(_of(request))
        tries = connection.execute(query).all()
        own = next((row for row in tries if row.decision_id == identifier), None)
        if own is not None and any(r.created_s > own.created_s and r.key_id == own.key_id for r in tries):
            found.add(identifier)
    return found


def open_tries(connection: Connection, requests: Sequence[str]) -> list[DecisionRecord]:
    """The decisions of these requests that have no outcome yet."""
    decisions, outcomes = schema.decisions, schema.outcomes
    query = select(decisions.c.record, outcomes.c.record).outerjoin(
        outcomes, outcomes.c.decision_id == decisions.c.decision_id
    )
    return [
        decision
        for request in requests
        for decision, outcome in _opened(connection, query.where(_of(request)))
        if outcome is None
    ]


def _of(request: str) -> ColumnElement[bool]:
    """The decisions of one request."""
    first, last = of_request(request)
    return schema.decisions.c.decision_id.between(first, last)


def write_evaluations(connection: Connection, records: Iterable[EvaluationRecord]) -> list[EvaluationRecord]:
    """Stores those that are not there yet and returns them."""
    new = []
    table = schema.evaluations
    for record in records:
        identity = {
            "suite": record.suite,
            "suite_revision": record.suite_revision,
            "item": record.item,
            "model": record.model,
            "model_revision": record.model_revision,
        }
        if connection.scalar(_matching(select(table.c.item), table, identity)) is None:
            row = {**identity, "finished_s": record.finished_s, "record": encode(record)}
            connection.execute(insert(table).values(row))
            new.append(record)
    return new


def read_evaluations(connection: Connection, suite: str | None, model: str | None) -> list[EvaluationRecord]:
    """Graded answers, oldest first; of one suite or one model where given."""
    table = schema.evaluations
    query = select(table.c.record).order_by(table.c.finished_s)
    wanted = {"suite": suite, "model": model}
    query = _matching(query, table, {name: value for name, value in wanted.items() if value is not None})
    return [_evaluation(record) for record in connection.scalars(query)]


def write_feedback(connection: Connection, record: FeedbackRecord) -> str:
    """Stores a vote once. Returns "new", "same", "conflict", "unknown" or "cancelled"; see Table.feedback."""
    decisions, outcomes, table = schema.decisions.c, schema.outcomes.c, schema.feedback
    owner = connection.scalar(select(decisions.key_id).where(decisions.decision_id == record.decision_id))
    if owner is None or owner != record.key_id:
        return "unknown"
    status = connection.scalar(select(outcomes.status).where(outcomes.decision_id == record.decision_id))
    if status == Status.CANCELLED.value:
        return "cancelled"
    identity = {"decision_id": record.decision_id, "metric": record.metric}
    before = connection.scalar(_matching(select(table.c.record), table, identity))
    sealer = _sealer(connection)
    if before is not None:
        opened = sealer.try_open(before, table.name)
        old = None if opened is None else _feedback(opened)
        is_same = old is not None and (old.score, old.detail) == (record.score, record.detail)
        return "same" if is_same else "conflict"
    sealed = sealer.seal(encode(record), table.name)
    row = {**identity, "key_id": record.key_id, "received_s": record.received_s, "record": sealed}
    connection.execute(insert(table).values(row))
    return "new"


def read_feedback(connection: Connection, after_s: float) -> list[FeedbackRecord]:
    """Votes received after `after_s`, oldest first."""
    table = schema.feedback.c
    query = select(table.record).where(table.received_s > after_s).order_by(table.received_s)
    sealer = _sealer(connection)
    opened = (sealer.try_open(record, schema.feedback.name) for record in connection.scalars(query))
    return [_feedback(record) for record in opened if record is not None]


def write_artifact(connection: Connection, name: str, revision: str, data: bytes) -> None:
    """Stores a blob in place of the one of that name."""
    table = schema.artifacts
    connection.execute(delete(table).where(table.c.name == name))
    row = {"name": name, "revision": revision, "at_s": time.time(), "data": data}
    connection.execute(insert(table).values(row))


def read_artifact(connection: Connection, name: str) -> tuple[str, bytes] | None:
    """Revision and bytes of a blob, None where there is none."""
    table = schema.artifacts.c
    row = connection.execute(select(table.revision, table.data).where(table.name == name)).first()
    return None if row is None else (row.revision, row.data)


def artifact_revisions(connection: Connection) -> dict[str, str]:
    """Revision of each blob by name."""
    table = schema.artifacts.c
    return {name: revision for name, revision in connection.execute(select(table.name, table.revision))}


def write_event(connection: Connection, record: PolicyEvent) -> None:
    """Stores a step of a policy version, once."""
    table = schema.policy_events
    identity = {"version": record.version, "at_s": record.at_s, "kind": record.kind}
    if connection.scalar(_matching(select(table.c.version), table, identity)) is None:
        connection.execute(insert(table).values({**identity, "record": encode(record)}))


def read_events(connection: Connection) -> list[PolicyEvent]:
    """All steps of all policy versions, oldest first."""
    table = schema.policy_events.c
    return [_event(record) for record in connection.scalars(select(table.record).order_by(table.at_s))]


def start_of_newest(connection: Connection, rows: int) -> float:
    """Wall time after which the newest `rows` decisions were made; -inf where there are no more."""
    created_s = schema.decisions.c.created_s
    newest_first = select(created_s).order_by(created_s.desc())
    beyond_s = connection.scalar(newest_first.offset(rows).limit(1))
    return float("-inf") if beyond_s is None else beyond_s


def retention_start(connection: Connection, now_s: float, age_s: float, rows: int) -> float:
    """Wall time before which records go: older than `age_s`, or more than `rows` decisions ago."""
    return max(now_s - age_s, start_of_newest(connection, rows))


def prune_evaluations(connection: Connection, before_s: float) -> int:
    """Deletes answers graded before that those of newer revisions have replaced; returns how many."""
    table = schema.evaluations.c
    revisions = (table.suite, table.model, table.suite_revision, table.model_revision)
    first_s, last_s = func.min(table.finished_s), func.max(table.finished_s)
    query = select(*revisions, first_s).group_by(*revisions).order_by(last_s)
    rounds = list(connection.execute(query))
    newest = {(suite, model): tuple(pair) for suite, model, *pair, _ in rounds}
    deleted = 0
    for suite, model, *pair, began_s in rounds:
        if began_s < before_s and newest[suite, model] != tuple(pair):
            same = [column == value for column, value in zip(revisions, (suite, model, *pair), strict=True)]
            old = delete(schema.evaluations).where(*same, table.finished_s < before_s)
            deleted += connection.execute(old).rowcount
    return deleted


def forget(connection: Connection, key_id: str, decision_id: str) -> dict[str, int]:
    """Deletes some of the decisions of a key, or the one that is not "", with all that belongs to them.

    Returns how many rows of each table; all 0 at the end. SQLite overwrites what it deletes.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
    decisions, feedback = schema.decisions.c, schema.feedback.c
    meant = decisions.key_id == key_id if key_id else decisions.decision_id == decision_id
    found = list(connection.scalars(select(decisions.decision_id).where(meant).limit(CHUNK)))
    if key_id:
        voted = select(feedback.decision_id).where(feedback.key_id == key_id).limit(CHUNK)
        found += connection.scalars(voted)
    tables = (schema.decisions, schema.outcomes, schema.feedback)
    chosen = found or [decision_id]
    return {
        table.name: connection.execute(delete(table).where(table.c.decision_id.in_(chosen))).rowcount
        for table in tables
    }


def prune(connection: Connection, before_s: float) -> int:
    """Deletes some of the decisions, outcomes and votes from before; returns how many, 0 at the end."""
    deleted = 0
    times = {
        schema.decisions: schema.decisions.c.created_s,
        schema.outcomes: schema.outcomes.c.finished_s,
        schema.feedback: schema.feedback.c.received_s,
    }
    for table, time_s in times.items():
        key = table.c.decision_id
        old = connection.scalars(select(key).where(time_s < before_s).limit(CHUNK)).all()
        if old:
            deleted += connection.execute(delete(table).where(key.in_(old))).rowcount
    return deleted


def counts(connection: Connection) -> dict[str, int]:
    """Rows of each table of records."""
    tables = (schema.decisions, schema.outcomes, schema.evaluations, schema.feedback, schema.artifacts)
    return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def write_state(connection: Connection, name: str, value: bytes) -> None:
    """Stores one value of the table's own state in place of the one before."""
    table = schema.state
    changed = connection.execute(update(table).where(table.c.name == name).values(value=value))
    if changed.rowcount == 0:
        connection.execute(insert(table).values(name=name, value=value))


def read_state(connection: Connection, name: str) -> bytes | None:
    """One value of the table's own state."""
    return connection.scalar(select(schema.state.c.value).where(schema.state.c.name == name))


def write_sealed_state(connection: Connection, name: str, value: bytes) -> None:
    """`write_state` of a secret: sealed with the store's key."""
    write_state(connection, name, _sealer(connection).seal(value, schema.state.name))


def read_sealed_state(connection: Connection, name: str) -> bytes | None:
    """What `write_sealed_state` stored; None also where no key of the key file opens it, which is logged."""
    sealed = read_state(connection, name)
    return None if sealed is None else _sealer(connection).try_open(sealed, schema.state.name)


def read_rollout(connection: Connection) -> tuple[int, bytes | None]:
    """Revision and value of the rollout state; (0, None) before the first one."""
    row = connection.execute(select(schema.rollout.c.revision, schema.rollout.c.state)).first()
    return (0, None) if row is None else (row.revision, row.state)


def write_rollout(connection: Connection, revision: int, state: bytes) -> bool:
    """Stores the state under `revision` + 1 where `revision` is the one stored; tells whether it was."""
    table = schema.rollout
    if revision == 0 and connection.scalar(select(table.c.id)) is None:
        connection.execute(insert(table).values(id=schema.ROLLOUT_ID, revision=1, state=state))
        return True
    present = update(table).where(table.c.id == schema.ROLLOUT_ID, table.c.revision == revision)
    return connection.execute(present.values(revision=revision + 1, state=state)).rowcount == 1


def write_config_change(connection: Connection, name: str, detail: Mapping[str, object]) -> None:
    """Stores that something was configured anew."""
    row = {"at_s": time.time(), "name": name, "detail": encode(detail)}
    connection.execute(insert(schema.config_changes).values(row))


def read_config_changes(connection: Connection, name: str) -> list[tuple[float, dict[str, Any]]]:
    """Wall time and detail of the changes of that name, oldest first."""
    table = schema.config_changes.c
    rows = connection.execute(select(table.at_s, table.detail).where(table.name == name).order_by(table.id))
    return [(at_s, _detail(detail)) for at_s, detail in rows]


def _matching(query: Select[Any], table: Table, identity: Mapping[str, object]) -> Select[Any]:
    return query.where(*(table.c[name] == value for name, value in identity.items()))
