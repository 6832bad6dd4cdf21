"""The ledger knows which attempt appended a message, the flags as they were carried over, and what was repaired."""
from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COUNTERS = ("repaired", "gone", "flags_updated")


def upgrade() -> None:
    for name in COUNTERS:
        op.add_column("ledger_folders", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("ledger_folders", sa.Column("source_modseq", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("ledger_runs", sa.Column("pass_id", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "ledger_repairs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("folder_id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("repair", sa.String(), nullable=False),
        sa.Column("words", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["folder_id"], ["ledger_folders.id"], name="fk_ledger_repairs_folder_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_repairs"),
        sa.UniqueConstraint("folder_id", "uid", name="uq_ledger_repairs_folder_id_uid"),
    )
    op.create_index("ix_ledger_repairs_folder_id", "ledger_repairs", ["folder_id"])
    op.create_table(
        "ledger_flags",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("folder_id", sa.Integer(), nullable=False),
        sa.Column("first_uid", sa.BigInteger(), nullable=False),
        sa.Column("last_uid", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["folder_id"], ["ledger_folders.id"], name="fk_ledger_flags_folder_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_flags"),
    )
    op.create_index("ix_ledger_flags_folder_id", "ledger_flags", ["folder_id"])


def downgrade() -> None:
    op.drop_table("ledger_flags")
    op.drop_table("ledger_repairs")
    op.drop_column("ledger_runs", "pass_id")
    for name in (*COUNTERS, "source_modseq"):
        op.drop_column("ledger_folders", name)
