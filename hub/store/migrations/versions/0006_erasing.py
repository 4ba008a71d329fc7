"""Erasing people: the hashes they are known by afterwards, records of erasures, what vendors are to forget.

Revision 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.migrations.rolling import serves

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _text(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=null, server_default=default)


def _ms(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=null)


def upgrade() -> None:
    op.create_table(
        "pepper",
        _text("id"),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        _text("key_id"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table("tombstone", _text("hash"), _ms("erased_at"), sa.PrimaryKeyConstraint("hash"))
    op.create_table(
        "erasure",
        _text("id"),
        _text("kind"),
        _text("reason"),
        _text("who"),
        _text("event_id", null=True),
        _text("part_of", null=True),
        _text("state"),
        _text("note", null=True),
        _text("counts", default="{}"),
        _ms("at"),
        _ms("finished_at", null=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "export_request",
        _text("id"),
        _text("contact_id", null=True),
        _text("connection_id"),
        _text("type"),
        _text("state"),
        _text("who", null=True),
        _ms("at"),
        _ms("answered_at", null=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "forgetting",
        _text("owner"),
        _text("connection"),
        _ms("asked_at"),
        _ms("done_at", null=True),
        sa.PrimaryKeyConstraint("owner", "connection"),
    )
    for name, table, columns, where in (
        ("erasure_part", "erasure", ["part_of", "state"], "part_of is not null"),
        ("export_request_of_contact", "export_request", ["contact_id"], "contact_id is not null"),
    ):
        condition = sa.text(where)
        op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)
    serves("0001")


def downgrade() -> None:
    serves("0001")
    for name in ("forgetting", "export_request", "erasure", "tombstone", "pepper"):
        op.drop_table(name)
