"""How Postgres or the parser refuses data, as opposed to being gone; told without what a line holds in secret."""

import psycopg
import sqlalchemy as sa

from tamarin_dagster.logformat import redact_text

# What COPY raises SQLAlchemy does not wrap.
REFUSALS: tuple[type[Exception], ...] = (
    sa.exc.DataError,
    sa.exc.IntegrityError,
    sa.exc.ProgrammingError,
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.ProgrammingError,
)


def refusal(error: BaseException) -> str:
    """What Postgres said, in a line."""
    return f"Postgres refuses it: {_first_line(error)}"


def unparsed(error: Exception) -> str:
    """What the parser fell over, in a line."""
    return f"cannot be parsed: {type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    """The details below it quote the data."""
    return redact_text((str(error).strip().splitlines() or [""])[0])
