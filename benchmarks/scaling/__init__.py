"""The benchmark of backfills on several Celery workers."""
