"""The embedded Postgres: its folder, its account, its processes, its locks."""
