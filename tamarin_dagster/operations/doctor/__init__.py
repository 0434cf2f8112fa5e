"""The doctor: whether settings, database and log buckets are fit for what is asked of them, and what to do if not.

Nothing is migrated, loaded or purged. All that it writes is a probe object of its own, where log keys are purged.
"""

from tamarin_dagster.operations.doctor.finding import Finding, Status

__all__ = ["Finding", "Status"]
