"""Rotas: how many places of each were given, and which effect got which.

Revision 0009.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.migrations.rolling import serves

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rota",
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("given", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("connection_id", "name"),
    )
    op.create_table(
        "rota_place",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reference", "connection_id", "name"),
    )
    serves("0001")


def downgrade() -> None:
    serves("0001")
    op.drop_table("rota_place")
    op.drop_table("rota")
