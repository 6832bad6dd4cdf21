"""The ledger knows with which flags of the source a message went on its way."""
from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ledger_intents", sa.Column("flags", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("ledger_intents", "flags")
