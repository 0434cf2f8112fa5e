"""Kinds of user agents, networks of addresses, prices; views of what traffic is estimated to cost."""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_VIEWS = (
    "s3_cost_daily",
    "s3_cost_by_key",
    "s3_cost_by_prefix",
    "s3_cost_by_remote_ip",
    "s3_cost_by_requester",
    "s3_cost_by_referrer",
    "s3_cost_by_user_agent",
    "s3_bot_traffic",
)
_STATEMENTS = (
    "ALTER TABLE s3_logged_bucket ADD COLUMN region TEXT",
    """
CREATE TABLE dimension_day (
    dimension TEXT NOT NULL,
    bucket TEXT NOT NULL,
    request_date DATE NOT NULL,
    rolled_up_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (dimension, bucket, request_date)
)
    """,
    """
CREATE TABLE user_agent_kind (
    user_agent TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT,
    rules TEXT NOT NULL,
    classified_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT user_agent_kind_once EXCLUDE USING hash (user_agent WITH =)
)
    """,
    """
CREATE TABLE remote_ip_network (
    remote_ip INET PRIMARY KEY,
    country TEXT,
    asn BIGINT,
    network_name TEXT,
    database_build TEXT NOT NULL,
    looked_up_at TIMESTAMP WITH TIME ZONE NOT NULL
)
    """,
    """
CREATE TABLE s3_price (
    region TEXT NOT NULL,
    item TEXT NOT NULL,
    from_gb NUMERIC NOT NULL,
    usd NUMERIC NOT NULL,
    price_date DATE NOT NULL,
    PRIMARY KEY (region, item, from_gb)
)
    """,
    """
CREATE TABLE s3_monthly_price (
    bucket TEXT NOT NULL,
    month DATE NOT NULL,
    region TEXT NOT NULL,
    region_is_assumed BOOLEAN NOT NULL,
    price_date DATE NOT NULL,
    put_request_usd NUMERIC NOT NULL,
    get_request_usd NUMERIC NOT NULL,
    internet_byte_usd NUMERIC NOT NULL,
    interregion_byte_usd NUMERIC NOT NULL,
    internet_bytes BIGINT NOT NULL,
    PRIMARY KEY (bucket, month)
)
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
    for name in _VIEWS:
        op.get_bind().exec_driver_sql((Path(__file__).parents[2] / "views" / f"{name}.sql").read_text("utf-8"))


def downgrade() -> None:
    for name in _VIEWS:
        op.execute(f"DROP VIEW {name}")
    for name in ("s3_monthly_price", "s3_price", "remote_ip_network", "user_agent_kind", "dimension_day"):
        op.execute(f"DROP TABLE {name}")
    op.execute("ALTER TABLE s3_logged_bucket DROP COLUMN region")
