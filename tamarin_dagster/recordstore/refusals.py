"""Describe how Postgres or the parser refuses data (rather than fails), without the secrets that a line may hold."""

import psycopg
import sqlalchemy as sa

from tamarin_dagster.recordstore.failures import first_line

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
    """Return one line with the answer of Postgres."""
    return f"Postgres refuses it: {first_line(error)}"


def describe_parse_error(error: Exception) -> str:
    """Return one line with the error of the parser."""
    return f"cannot be parsed: {type(error).__name__}: {first_line(error)}"
