"""When a connection was last given credentials, so that what its vendor says of earlier ones is told apart.

Revision 0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.migrations.rolling import serves

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("connection") as batch_op:
        batch_op.add_column(sa.Column("authorised_at", sa.BigInteger(), nullable=True))
    serves("0001")


def downgrade() -> None:
    serves("0001")
    with op.batch_alter_table("connection") as batch_op:
        batch_op.drop_column("authorised_at")
