"""What a migration leaves behind for the processes of earlier releases, which are still running while it is applied."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.revisions import KEY


def serves(revision: str | None) -> None:
    """Say that code from `revision` on may go on working on this schema; None takes it back to nobody's word."""
    connection = op.get_bind()
    connection.execute(sa.text("delete from meta where key = :key"), {"key": KEY})
    if revision is not None:
        connection.execute(sa.text("insert into meta (key, value) values (:key, :it)"), {"key": KEY, "it": revision})
