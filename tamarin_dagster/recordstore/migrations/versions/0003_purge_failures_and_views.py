"""Since when a key's deletion fails; views of duplicate records and of late deliveries."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_VIEWS = ("s3_duplicate_record", "s3_delivery_lateness")
_STATEMENTS = (
    "ALTER TABLE s3_log_key ADD COLUMN purge_failed_at TIMESTAMP WITH TIME ZONE",
    "UPDATE s3_log_key SET purge_failed_at = now() WHERE purge_error IS NOT NULL",
    """
CREATE INDEX s3_log_key_purge_failed ON s3_log_key (bucket, purge_failed_at)
    WHERE purge_failed_at IS NOT NULL AND superseded_at IS NULL
    """,
)
_FORMER_STATEMENTS = (
    "DROP INDEX s3_log_key_purge_failed",
    "ALTER TABLE s3_log_key DROP COLUMN purge_failed_at",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
    for name in _VIEWS:
        op.get_bind().exec_driver_sql((Path(__file__).parents[2] / "views" / f"{name}.sql").read_text("utf-8"))


def downgrade() -> None:
    for name in _VIEWS:
        op.execute(f"DROP VIEW {name}")
    for statement in _FORMER_STATEMENTS:
        op.execute(statement)
