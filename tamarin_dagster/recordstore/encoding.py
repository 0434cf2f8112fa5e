"""The encoding that a database must have: lines of a log hold any character, and only UTF8 has all of them."""

import sqlalchemy as sa

ENCODING = "UTF8"


def get_encoding(connection: sa.Connection) -> str:
    """Return the encoding of the connection's database, as Postgres names it: UTF8, LATIN1, SQL_ASCII."""
    found = connection.scalar(sa.select(sa.func.current_setting("server_encoding")))
    # If the database is SQL_ASCII and no client_encoding is set, psycopg returns bytes.
    return found.decode() if isinstance(found, bytes) else str(found)


def encoding_problem(connection: sa.Connection) -> str:
    """Return what is wrong with the database's encoding; empty if it is right."""
    found = get_encoding(connection)
    return "" if found == ENCODING else f"its encoding is {found}, which lacks some characters; it must be {ENCODING}"


def encoding_remedy(database: str | None) -> str:
    """Return the remedy: an encoding cannot be changed later, so the database must be made again."""
    name = database or "tamarin"
    return (
        f"create another one: CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0 (under another name, or after"
        " a DROP DATABASE); if it has data already, use pg_dump and restore into the new one"
    )
