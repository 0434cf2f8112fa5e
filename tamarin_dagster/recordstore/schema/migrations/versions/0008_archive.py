"""Which keys' records stand in the archive."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("s3_log_key", sa.Column("archived_at", sa.TIMESTAMP(timezone=True)))
