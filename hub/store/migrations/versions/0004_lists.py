"""Indexes for looking: runs by recipe and by how they ended, events by type, effects that went amiss.

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

_INDEXES: dict[str, tuple[str, list[str], str | None]] = {
    "run_of_recipe": ("run", ["recipe", "id"], None),
    "run_live": ("run", ["id"], "finished_at is null"),
    "run_amiss": ("run", ["ended_by", "id"], "ended_by in ('failed', 'cancelled')"),
    "effect_amiss": ("effect", ["state", "run_id"], "state in ('failed', 'skipped', 'unknown')"),
    "event_of_type": ("event", ["type", "id"], None),
}


def upgrade() -> None:
    for name, (table, columns, where) in _INDEXES.items():
        condition = sa.text(where) if where else None
        op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)
    serves("0001")


def downgrade() -> None:
    serves("0001")
    for name, (table, _, _) in _INDEXES.items():
        op.drop_index(name, table_name=table)
