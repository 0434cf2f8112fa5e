"""Since when a key's deletion fails. It made views, too, until views were repeatable (recordstore/repeatable.py)."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE s3_log_key ADD COLUMN purge_failed_at TIMESTAMP WITH TIME ZONE",
    "UPDATE s3_log_key SET purge_failed_at = now() WHERE purge_error IS NOT NULL",
    """
CREATE INDEX s3_log_key_purge_failed ON s3_log_key (bucket, purge_failed_at)
    WHERE purge_failed_at IS NOT NULL AND superseded_at IS NULL
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
