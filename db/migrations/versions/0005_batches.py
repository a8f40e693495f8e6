"""Batches: files that were sent, their lines, the jobs of a service, the workers, and votes on lines.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Add the tables; no row is changed."""
    op.create_table(
        "batch",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.String(), nullable=False),
        sa.Column("deployment", JSON),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("said", sa.Text()),
        sa.Column("wanted", sa.String(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("file_sha256", sa.String(), nullable=False),
        sa.Column("file_bytes", sa.BigInteger()),
        sa.Column("options", JSON),
        sa.Column("params", JSON),
        sa.Column("columns", JSON),
        sa.Column("run_id", sa.String()),
        sa.Column("parent_id", sa.String()),
        sa.Column("n_lines", sa.Integer(), nullable=False),
        sa.Column("n_left_out", sa.Integer(), nullable=False),
        sa.Column("estimate", JSON),
        sa.Column("budget_nanousd", sa.BigInteger()),
        sa.Column("objective_ms", sa.Float()),
        sa.Column("max_lanes", sa.Integer()),
        sa.Column("per_minute", sa.Integer()),
        sa.Column("lanes", sa.Integer()),
        sa.Column("notify", JSON),
        sa.Column("notified", sa.Text()),
        sa.Column("started_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_batch"),
    )
    for name in ("created_at", "person", "deployment_id", "state", "file_sha256", "parent_id"):
        op.create_index(f"ix_batch_{name}", "batch", [name])
    op.create_table(
        "batch_line",
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("job_no", sa.Integer()),
        sa.Column("request", JSON),
        sa.Column("original", JSON),
        sa.Column("call_id", sa.String()),
        sa.Column("outcome", sa.String()),
        sa.Column("message", sa.Text()),
        sa.Column("answer", sa.Text()),
        sa.Column("worker", sa.String()),
        sa.Column("lease_until", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.PrimaryKeyConstraint("batch_id", "no", name="pk_batch_line"),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name="fk_batch_line_batch_id_batch", ondelete="CASCADE"),
    )
    op.create_index("ix_batch_line_state", "batch_line", ["batch_id", "state", "no"])
    op.create_table(
        "batch_job",
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("first_no", sa.Integer(), nullable=False),
        sa.Column("last_no", sa.Integer(), nullable=False),
        sa.Column("n_lines", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("said", sa.Text()),
        sa.Column("vendor_id", sa.Text()),
        sa.Column("vendor_state", sa.String()),
        sa.Column("facts", JSON),
        sa.Column("counts", JSON),
        sa.Column("submitted_at", MOMENT),
        sa.Column("polled_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("expires_at", MOMENT),
        sa.PrimaryKeyConstraint("batch_id", "no", name="pk_batch_job"),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name="fk_batch_job_batch_id_batch", ondelete="CASCADE"),
    )
    op.create_table(
        "batch_worker",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("heartbeat_at", MOMENT, nullable=False),
        sa.Column("stopped_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_batch_worker"),
    )
    op.create_table(
        "batch_vote",
        sa.Column("batch_a", sa.String(), nullable=False),
        sa.Column("batch_b", sa.String(), nullable=False),
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("choice", sa.String(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("batch_a", "batch_b", "no", "person", name="pk_batch_vote"),
        sa.ForeignKeyConstraint(["batch_a"], ["batch.id"], name="fk_batch_vote_batch_a_batch", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["batch_b"], ["batch.id"], name="fk_batch_vote_batch_b_batch", ondelete="CASCADE"),
    )
    op.create_index("ix_batch_vote_batch_b", "batch_vote", ["batch_b"])


def downgrade() -> None:
    raise NotImplementedError("Go back by restoring the backup that was made before this migration.")
