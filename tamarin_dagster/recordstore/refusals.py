"""How Postgres refuses data, as opposed to being gone."""

import psycopg
import sqlalchemy as sa

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
    return f"Postgres refuses it: {str(error).strip().splitlines()[0]}"
