"""Spending by account and hour, leases of limits, and what of each rate is used."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """New tables; `spending` is there already where a store comes back from an older revision."""
    if not sa.inspect(op.get_bind()).has_table("spending"):
        op.create_table(
            "spending",
            sa.Column("account", sa.String, primary_key=True),
            sa.Column("span_s", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("start_s", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("requests", sa.BigInteger, nullable=False),
            sa.Column("tokens", sa.BigInteger, nullable=False),
            sa.Column("nano_usd", sa.BigInteger, nullable=False),
        )
    op.create_table(
        "leases",
        sa.Column("holder", sa.String, primary_key=True),
        sa.Column("account", sa.String, primary_key=True),
        sa.Column("resource", sa.String, primary_key=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("charged", sa.BigInteger, nullable=False),
        sa.Column("renewed_s", sa.Float, nullable=False),
    )
    op.create_table(
        "rates",
        sa.Column("account", sa.String, primary_key=True),
        sa.Column("resource", sa.String, primary_key=True),
        sa.Column("used", sa.Float, nullable=False),
        sa.Column("updated_s", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Older code does not look at `spending`, which stays: what was spent is spent."""
    op.drop_table("leases")
    op.drop_table("rates")
