"""The rollout state has a table and a revision of its own, so that it can be compared and set."""

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

state = sa.table("state", sa.column("name", sa.String), sa.column("value", sa.LargeBinary))
rollout = sa.table(
    "rollout",
    sa.column("id", sa.Integer),
    sa.column("revision", sa.Integer),
    sa.column("state", sa.LargeBinary),
)
schema_version = sa.table("schema_version", sa.column("version", sa.Integer))


_FIELDS = ("active", "previous", "last_version", "promoted_s", "frozen_since_s", "paused", "trained_s")
_CANDIDATE_FIELDS = ("version", "stage", "share", "step", "started_s", "since_s")


def upgrade() -> None:
    """`state.policy` moves into `rollout`; Alembic's own table replaces `schema_version`."""
    op.create_table(
        "rollout",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    stored = op.get_bind().scalar(sa.select(state.c.value).where(state.c.name == "policy"))
    if stored is not None:
        op.execute(sa.insert(rollout).values(id=1, revision=1, state=stored))
        op.execute(sa.delete(state).where(state.c.name == "policy"))
    op.drop_table("schema_version")


def downgrade() -> None:
    """As FastServe 0.1 reads it; what that one does not know of stays in `state`."""
    op.create_table("schema_version", sa.Column("version", sa.Integer, primary_key=True))
    op.execute(sa.insert(schema_version).values(version=1))
    stored = op.get_bind().scalar(sa.select(rollout.c.state).where(rollout.c.id == 1))
    if stored is not None:
        op.execute(sa.insert(state).values(name="policy", value=_of_0001(stored)))
    op.drop_table("rollout")


def _of_0001(stored: bytes) -> bytes:
    """The rollout state with the fields that FastServe 0.1 knows: it refuses others."""
    rollout = msgspec.msgpack.decode(stored)
    kept = {name: value for name, value in rollout.items() if name in _FIELDS}
    candidate = rollout.get("candidate")
    if candidate is not None:
        kept["candidate"] = {name: candidate[name] for name in _CANDIDATE_FIELDS if name in candidate}
    return msgspec.msgpack.encode(kept)
