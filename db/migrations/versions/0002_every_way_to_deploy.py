"""What the further kinds of deployment say about a call: region, service tier asked for and served, prompt caching.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Add the columns; calls that are there say nothing in them."""
    with op.batch_alter_table("call") as batch:
        batch.add_column(sa.Column("cache_mode", sa.String()))
        batch.add_column(sa.Column("region", sa.Text()))
        batch.add_column(sa.Column("tier_asked", sa.Text()))
        batch.add_column(sa.Column("tier_served", sa.Text()))
        batch.add_column(sa.Column("facts", JSON))


def downgrade() -> None:
    raise NotImplementedError("Go back by restoring the backup that was made before this migration.")
