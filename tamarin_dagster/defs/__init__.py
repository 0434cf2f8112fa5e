"""Thin Dagster shells over the core: what runs, when, and what the UI shows of it."""

import warnings

import dagster as dg

# Partitioned checks are a preview and backfill policies a beta of the minor version that setup.cfg pins; tests hold
# them to what we rely on. Said once here, it need not be said by every process that loads the definitions.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)
