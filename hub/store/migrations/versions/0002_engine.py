"""What the engine keeps about itself: pauses, breakers, quotas, processes at work; and where events and runs come from.

Revision 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.migrations.rolling import serves

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "breaker",
        sa.Column("connection", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("trips", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("connection"),
    )
    op.create_table(
        "pause",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "target", name="pause_target"),
    )
    op.create_table(
        "cap",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("per", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "target", "per", "unit", name="cap_target"),
    )
    op.create_table(
        "spend",
        sa.Column("effect_key", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("effect_key", "subject"),
    )
    op.create_table(
        "process",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("busy", sa.Integer(), server_default="0", nullable=False),
        sa.Column("slots", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tally", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "usage",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("subject", "period"),
    )
    op.drop_index("effect_queued", "effect")
    op.create_index(
        "effect_of_batch",
        "effect",
        ["batch", "state", "key"],
        postgresql_where=sa.text("batch is not null"),
        sqlite_where=sa.text("batch is not null"),
    )
    op.create_index(
        "event_plugin",
        "event",
        ["id"],
        postgresql_where=sa.text("stage = 'plugin'"),
        sqlite_where=sa.text("stage = 'plugin'"),
    )
    with op.batch_alter_table("connection") as batch_op:
        batch_op.add_column(sa.Column("token_lease", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("token_lease_until", sa.BigInteger(), nullable=True))

    with op.batch_alter_table("event") as batch_op:
        batch_op.add_column(sa.Column("cause", sa.Text(), nullable=True))

    with op.batch_alter_table("run") as batch_op:
        batch_op.add_column(sa.Column("depth", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("retry_of", sa.Text(), nullable=True))
        batch_op.create_index(
            "run_retry",
            ["retry_of"],
            postgresql_where=sa.text("retry_of is not null"),
            sqlite_where=sa.text("retry_of is not null"),
        )

    with op.batch_alter_table("work") as batch_op:
        batch_op.add_column(sa.Column("was_due_at", sa.BigInteger(), nullable=True))

    op.create_index(
        "effect_unknown",
        "effect",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("state = 'unknown'"),
        sqlite_where=sa.text("state = 'unknown'"),
    )
    _index_live_runs("recipe", "scope", "id")
    serves("0001")


def _index_live_runs(*columns: str) -> None:
    live = sa.text("finished_at is null")
    op.drop_index("run_inside", table_name="run", postgresql_where=live, sqlite_where=live)
    op.create_index("run_inside", "run", list(columns), unique=False, postgresql_where=live, sqlite_where=live)


def downgrade() -> None:
    serves(None)
    _index_live_runs("recipe", "scope")
    unknown = sa.text("state = 'unknown'")
    op.drop_index("effect_unknown", table_name="effect", postgresql_where=unknown, sqlite_where=unknown)
    with op.batch_alter_table("work") as batch_op:
        batch_op.drop_column("was_due_at")

    with op.batch_alter_table("run") as batch_op:
        batch_op.drop_index("run_retry")
        batch_op.drop_column("retry_of")
        batch_op.drop_column("depth")

    with op.batch_alter_table("event") as batch_op:
        batch_op.drop_column("cause")

    with op.batch_alter_table("connection") as batch_op:
        batch_op.drop_column("token_lease_until")
        batch_op.drop_column("token_lease")

    op.execute("update event set stage = 'route', note = null where stage = 'plugin'")
    op.drop_index("event_plugin", "event")
    op.drop_index("effect_of_batch", "effect")
    op.create_index(
        "effect_queued",
        "effect",
        ["batch", "key"],
        postgresql_where=sa.text("state = 'queued'"),
        sqlite_where=sa.text("state = 'queued'"),
    )
    op.drop_table("usage")
    op.drop_table("process")
    op.drop_table("spend")
    op.drop_table("cap")
    op.drop_table("pause")
    op.drop_table("breaker")
