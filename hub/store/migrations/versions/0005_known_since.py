"""Since when a connection's events are known: what was read of its past.

Revision 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.migrations.rolling import serves

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "known_since",
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("connection_id", "type"),
    )
    serves("0001")


def downgrade() -> None:
    serves("0001")
    op.drop_table("known_since")
