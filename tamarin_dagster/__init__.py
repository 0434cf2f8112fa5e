"""S3 server access logs into Postgres, completely and exactly once, with Dagster."""
