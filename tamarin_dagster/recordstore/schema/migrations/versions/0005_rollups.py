"""Rollups of traffic; all days that are loaded are to be rolled up."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = """
    bucket TEXT NOT NULL,
    request_date DATE NOT NULL,
    {dimension},
    requests BIGINT NOT NULL,
    bytes_sent BIGINT NOT NULL,
    error_count BIGINT NOT NULL,
    put_requests BIGINT NOT NULL,
    unbilled_requests BIGINT NOT NULL,
    unbilled_bytes BIGINT NOT NULL,
    interregion_bytes BIGINT NOT NULL
"""
_DIMENSIONS = {
    "key": ("TEXT", ", reads BIGINT NOT NULL, deletes BIGINT NOT NULL, object_size BIGINT"),
    "remote_ip": ("INET", ""),
    "requester": ("TEXT", ""),
    "referrer": ("TEXT", ""),
    "user_agent": ("TEXT", ""),
}
_STATEMENTS = (
    "CREATE TABLE traffic_pending_day (bucket TEXT, request_date DATE NOT NULL)",
    """
CREATE TABLE traffic_day (
    bucket TEXT NOT NULL,
    request_date DATE NOT NULL,
    requests BIGINT NOT NULL,
    bytes_sent BIGINT NOT NULL,
    rolled_up_at TIMESTAMP WITH TIME ZONE NOT NULL,
    seconds FLOAT NOT NULL,
    checked_at TIMESTAMP WITH TIME ZONE,
    expired_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (bucket, request_date)
)
    """,
    """
CREATE TABLE traffic_hourly (
    bucket TEXT NOT NULL,
    hour TIMESTAMP WITH TIME ZONE NOT NULL,
    operation_class TEXT NOT NULL,
    status_class SMALLINT,
    requests BIGINT NOT NULL,
    bytes_sent BIGINT NOT NULL,
    error_count BIGINT NOT NULL,
    p50_total_time BIGINT,
    p95_total_time BIGINT,
    max_total_time BIGINT
)
    """,
    "CREATE INDEX traffic_hourly_hour ON traffic_hourly (bucket, hour)",
    *(
        statement
        for name, (kind, more) in _DIMENSIONS.items()
        for statement in (
            f"CREATE TABLE traffic_daily_by_{name} ({_COLUMNS.format(dimension=f'{name} {kind}')}{more})",
            f"CREATE INDEX traffic_daily_by_{name}_day ON traffic_daily_by_{name} (bucket, request_date)",
        )
    ),
    # Of which bucket the records are is read when their turn comes.
    """
INSERT INTO traffic_pending_day (request_date)
SELECT DISTINCT CAST(day AS date)
FROM (
    SELECT DISTINCT
        date_trunc('day', first_request_dtime AT TIME ZONE 'UTC') AS first,
        date_trunc('day', last_request_dtime AT TIME ZONE 'UTC') AS last
    FROM s3_log_key
    WHERE superseded_at IS NULL AND expired_at IS NULL AND first_request_dtime IS NOT NULL
) key
CROSS JOIN LATERAL generate_series(key.first, key.last, interval '1 day') AS day
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
