"""Describe how Postgres or the parser refuses data (rather than fails), without the secrets that a line may hold."""

import psycopg
import sqlalchemy as sa

from tamarin_dagster.logformat import redact_text

# SQLAlchemy does not wrap the errors of COPY.
REFUSALS: tuple[type[Exception], ...] = (
    sa.exc.DataError,
    sa.exc.IntegrityError,
    sa.exc.ProgrammingError,
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.ProgrammingError,
)


def describe_refusal(error: BaseException) -> str:
    """Return in a line what Postgres said."""
    return f"Postgres refuses it: {_first_line(error)}"


def describe_parse_error(error: Exception) -> str:
    """Return in a line the error of the parser."""
    return f"cannot be parsed: {type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    """Return the first line, because later lines quote the data."""
    return redact_text((str(error).strip().splitlines() or [""])[0])
