"""Checks and attempts say which mailbox they tried, so that refused logins are counted where the provider counts them."""
from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLES = ("attempts", "checks")
_COLUMNS = ("source_mailbox", "destination_mailbox")


def upgrade() -> None:
    for table in _TABLES:
        for column in _COLUMNS:
            op.add_column(table, sa.Column(column, sa.String(), nullable=True))
            op.create_index(f"ix_{table}_{column}", table, [column])


def downgrade() -> None:
    for table in _TABLES:
        for column in _COLUMNS:
            op.drop_index(f"ix_{table}_{column}", table)
            op.drop_column(table, column)
