"""Saved scenarios of the calculator.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Add the table; no row is changed."""
    op.create_table(
        "scenario",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", JSON),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scenario")),
    )
    op.create_index("uq_scenario_name", "scenario", ["name"], unique=True)


def downgrade() -> None:
    raise NotImplementedError("Go back by restoring the backup that was made before this migration.")
