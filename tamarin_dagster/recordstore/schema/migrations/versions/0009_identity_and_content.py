"""The database's identity, what a log key held, and where its records are archived."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
CREATE TABLE tamarin_database (
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    views_digest TEXT,
    views_version TEXT,
    backed_up_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id)
)
    """,
    "CREATE UNIQUE INDEX tamarin_database_single_row ON tamarin_database ((true))",
    "INSERT INTO tamarin_database DEFAULT VALUES",
    "ALTER TABLE s3_log_key ADD COLUMN content_sha256 BYTEA",
    "ALTER TABLE s3_log_key ADD COLUMN returned_at TIMESTAMP WITH TIME ZONE",
    "ALTER TABLE s3_log_key ADD COLUMN archive_place TEXT",
    "ALTER TABLE s3_log_key ADD COLUMN outdated_at TIMESTAMP WITH TIME ZONE",
    """
CREATE TABLE s3_archived_day (
    bucket TEXT NOT NULL,
    delivery_date DATE NOT NULL,
    place TEXT NOT NULL,
    key_digest TEXT,
    writing_digest TEXT,
    written_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (bucket, delivery_date, place)
)
    """,
    # Earlier versions did not note where they archived, and counted instead of digesting: place '' has these counts.
    """
INSERT INTO s3_archived_day (bucket, delivery_date, place, key_digest, written_at)
SELECT bucket, delivery_date, '', format('counts:%s:%s', count(*), sum(record_count)), max(archived_at)
FROM s3_log_key WHERE archived_at IS NOT NULL GROUP BY bucket, delivery_date
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
