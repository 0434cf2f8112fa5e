"""The encoding that a database must have: lines of a log hold any character, and UTF8 alone has them all."""

import sqlalchemy as sa

ENCODING = "UTF8"


def encoding_of(connection: sa.Connection) -> str:
    """The encoding of the connection's database, as Postgres names it: UTF8, LATIN1, SQL_ASCII."""
    found = connection.scalar(sa.text("SELECT current_setting('server_encoding')"))
    # Without a client_encoding of its own psycopg gives bytes where the database is SQL_ASCII.
    return found.decode() if isinstance(found, bytes) else str(found)


def encoding_problem(connection: sa.Connection) -> str:
    """What is wrong with the database's encoding; nothing if it is right."""
    found = encoding_of(connection)
    return (
        "" if found == ENCODING else f"its encoding is {found}, which not every character fits; it must be {ENCODING}"
    )


def encoding_remedy(database: str | None) -> str:
    """What to do: an encoding cannot be changed afterwards."""
    name = database or "tamarin"
    return (
        f"make another one: CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0 (under another name, or after"
        " a DROP DATABASE); what is in it already: pg_dump, and restore into the new one"
    )
