"""Define the tables of what is known about values in rollups: kinds of user agents, networks of addresses, prices.

Each distinct value is looked up once, by `analytics.dimension_refresh`, after the roll-up.
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
        comment="The rollups of the day that were read (traffic_day.rolled_up_at); newer ones are read again.",
    ),
    sa.PrimaryKeyConstraint("dimension", "bucket", "request_date"),
    comment="The days whose values have been looked up.",
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
    sa.Column("name", sa.Text, comment="Its name for itself, without a version; null if that is not known."),
    sa.Column("rules", sa.Text, nullable=False, comment="Versions of the library and of the rules that classified it."),
    sa.Column("classified_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="When it was classified."),
    # A user agent may have 8 KB, which does not fit into a B-tree. A hash index holds four bytes of each value, and an
    # exclusion constraint makes it unique.
    postgresql.ExcludeConstraint(("user_agent", "="), using="hash", name="user_agent_kind_once"),
    comment="The kind that each distinct user agent claims to be. A claim is no proof.",
)

remote_ip_network = sa.Table(
    "remote_ip_network",
    metadata,
    sa.Column("remote_ip", postgresql.INET(), primary_key=True, comment="IP address, as in the records."),
    sa.Column("country", sa.Text, comment="ISO 3166 code of its country; null if the database does not know."),
    sa.Column("asn", sa.BigInteger, comment="Number of its network (autonomous system)."),
    sa.Column("network_name", sa.Text, comment="Owner of that network."),
    sa.Column("database_build", sa.Text, nullable=False, comment="Types and build times of the databases used."),
    sa.Column("looked_up_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="When the address was looked up."),
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
        "from_gb", sa.Numeric, nullable=False, comment="GB of a month from which the price applies; 0 without tiers."
    ),
    sa.Column("usd", sa.Numeric, nullable=False, comment="Price."),
    sa.Column("price_date", sa.Date, nullable=False, comment="Day for which the price is right."),
    sa.PrimaryKeyConstraint("region", "item", "from_gb"),
    comment="The prices of the estimates: prices.yaml, as it was last read.",
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
        comment="Whether it replaces the bucket's own region, which is not set or has no prices.",
    ),
    sa.Column("price_date", sa.Date, nullable=False, comment="Day for which the prices are right."),
    sa.Column("put_request_usd", sa.Numeric, nullable=False, comment="Price of a PUT request."),
    sa.Column("get_request_usd", sa.Numeric, nullable=False, comment="Price of a GET request."),
    sa.Column(
        "internet_byte_usd",
        sa.Numeric,
        nullable=False,
        comment="Price of a byte to the internet: the average over the tiers for the month's bytes of the region.",
    ),
    sa.Column("interregion_byte_usd", sa.Numeric, nullable=False, comment="Price of a byte to another AWS region."),
    sa.Column(
        "internet_bytes",
        WholeNumber,
        nullable=False,
        comment="The bytes of that average: those of all logged buckets of the region so far.",
    ),
    *(
        sa.Column(
            f"{name}_usd",
            sa.Numeric,
            comment=f"Price of a lifecycle transition to {target}; null if the price list has none.",
        )
        for name, target in (
            ("ia_transition", "Standard-IA, One Zone-IA or Intelligent-Tiering"),
            ("gir_transition", "Glacier Instant Retrieval"),
            ("glacier_transition", "Glacier Flexible Retrieval"),
            ("deep_archive_transition", "Glacier Deep Archive"),
        )
    ),
    sa.PrimaryKeyConstraint("bucket", "month"),
    comment="Estimated prices of a bucket's requests and bytes in a month, from s3_price.",
)

DIMENSIONS = (user_agent_kind, remote_ip_network, s3_price, s3_monthly_price)
