"""The traffic of each row of the report that tests change."""

from tamarin_dagster.analytics.report.figures import Traffic

TRAFFIC = Traffic(requests=10, bytes_sent=2_000, error_count=1)
