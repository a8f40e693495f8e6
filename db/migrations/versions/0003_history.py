"""The history: rollups of the calls, when deployments were on, notes, alerts; calls know whether they are rolled up.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True)
SUMS = (
    "n",
    "n_late",
    "n_priced",
    "n_bounded",
    "n_estimated",
    "uncached_input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning_output",
    "answer_output",
    "cost_nanousd",
    "plain_nanousd",
    "cost_uncached_input",
    "cost_cache_read",
    "cost_cache_write_5m",
    "cost_cache_write_1h",
    "cost_reasoning_output",
    "cost_answer_output",
    "busy_ms",
)
SKETCHES = ("ttft", "ttfat", "ttlt", "tpot", "decode", "e2e")
CELL = ("grain", "bucket", "deployment_id", "model", "kind", "source", "person", "outcome", "state", "cache")


def upgrade() -> None:
    """Add the tables and two columns; the engine rolls up the calls that are there when it starts."""
    with op.batch_alter_table("call") as batch:
        batch.add_column(sa.Column("plain_nanousd", sa.BigInteger()))
        batch.add_column(sa.Column("rolled", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.create_index(
        "ix_call_unrolled",
        "call",
        ["created_at"],
        sqlite_where=sa.text("rolled = 0 AND state != 'running'"),
        postgresql_where=sa.text("NOT rolled AND state != 'running'"),
    )
    op.create_table(
        "rollup",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("grain", sa.String(), nullable=False),
        sa.Column("bucket", MOMENT, nullable=False),
        sa.Column("deployment_id", sa.String(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cache", sa.String(), nullable=False),
        *[sa.Column(name, sa.BigInteger(), nullable=False, server_default="0") for name in SUMS],
        *[sa.Column(name, sa.LargeBinary()) for name in SKETCHES],
        sa.PrimaryKeyConstraint("id", name="pk_rollup"),
        sa.UniqueConstraint(*CELL, name="uq_rollup_cell"),
    )
    op.create_index("ix_rollup_grain_bucket", "rollup", ["grain", "bucket"])
    op.create_table(
        "powered",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("deployment_id", sa.String(), nullable=False),
        sa.Column("on_at", MOMENT, nullable=False),
        sa.Column("off_at", MOMENT),
        sa.Column("usd_per_hour", sa.String(), nullable=False),
        sa.Column("price", JSON),
        sa.PrimaryKeyConstraint("id", name="pk_powered"),
    )
    op.create_index("ix_powered_deployment_id", "powered", ["deployment_id"])
    op.create_table(
        "annotation",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_annotation"),
    )
    op.create_index("ix_annotation_at", "annotation", ["at"])
    op.create_table(
        "alert",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("window_s", sa.Integer(), nullable=False),
        sa.Column("deployments", JSON),
        sa.Column("targets", JSON),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("firing", sa.Boolean(), nullable=False),
        sa.Column("checked_at", MOMENT),
        sa.Column("value", sa.Float()),
        sa.Column("n", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_alert"),
    )
    op.create_table(
        "alert_event",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("alert_id", sa.String(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("firing", sa.Boolean(), nullable=False),
        sa.Column("value", sa.Float()),
        sa.Column("n", sa.Integer()),
        sa.Column("sentence", sa.Text()),
        sa.Column("delivered", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_alert_event"),
    )
    op.create_index("ix_alert_event_alert_id", "alert_event", ["alert_id"])
    op.create_index("ix_alert_event_at", "alert_event", ["at"])


def downgrade() -> None:
    raise NotImplementedError("Go back by restoring the backup that was made before this migration.")
