"""Sums of bytes that are more than a bigint holds."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_DAILY = ("key", "remote_ip", "requester", "referrer", "user_agent")
# Each table is written anew, its indexes too: the rollups, not the records.
_COLUMNS = {
    "traffic_day": ("bytes_sent",),
    "traffic_hourly": ("bytes_sent",),
    **{f"traffic_daily_by_{each}": ("bytes_sent", "unbilled_bytes", "interregion_bytes") for each in _DAILY},
    "s3_monthly_price": ("internet_bytes",),
}


def upgrade() -> None:
    for table, columns in _COLUMNS.items():
        changes = ", ".join(f"ALTER COLUMN {column} TYPE NUMERIC" for column in columns)
        op.execute(f"ALTER TABLE {table} {changes}")
