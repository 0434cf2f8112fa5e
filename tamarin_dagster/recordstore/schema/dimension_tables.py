"""Define the tables of what is known about values in rollups: kinds of user agents, networks of addresses, prices.

Each distinct value is looked up once, by `analytics.dimensions`, after the roll-up.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.recordstore.schema.tables import metadata
from tamarin_dagster.recordstore.whole_numbers import WholeNumber

dimension_day = sa.Table(
    "dimension_day",
    metadata,
    sa.Column("dimension", sa.Text, comment="One of user_agent, remote_ip and price."),
    sa.Column("bucket", sa.Text, comment="Bucket that the requests were made to."),
    sa.Column("request_date", sa.Date, comment="UTC day of the requests."),
    sa.Column(
        "rolled_up_at",
        sa.TIMESTAMP(timezone=True),
        nullable=False,
        comment="Which rollups of the day that was (traffic_day.rolled_up_at); newer ones are looked at again.",
    ),
    sa.PrimaryKeyConstraint("dimension", "bucket", "request_date"),
    comment="The days whose values are looked up.",
)

user_agent_kind = sa.Table(
    "user_agent_kind",
    metadata,
    sa.Column("user_agent", sa.Text, nullable=False, comment="HTTP User-Agent header, as in the records."),
    sa.Column(
        "kind",
        sa.Text,
        nullable=False,
        comment="search engine, AI crawler, monitoring, other bot, library/CLI, browser, app, AWS service or unknown.",
    ),
    sa.Column("name", sa.Text, comment="What it calls itself, without a version; null if that is not known."),
    sa.Column("rules", sa.Text, nullable=False, comment="Versions of the library and of the rules that told its kind."),
    sa.Column("classified_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="When they did."),
    # A user agent may have 8 KB, which does not fit into a B-tree. A hash index holds four bytes of each value, and an
    # exclusion constraint makes it unique.
    postgresql.ExcludeConstraint(("user_agent", "="), using="hash", name="user_agent_kind_once"),
    comment="The kind of each distinct user agent: what it claims to be, which anyone may.",
)

remote_ip_network = sa.Table(
    "remote_ip_network",
    metadata,
    sa.Column("remote_ip", postgresql.INET(), primary_key=True, comment="IP address, as in the records."),
    sa.Column("country", sa.Text, comment="ISO 3166 code of its country; null if the database does not know."),
    sa.Column("asn", sa.BigInteger, comment="Number of its network (autonomous system)."),
    sa.Column("network_name", sa.Text, comment="Whose network that is."),
    sa.Column("database_build", sa.Text, nullable=False, comment="Types and build times of the databases asked."),
    sa.Column("looked_up_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="When they were."),
    comment="Country and network of each distinct address, if geoip_database is set.",
)

s3_price = sa.Table(
    "s3_price",
    metadata,
    sa.Column("region", sa.Text, comment="Region of AWS."),
    sa.Column(
        "item",
        sa.Text,
        comment="put_requests, get_requests, ia_transitions, gir_transitions, glacier_transitions and"
        " deep_archive_transitions (USD per 1,000), internet_gb and interregion_gb (USD per GB of 2^30).",
    ),
    sa.Column(
        "from_gb", sa.Numeric, nullable=False, comment="GB of a month from which on the price holds; 0 without tiers."
    ),
    sa.Column("usd", sa.Numeric, nullable=False, comment="Price."),
    sa.Column("price_date", sa.Date, nullable=False, comment="Day as of which it is right."),
    sa.PrimaryKeyConstraint("region", "item", "from_gb"),
    comment="The prices that estimates are made with: prices.yaml, as it was read last.",
)

s3_monthly_price = sa.Table(
    "s3_monthly_price",
    metadata,
    sa.Column("bucket", sa.Text, comment="Bucket that the requests were made to."),
    sa.Column("month", sa.Date, comment="First day of the month, in UTC."),
    sa.Column("region", sa.Text, nullable=False, comment="Region whose prices these are."),
    sa.Column(
        "region_is_assumed",
        sa.Boolean,
        nullable=False,
        comment="Whether it only stands for the bucket's own, which is not set or has no prices.",
    ),
    sa.Column("price_date", sa.Date, nullable=False, comment="Day as of which the prices are right."),
    sa.Column("put_request_usd", sa.Numeric, nullable=False, comment="A request at the price of PUT."),
    sa.Column("get_request_usd", sa.Numeric, nullable=False, comment="A request at the price of GET."),
    sa.Column(
        "internet_byte_usd",
        sa.Numeric,
        nullable=False,
        comment="A byte sent to the internet: what the month's bytes of the region cost by tiers, on average.",
    ),
    sa.Column("interregion_byte_usd", sa.Numeric, nullable=False, comment="A byte sent to another region of AWS."),
    sa.Column(
        "internet_bytes",
        WholeNumber,
        nullable=False,
        comment="The bytes that were averaged over: of all logged buckets of that region, so far.",
    ),
    *(
        sa.Column(
            f"{name}_usd",
            sa.Numeric,
            comment=f"A lifecycle transition to {target}; null if the price list has no price.",
        )
        for name, target in (
            ("ia_transition", "Standard-IA, One Zone-IA or Intelligent-Tiering"),
            ("gir_transition", "Glacier Instant Retrieval"),
            ("glacier_transition", "Glacier Flexible Retrieval"),
            ("deep_archive_transition", "Glacier Deep Archive"),
        )
    ),
    sa.PrimaryKeyConstraint("bucket", "month"),
    comment="What a request and a byte of a bucket cost in a month, by s3_price. Estimates.",
)

DIMENSIONS = (user_agent_kind, remote_ip_network, s3_price, s3_monthly_price)
