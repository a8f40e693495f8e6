"""An index over the people of the rollups, so that they are found by steps and not by reading every cell.

Revision: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index; no row is changed."""
    op.create_index("ix_rollup_grain_person", "rollup", ["grain", "person"])


def downgrade() -> None:
    raise NotImplementedError("Go back by restoring the backup that was made before this migration.")
