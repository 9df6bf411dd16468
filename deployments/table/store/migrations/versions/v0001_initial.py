"""The schema of FastServe 0.1. What is here never changes: later revisions say what changed."""

from alembic import op
from sqlalchemy import Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, insert

revision = "0001"
down_revision = None

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

Table(
    "state", metadata, Column("name", String, primary_key=True), Column("value", LargeBinary, nullable=False)
)

Table(
    "decisions",
    metadata,
    Column("decision_id", String, primary_key=True),
    Column("created_s", Float, nullable=False, index=True),
    Column("key_id", String, nullable=False),
    Column("model", String, nullable=False),
    Column("record", LargeBinary, nullable=False),
)

Table(
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

Table(
    "feedback",
    metadata,
    Column("decision_id", String, primary_key=True),
    Column("metric", String, primary_key=True),
    Column("key_id", String, nullable=False),
    Column("received_s", Float, nullable=False, index=True),
    Column("record", LargeBinary, nullable=False),
)

Table(
    "artifacts",
    metadata,
    Column("name", String, primary_key=True),
    Column("revision", String, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

Table(
    "policy_events",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("at_s", Float, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("record", LargeBinary, nullable=False),
)

Table(
    "config_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at_s", Float, nullable=False),
    Column("name", String, nullable=False),
    Column("detail", LargeBinary, nullable=False),
)

Index("evaluations_by_model", evaluations.c.model)


def upgrade() -> None:
    """All tables, as FastServe 0.1 made them."""
    metadata.create_all(op.get_bind())
    op.execute(insert(schema_version).values(version=1))


def downgrade() -> None:
    """Nothing is left."""
    metadata.drop_all(op.get_bind())
