"""The doctor: checks whether settings, database and log buckets fit their use, and says what to do if not.

It migrates, loads and purges nothing. It writes only its own probe object, where log keys are purged.
"""

from tamarin_dagster.operations.doctor.finding import Finding, Status

__all__ = ["Finding", "Status"]
