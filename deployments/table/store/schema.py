"""The tables of the durable store: identity and query columns, and the record itself as MessagePack."""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table

metadata = MetaData()

state = Table(
    "state",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", String, primary_key=True),
    Column("created_s", Float, nullable=False, index=True),
    Column("key_id", String, nullable=False),
    Column("model", String, nullable=False),
    Column("record", LargeBinary, nullable=False),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("decision_id", String, nullable=False, unique=True),
    Column("finished_s", Float, nullable=False, index=True),
    Column("model", String, nullable=False),
    Column("status", String, nullable=False),
    Column("record", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("suite", String, primary_key=True),
    Column("suite_revision", String, primary_key=True),
    Column("item", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("model_revision", String, primary_key=True),
    Column("finished_s", Float, nullable=False),
    Column("record", LargeBinary, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    Column("decision_id", String, primary_key=True),
    Column("metric", String, primary_key=True),
    Column("key_id", String, nullable=False),
    Column("received_s", Float, nullable=False, index=True),
    Column("record", LargeBinary, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("name", String, primary_key=True),
    Column("revision", String, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

config_changes = Table(
    "config_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at_s", Float, nullable=False),
    Column("name", String, nullable=False),
    Column("detail", LargeBinary, nullable=False),
)

policy_events = Table(
    "policy_events",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("at_s", Float, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("record", LargeBinary, nullable=False),
)

rollout = Table(
    "rollout",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row: ROLLOUT_ID
    Column("revision", Integer, nullable=False),  # raised by each change, which names the one that it saw
    Column("state", LargeBinary, nullable=False),
)

ROLLOUT_ID: Final = 1

spending = Table(
    "spending",
    metadata,
    Column("account", String, primary_key=True),
    Column("span_s", Integer, primary_key=True, autoincrement=False),  # a minute or an hour, from start_s on
    Column("start_s", BigInteger, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("nano_usd", BigInteger, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("holder", String, primary_key=True),
    Column("account", String, primary_key=True),
    Column("resource", String, primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("charged", BigInteger, nullable=False),
    Column("renewed_s", Float, nullable=False),
)

rates = Table(
    "rates",
    metadata,
    Column("account", String, primary_key=True),
    Column("resource", String, primary_key=True),
    Column("used", Float, nullable=False),  # at updated_s; it comes back with time
    Column("updated_s", Float, nullable=False),
)

Index("evaluations_by_model", evaluations.c.model)
