"""The first tables: everything the portal, the workers and the ledger keep."""
from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("audit_events",
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject_kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.Integer(), nullable=True),
        sa.Column("project_id", sa.Integer(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events")
    )
    op.create_index("ix_audit_events_action", "audit_events", ["action"])
    op.create_index("ix_audit_events_project_id", "audit_events", ["project_id"])
    op.create_index("ix_audit_events_subject_id", "audit_events", ["subject_id"])

    op.create_table("credentials",
        sa.Column("owner_kind", sa.String(32), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("field", sa.String(), nullable=False),
        sa.Column("sealed", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_credentials"),
        sa.UniqueConstraint("owner_kind", "owner_id", "field", name="uq_credentials_owner_kind_owner_id_field")
    )
    op.create_table("relays",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("ca_pem", sa.String(), nullable=True),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_relays"),
        sa.UniqueConstraint("name", name="uq_relays_name")
    )
    op.create_table("staff",
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("session_epoch", sa.Integer(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_staff"),
        sa.UniqueConstraint("email", name="uq_staff_email")
    )
    op.create_table("projects",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("provider", sa.String(), nullable=True),
        sa.Column("source_host", sa.String(), nullable=False),
        sa.Column("source_port", sa.Integer(), nullable=False),
        sa.Column("source_security", sa.String(), nullable=False),
        sa.Column("source_ca_pem", sa.String(), nullable=True),
        sa.Column("source_pinned_sha256", sa.String(), nullable=True),
        sa.Column("relay_id", sa.Integer(), nullable=True),
        sa.Column("destination_host", sa.String(), nullable=False),
        sa.Column("destination_port", sa.Integer(), nullable=False),
        sa.Column("destination_security", sa.String(), nullable=False),
        sa.Column("destination_ca_pem", sa.String(), nullable=True),
        sa.Column("destination_pinned_sha256", sa.String(), nullable=True),
        sa.Column("destination_login_template", sa.String(), nullable=False),
        sa.Column("contact", sa.String(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["relay_id"], ["relays.id"], name="fk_projects_relay_id"),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("name", name="uq_projects_name")
    )
    op.create_table("staff_invitations",
        sa.Column("staff_id", sa.Integer(), nullable=False),
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["staff_id"], ["staff.id"], name="fk_staff_invitations_staff_id"),
        sa.PrimaryKeyConstraint("id", name="pk_staff_invitations"),
        sa.UniqueConstraint("token_sha256", name="uq_staff_invitations_token_sha256")
    )
    op.create_index("ix_staff_invitations_staff_id", "staff_invitations", ["staff_id"])

    op.create_table("people",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("source_address", sa.String(), nullable=False),
        sa.Column("source_login", sa.String(), nullable=True),
        sa.Column("destination_address", sa.String(), nullable=False),
        sa.Column("destination_login", sa.String(), nullable=True),
        sa.Column("provider", sa.String(), nullable=True),
        sa.Column("source_host", sa.String(), nullable=True),
        sa.Column("source_port", sa.Integer(), nullable=True),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_people_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_people"),
        sa.UniqueConstraint("project_id", "source_address", name="uq_people_project_id_source_address")
    )
    op.create_index("ix_people_project_id", "people", ["project_id"])

    op.create_table("checks",
        sa.Column("person_id", sa.Integer(), nullable=True),
        sa.Column("project_id", sa.Integer(), nullable=True),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("login", sa.String(), nullable=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column("server_text", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("launched_by", sa.String(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name="fk_checks_person_id"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_checks_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_checks")
    )
    op.create_index("ix_checks_person_id", "checks", ["person_id"])
    op.create_index("ix_checks_project_id", "checks", ["project_id"])

    op.create_table("links",
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name="fk_links_person_id"),
        sa.PrimaryKeyConstraint("id", name="pk_links"),
        sa.UniqueConstraint("token_sha256", name="uq_links_token_sha256")
    )
    op.create_index("ix_links_person_id", "links", ["person_id"])

    op.create_table("moves",
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("folders_total", sa.Integer(), nullable=False),
        sa.Column("messages_total", sa.Integer(), nullable=False),
        sa.Column("bytes_total", sa.BigInteger(), nullable=False),
        sa.Column("moved", sa.Integer(), nullable=False),
        sa.Column("already_there", sa.Integer(), nullable=False),
        sa.Column("excluded", sa.Integer(), nullable=False),
        sa.Column("set_aside", sa.Integer(), nullable=False),
        sa.Column("bytes_moved", sa.BigInteger(), nullable=False),
        sa.Column("current_folder", sa.String(), nullable=False),
        sa.Column("last_sign_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("append_seconds_peak", sa.Double(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name="fk_moves_person_id"),
        sa.PrimaryKeyConstraint("id", name="pk_moves"),
        sa.UniqueConstraint("person_id", name="uq_moves_person_id")
    )
    op.create_index("ix_moves_cause", "moves", ["cause"])
    op.create_index("ix_moves_state", "moves", ["state"])

    op.create_table("attempts",
        sa.Column("move_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("launched_by", sa.String(), nullable=False),
        sa.Column("slices", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column("server_text", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=True),
        sa.Column("moved", sa.Integer(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["move_id"], ["moves.id"], name="fk_attempts_move_id"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts")
    )
    op.create_index("ix_attempts_move_id", "attempts", ["move_id"])

    op.create_table("ledger_folders",
        sa.Column("move_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("source_uidvalidity", sa.BigInteger(), nullable=False),
        sa.Column("source_uidnext", sa.BigInteger(), nullable=False),
        sa.Column("source_messages", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("target_uidvalidity", sa.BigInteger(), nullable=False),
        sa.Column("source_display", sa.String(), nullable=False),
        sa.Column("target_display", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("moved", sa.Integer(), nullable=False),
        sa.Column("already_there", sa.Integer(), nullable=False),
        sa.Column("excluded", sa.Integer(), nullable=False),
        sa.Column("vanished", sa.Integer(), nullable=False),
        sa.Column("set_aside", sa.Integer(), nullable=False),
        sa.Column("bytes_moved", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.String(), nullable=True),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["move_id"], ["moves.id"], name="fk_ledger_folders_move_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_folders"),
        sa.UniqueConstraint("move_id", "source", name="uq_ledger_folders_move_id_source")
    )
    op.create_index("ix_ledger_folders_move_id", "ledger_folders", ["move_id"])

    op.create_table("ledger_intents",
        sa.Column("folder_id", sa.Integer(), nullable=False),
        sa.Column("uids", sa.JSON(), nullable=False),
        sa.Column("target_uidvalidity", sa.BigInteger(), nullable=False),
        sa.Column("target_uidnext", sa.BigInteger(), nullable=False),
        sa.Column("begun_at", sa.Double(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["folder_id"], ["ledger_folders.id"], name="fk_ledger_intents_folder_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_intents")
    )
    op.create_index("ix_ledger_intents_folder_id", "ledger_intents", ["folder_id"])

    op.create_table("ledger_runs",
        sa.Column("folder_id", sa.Integer(), nullable=False),
        sa.Column("source_first", sa.BigInteger(), nullable=False),
        sa.Column("source_last", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("target_first", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["folder_id"], ["ledger_folders.id"], name="fk_ledger_runs_folder_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_runs")
    )
    op.create_index("ix_ledger_runs_folder_id", "ledger_runs", ["folder_id"])

    op.create_table("server_lines",
        sa.Column("attempt_id", sa.Integer(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_server_lines_attempt_id"),
        sa.PrimaryKeyConstraint("id", name="pk_server_lines")
    )
    op.create_index("ix_server_lines_attempt_id", "server_lines", ["attempt_id"])

    op.create_table("set_aside",
        sa.Column("folder_id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("server_text", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("internal_date", sa.String(), nullable=False),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["folder_id"], ["ledger_folders.id"], name="fk_set_aside_folder_id"),
        sa.PrimaryKeyConstraint("id", name="pk_set_aside"),
        sa.UniqueConstraint("folder_id", "uid", name="uq_set_aside_folder_id_uid")
    )
    op.create_index("ix_set_aside_folder_id", "set_aside", ["folder_id"])
    _keep_audit()


# Audit rows are only added (ASVS 5: 16.4.2). Whoever must remove old ones drops the trigger first, which a reviewer can see.
_REFUSAL = "audit rows are only added"


def _keep_audit() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(f"CREATE TRIGGER audit_events_no_{verb.lower()} BEFORE {verb} ON audit_events "
                       f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END")
    elif op.get_bind().dialect.name == "postgresql":
        op.execute(f"CREATE FUNCTION audit_events_kept() RETURNS trigger LANGUAGE plpgsql AS "
                   f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$")
        op.execute("CREATE TRIGGER audit_events_kept BEFORE UPDATE OR DELETE ON audit_events "
                   "FOR EACH ROW EXECUTE FUNCTION audit_events_kept()")


def downgrade() -> None:
    op.drop_table("set_aside")
    op.drop_table("server_lines")
    op.drop_table("ledger_runs")
    op.drop_table("ledger_intents")
    op.drop_table("ledger_folders")
    op.drop_table("attempts")
    op.drop_table("moves")
    op.drop_table("links")
    op.drop_table("checks")
    op.drop_table("people")
    op.drop_table("staff_invitations")
    op.drop_table("projects")
    op.drop_table("staff")
    op.drop_table("relays")
    op.drop_table("credentials")
    op.drop_table("audit_events")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_events_kept()")
