"""Merging contacts: who was merged into whom, and what is needed to undo it.

Revision 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.migrations.rolling import serves

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _ms(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=null)


def upgrade() -> None:
    op.create_table(
        "contact_merge",
        _text("id"),
        _text("kept"),
        _text("other"),
        _text("who"),
        _text("before"),
        _ms("at"),
        _ms("undone_at", null=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "contact_merge_row",
        _text("merge_id"),
        _text("kind"),
        _text("ref"),
        sa.PrimaryKeyConstraint("merge_id", "kind", "ref"),
    )
    op.create_index("contact_merge_kept", "contact_merge", ["kept"])
    op.create_index("contact_merge_other", "contact_merge", ["other"])
    serves("0001")


def downgrade() -> None:
    serves("0001")
    op.drop_table("contact_merge_row")
    op.drop_table("contact_merge")
