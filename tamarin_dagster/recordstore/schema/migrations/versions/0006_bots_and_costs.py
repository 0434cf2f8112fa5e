"""Kinds of user agents, networks of addresses, prices.

It made views, too, until views were repeatable (recordstore/repeatable.py).
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

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
