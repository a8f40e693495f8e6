"""The first tables.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "owner",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("heartbeat_at", MOMENT, nullable=False),
        sa.Column("stopped_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_owner"),
    )
    op.create_table(
        "setting",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", JSON),
        sa.PrimaryKeyConstraint("key", name="pk_setting"),
    )
    op.create_table(
        "deployment",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("spec", JSON),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("color_slot", sa.Integer(), nullable=False),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("tested_at", MOMENT),
        sa.Column("test", JSON),
        sa.PrimaryKeyConstraint("id", name="pk_deployment"),
        sa.UniqueConstraint("color_slot", name="uq_deployment_color_slot"),
    )
    _create_run()
    _create_call()
    op.create_table(
        "vote",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("choice", sa.String(), nullable=False),
        sa.Column("column_a", sa.Integer()),
        sa.Column("column_b", sa.Integer()),
        sa.Column("deployment_a", sa.String()),
        sa.Column("deployment_b", sa.String()),
        sa.Column("winner", sa.String()),
        sa.Column("repetition", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_vote_run_id_run", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_vote"),
    )
    op.create_index("ix_vote_run_id", "vote", ["run_id"])


def _create_run() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("prompt", sa.Text()),
        sa.Column("prompt_sha256", sa.String()),
        sa.Column("system", sa.Text()),
        sa.Column("template", sa.Text()),
        sa.Column("variables", JSON),
        sa.Column("params", JSON),
        sa.Column("columns", JSON),
        sa.Column("attachments", JSON),
        sa.Column("start_mode", sa.String(), nullable=False),
        sa.Column("stagger_s", sa.Float(), nullable=False),
        sa.Column("repetitions", sa.Integer(), nullable=False),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("parent_run_id", sa.String()),
        sa.Column("starred", sa.Boolean(), nullable=False),
        sa.Column("tags", JSON),
        sa.Column("note", sa.Text()),
        sa.Column("text_stored", sa.Boolean(), nullable=False),
        sa.Column("n_calls", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
    )
    op.create_index("ix_run_created_at", "run", ["created_at"])
    op.create_index("ix_run_person", "run", ["person"])
    op.create_index("ix_run_parent_run_id", "run", ["parent_run_id"])


def _create_call() -> None:
    op.create_table(
        "call",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("column_no", sa.Integer(), nullable=False),
        sa.Column("repetition", sa.Integer(), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("retry_of", sa.String()),
        sa.Column("deployment_id", sa.String(), nullable=False),
        sa.Column("deployment", JSON),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("wire", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("owner", sa.String()),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("outcome", sa.String()),
        sa.Column("phase", sa.String()),
        sa.Column("message", sa.Text()),
        sa.Column("error_type", sa.Text()),
        sa.Column("error_code", sa.Text()),
        sa.Column("http_status", sa.Integer()),
        sa.Column("retry_after_s", sa.Float()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("waited_ms", sa.Float()),
        sa.Column("queued_ms", sa.Float()),
        sa.Column("connect_ms", sa.Float()),
        sa.Column("reused", sa.Boolean()),
        sa.Column("ttfb_ms", sa.Float()),
        sa.Column("ttft_ms", sa.Float()),
        sa.Column("ttfat_ms", sa.Float()),
        sa.Column("ttlt_ms", sa.Float()),
        sa.Column("end_ms", sa.Float()),
        sa.Column("itl_p50_ms", sa.Float()),
        sa.Column("itl_p95_ms", sa.Float()),
        sa.Column("itl_p99_ms", sa.Float()),
        sa.Column("itl_max_ms", sa.Float()),
        sa.Column("n_deltas", sa.Integer()),
        sa.Column("tpot_ms", sa.Float()),
        sa.Column("decode_tps", sa.Float()),
        sa.Column("decode_hidden", sa.Text()),
        sa.Column("e2e_tps", sa.Float()),
        sa.Column("self_lag_ms", sa.Float()),
        sa.Column("lag_marked", sa.Boolean()),
        sa.Column("server_ms", sa.Float()),
        sa.Column("buffered_suspect", sa.Boolean()),
        sa.Column("uncached_input", sa.BigInteger()),
        sa.Column("cache_read", sa.BigInteger()),
        sa.Column("cache_write_5m", sa.BigInteger()),
        sa.Column("cache_write_1h", sa.BigInteger()),
        sa.Column("reasoning_output", sa.BigInteger()),
        sa.Column("answer_output", sa.BigInteger()),
        sa.Column("usage_source", sa.String()),
        sa.Column("usage_raw", JSON),
        sa.Column("cost_state", sa.String()),
        sa.Column("cost_nanousd", sa.BigInteger()),
        sa.Column("cost_high_nanousd", sa.BigInteger()),
        sa.Column("cost_drivers", JSON),
        sa.Column("price", JSON),
        sa.Column("finish_raw", sa.Text()),
        sa.Column("model_reported", sa.Text()),
        sa.Column("response_id", sa.Text()),
        sa.Column("answer", sa.Text()),
        sa.Column("reasoning", sa.Text()),
        sa.Column("answer_sha256", sa.String()),
        sa.Column("request", JSON),
        sa.Column("sent_params", JSON),
        sa.Column("dropped_params", JSON),
        sa.Column("delta_us", sa.LargeBinary()),
        sa.Column("delta_kinds", sa.LargeBinary()),
        sa.Column("n_events", sa.BigInteger()),
        sa.Column("n_bytes", sa.BigInteger()),
        sa.Column("keepalives", sa.BigInteger()),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_call_run_id_run", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_call"),
    )
    op.create_index("ix_call_run_id", "call", ["run_id"])
    op.create_index("ix_call_state", "call", ["state"])
    op.create_index("ix_call_deployment_id_created_at", "call", ["deployment_id", "created_at"])
    op.create_index("ix_call_created_at_state", "call", ["created_at", "state"])


def downgrade() -> None:
    raise NotImplementedError("Go back by restoring the backup that was made before this migration.")
