"""Thin Dagster shells over the core: they define what runs, when it runs, and what the UI shows."""
