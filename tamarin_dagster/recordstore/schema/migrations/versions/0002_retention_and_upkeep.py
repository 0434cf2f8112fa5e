"""Retention, one live generation of a name, and indexes and settings for a ledger and months of any size."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE s3_log_key ADD COLUMN expired_at TIMESTAMP WITH TIME ZONE",
    """
CREATE UNIQUE INDEX s3_log_key_live ON s3_log_key (log_bucket_name, key)
    WHERE purged_at IS NULL AND superseded_at IS NULL
    """,
    "CREATE INDEX s3_log_key_rejected ON s3_log_key (bucket, id) WHERE rejected_count > 0",
    """
CREATE INDEX s3_log_key_unexpired ON s3_log_key (first_request_dtime)
    WHERE superseded_at IS NULL AND expired_at IS NULL
    """,
    """
ALTER TABLE s3_log_key SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
)
    """,
    # Postgres has no ALTER for the index of a partitioned table. The new one is made in one reading of the records.
    "DROP INDEX s3_log_record_brin",
    """
CREATE INDEX s3_log_record_brin ON s3_log_record USING brin (request_dtime, log_key_id) WITH (pages_per_range = 32)
    """,
)
# A partitioned table has no storage parameters: each partition has its own.
_EACH_PARTITION = """
DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 's3_log_record'::regclass LOOP
        EXECUTE format('ALTER TABLE %s {change}', partition);
    END LOOP;
END
$$
"""
_SET = """SET (
    autovacuum_freeze_min_age = 0,
    autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_analyze_scale_factor = 0.02
)"""


def upgrade() -> None:
    for statement in (*_STATEMENTS, _EACH_PARTITION.replace("{change}", _SET)):
        op.execute(statement)
