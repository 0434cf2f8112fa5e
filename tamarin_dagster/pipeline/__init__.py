"""The steps of a log key, one file each: discover, pull, archive, purge, reparse, retain and others. No Dagster."""
