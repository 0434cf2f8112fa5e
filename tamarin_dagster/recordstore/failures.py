"""Tell the failure of one bucket and day from the loss of the database, and describe it in a line."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import psycopg
import sqlalchemy as sa

# SQLAlchemy does not wrap the errors of COPY.
DATABASE_ERRORS = (sa.exc.DBAPIError, psycopg.Error)
# SQLSTATE classes and codes of a server that is gone or going: connection exceptions, shutdown, crash, startup.
_GONE = ("08", "57P01", "57P02", "57P03", "57P05")


@dataclass(frozen=True, slots=True)
class DayFailure:
    """A bucket's day that failed while the other days could go on.

    Attributes:
        doing: the failed action, for example "roll up".
        bucket: None for the records of all buckets.
        cause: what the database said, without values of the data.
        remedy: what to do.
    """

    doing: str
    bucket: str | None
    day: date
    cause: str
    remedy: str

    def __str__(self) -> str:
        """Describe the failure in a line."""
        place = f"bucket {self.bucket}, day {self.day}" if self.bucket is not None else f"day {self.day}"
        return f"{place}: cannot {self.doing}: {self.cause} - {self.remedy}"


@contextmanager
def isolate_failure(
    failures: list[DayFailure], doing: str, bucket: str | None, day: date, remedy: str
) -> Iterator[None]:
    """Record a database error of the body as a failure of this bucket and day, so that the other days go on.

    A lost connection is raised, since every other day would fail too.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        if is_connection_lost(error):
            raise
        failures.append(DayFailure(doing, bucket, day, describe_cause(error), remedy))


def raise_if_lost(error: BaseException) -> None:
    """Raise the error again if the server is gone: every other bucket and day would fail too."""
    if isinstance(error, DATABASE_ERRORS) and is_connection_lost(error):
        raise error


def is_connection_lost(error: BaseException) -> bool:
    """Return whether the server is gone, so that no other statement can succeed either."""
    if isinstance(error, sa.exc.DBAPIError):
        if error.connection_invalidated:
            return True
        error = error.orig or error
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    # An error without a SQLSTATE does not come from the server: nobody answered.
    return error.sqlstate is None or error.sqlstate.startswith(_GONE)


def describe_cause(error: BaseException) -> str:
    """Return the first line of what the database said, without secrets of presigned URLs."""
    return first_line(error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig else error)


def first_line(error: BaseException | None) -> str:
    """Return the first line of an error, without secrets of presigned URLs. Later lines may quote the data."""
    # Imported only for an error, because it takes time.
    from tamarin_dagster.logformat import redact_text  # noqa: PLC0415

    return redact_text((str(error).strip().splitlines() or [type(error).__name__])[0])
