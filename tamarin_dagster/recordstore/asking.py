"""Run a query of a person or a script: its text goes to Postgres unchanged, and its answers come row by row.

This uses libpq directly, because a cursor holds a whole answer, and raises an error for some values (a date before
Christ, an infinite one).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any

import psycopg
from psycopg import generators, postgres
from psycopg.abc import Buffer
from psycopg.abc import Transformer as AnyTransformer
from psycopg.adapt import Loader, Transformer
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

_NUMBERS = {postgres.types[name].oid for name in ("int2", "int4", "int8", "float4", "float8", "numeric", "oid")}
_COPY = "COPY from or to standard input or output is psql's: start tamarin-dagster sql without a query"


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of one statement. Take them before you take the next answer.

    Attributes:
        names: the names of the columns; several may be the same.
        are_numbers: whether each column holds numbers.
        rows: values as Postgres writes them (`str`), or as JSON represents them; None for NULL.
    """

    names: tuple[str, ...]
    are_numbers: tuple[bool, ...]
    rows: Iterator[tuple[Any, ...]]


def ask(connection: psycopg.Connection, query: str, *, for_json: bool = False) -> Iterator[Answer | str]:
    """Yield the answer of each statement, or Postgres' tag of one without rows, such as `INSERT 0 1`.

    Several statements run in one transaction, as with `psql -c`, unless they say otherwise. With `for_json`, booleans,
    numbers, lists and the contents of JSON columns keep their types, and times are ISO 8601; otherwise each value is
    text. Raises psycopg.Error. An interrupt cancels the query.
    """
    _set_up(connection)
    connection.pgconn.send_query(query.encode())
    connection.pgconn.set_single_row_mode()
    connection.wait(generators.send(connection.pgconn))
    while (result := _next(connection)) is not None:
        if result.status in {ExecStatus.SINGLE_TUPLE, ExecStatus.TUPLES_OK}:
            columns = range(result.nfields)
            yield Answer(
                tuple((result.fname(column) or b"").decode() for column in columns),
                tuple(result.ftype(column) in _NUMBERS for column in columns),
                _rows(connection, result, Transformer(connection) if for_json else None),
            )
        elif result.status == ExecStatus.COMMAND_OK:
            yield (result.command_status or b"").decode()


def _set_up(connection: psycopg.Connection) -> None:
    """Set the output styles, so that times look the same whatever the server, the role or the URL prefers."""
    # Change only what differs: through PgBouncer another client gets this server connection next.
    status = connection.info.parameter_status
    if not (status("DateStyle") or "").startswith("ISO"):
        connection.execute("SET DateStyle = 'ISO'")
    if status("IntervalStyle") not in {"postgres", None}:
        connection.execute("SET IntervalStyle = 'postgres'")
    for name in ("bytea", "date", "interval", "time", "timetz"):
        connection.adapters.register_loader(name, _Text)
    for name in ("timestamp", "timestamptz"):
        connection.adapters.register_loader(name, _Iso)
    for name in ("float4", "float8", "numeric"):
        connection.adapters.register_loader(name, _Number)
    for name in ("json", "jsonb"):
        connection.adapters.register_loader(name, _Json)


def _next(connection: psycopg.Connection) -> PGresult | None:
    result: PGresult | None = connection.wait(generators.fetch(connection.pgconn))
    if result is None:
        return None
    if result.status == ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)
    if result.status in {ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH}:
        raise psycopg.NotSupportedError(_COPY)
    return result


def _rows(
    connection: psycopg.Connection, result: PGresult | None, typed: AnyTransformer | None
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows up to the end of the statement, each of them a result of its own."""
    while result is not None and result.status == ExecStatus.SINGLE_TUPLE:
        if typed is not None:
            typed.set_pgresult(result)
            yield typed.load_row(0, tuple)
        else:
            values = (result.get_value(0, column) for column in range(result.nfields))
            yield tuple(None if value is None else value.decode() for value in values)
        result = _next(connection)


class _Text(Loader):
    """Text as Postgres writes it."""

    def load(self, data: Buffer) -> Any:
        return bytes(data).decode()


class _Iso(Loader):
    """`2026-03-05 10:00:00+00` as `2026-03-05T10:00:00+00:00`; infinite times and those before Christ unchanged."""

    def load(self, data: Buffer) -> Any:
        text = bytes(data).decode()
        if text.count(" ") != 1:
            return text
        hours = text[-3:]
        return text.replace(" ", "T") + (":00" if hours[0] in "+-" and hours[1:].isdigit() else "")


class _Number(Loader):
    """A whole number in all its digits, any other as near as JSON parsers read it; NaN and infinity as text."""

    def load(self, data: Buffer) -> Any:
        text = bytes(data).decode()
        number = Decimal(text)
        if not number.is_finite() or not isfinite(float(number)):
            return text
        return int(number) if "." not in text and "e" not in text else float(number)


class _Json(Loader):
    """The contents of a JSON column."""

    def load(self, data: Buffer) -> Any:
        return json.loads(bytes(data))
