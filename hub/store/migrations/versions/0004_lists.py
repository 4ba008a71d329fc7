"""Indexes for looking: events of a type, runs that ended amiss, effects that went amiss.

Revision 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.migrations.rolling import serves

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INDEXES: dict[str, tuple[str, list[str], str]] = {
    "run_amiss": ("run", ["ended_by", "id"], "ended_by in ('failed', 'cancelled')"),
    "effect_amiss": ("effect", ["state", "run_id"], "state in ('failed', 'skipped', 'unknown')"),
}


def upgrade() -> None:
    for name, (table, columns, where) in _INDEXES.items():
        condition = sa.text(where)
        op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)
    op.create_index("event_of_type", "event", ["type", "id"])
    serves("0001")


def downgrade() -> None:
    serves("0001")
    op.drop_index("event_of_type", table_name="event")
    for name, (table, _, _) in _INDEXES.items():
        op.drop_index(name, table_name=table)
