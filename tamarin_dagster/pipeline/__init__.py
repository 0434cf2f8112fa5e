"""The verbs: discover, pull, archive, purge, reparse, retain and their like, a file each. Knows nothing of Dagster."""
