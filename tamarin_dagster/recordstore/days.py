"""UTC days of requests, as conditions on records."""

from datetime import UTC, date, datetime, time, timedelta

import sqlalchemy as sa

from tamarin_dagster.recordstore.schema.tables import s3_log_record


def midnight(day: date) -> datetime:
    """Return the day's first moment, in UTC."""
    return datetime.combine(day, time(), UTC)


def of_day(day: date) -> sa.ColumnElement[bool]:
    """Return the condition that a record's request was made on that UTC day."""
    start, time_ = midnight(day), s3_log_record.c.request_dtime
    return sa.and_(time_ >= start, time_ < start + timedelta(days=1))
