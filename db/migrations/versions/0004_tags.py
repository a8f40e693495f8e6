"""An index over the tags of the runs, so that the tags in use are found without reading every run.

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index; no row is changed."""
    op.create_index("ix_run_tags", "run", [sa.text("CAST(tags AS TEXT)")])


def downgrade() -> None:
    raise NotImplementedError("Go back by restoring the backup that was made before this migration.")
