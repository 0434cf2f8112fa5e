"""Former names of modules that a dagster.yaml may contain. They work for one release; see orchestration.patches."""
