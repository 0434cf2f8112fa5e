"""The hour of delivery, for buckets whose partitions are hours. Writes the ledger anew."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_DELIVERY = "CREATE INDEX s3_log_key_delivery ON s3_log_key (bucket, delivery_date{hour})"
_UNPURGED = """
CREATE INDEX s3_log_key_unpurged ON s3_log_key (bucket, delivery_date{hour})
    WHERE purged_at IS NULL AND superseded_at IS NULL
"""
_ADDED = r"""
ALTER TABLE s3_log_key ADD COLUMN delivery_hour SMALLINT GENERATED ALWAYS AS
    (CAST(substring(key, '([0-9]{2})-[0-9]{2}-[0-9]{2}-[0-9A-Za-z]{16}(?:[.](?:gz|zst))?$') AS smallint)) STORED
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_ADDED)
    _index_again(", delivery_hour")


def _index_again(hour: str) -> None:
    for statement in (_DELIVERY, _UNPURGED):
        op.execute(f"DROP INDEX {statement.split()[2]}")
        op.execute(statement.format(hour=hour))
