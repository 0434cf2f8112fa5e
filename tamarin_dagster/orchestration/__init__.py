"""Thin Dagster shells over the core: what runs, when, and what the UI shows of it."""
