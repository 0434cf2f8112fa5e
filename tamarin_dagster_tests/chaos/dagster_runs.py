"""Runs of Dagster that overlap, or are cancelled."""
