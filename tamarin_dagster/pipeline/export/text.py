r"""Export records as text: lines in Apache's combined format, and CSV. Postgres makes the text, and Python sends it.

Source: Apache HTTP Server manual, mod_log_config, "Format Notes": in %r, %{Referer}i and %{User-agent}i, a backslash
precedes a quote and a backslash, and control characters are `\xhh`.
"""

import time
from collections.abc import Callable, Generator, Sequence
from datetime import date

import sqlalchemy as sa
from psycopg import sql

from tamarin_dagster.pipeline.export import Exported
from tamarin_dagster.recordstore.database import DatabaseError
from tamarin_dagster.recordstore.extracts import Extract, copy_out, list_request_days, open_snapshot
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, describe_cause, raise_if_lost
from tamarin_dagster.recordstore.schema.tables import s3_log_record

# Rows are yielded in pieces of about this many bytes: one call for each row would take half as long again.
PIECE_BYTES = 256 * 1024

# The characters of a client's text to escape: all control characters, and those that some programs read as a line end.
_CONTROLS = r"\x01-\x1f\x7f-\x9f\u2028\u2029"
# In the records, a byte that was not UTF-8 is \xNN, and a literal \x is \x5cx.
_PIECES = rf"""\\x[0-9a-f]{{2}}|["\\]|[{_CONTROLS}]|[^"\\{_CONTROLS}]+"""
# Most texts are printable ASCII without a quote or a backslash, and need only this one test.
_ODD = r"[^ !#-[\]-~]"
_ESCAPED = sql.SQL(
    r"""CASE WHEN {text} ~ {odd} THEN (
    SELECT string_agg(CASE
        WHEN piece IN ('"', '\') THEN '\' || piece
        WHEN piece = '\x5c' THEN '\\'
        WHEN piece ~ {control} THEN regexp_replace(encode(convert_to(piece, 'UTF8'), 'hex'), '(..)', '\\x\1', 'g')
        ELSE piece END, '' ORDER BY place)
    FROM regexp_matches({text}, {pieces}, 'g') WITH ORDINALITY AS matched (pieces, place), unnest(pieces) AS piece
) ELSE {text} END"""
)
# One word. AWStats accepts neither a slash nor a bracket in it, and GoAccess finds the time by the first bracket.
_USER = sql.SQL(r"""CASE WHEN requester ~ '[^!#-.0-Z^-~]' THEN regexp_replace(requester, '[^!#-.0-Z^-~]', '_', 'g')
    ELSE coalesce(requester, '-') END""")
# Without TM, to_char writes English month names, whatever lc_time says.
_LINE = sql.SQL(
    """concat(coalesce(host(remote_ip), '-'), ' - ', {user},
    to_char(request_dtime, ' [DD/Mon/YYYY:HH24:MI:SS "+0000] '),
    '"', coalesce(nullif(concat_ws(' ', request_method, {uri}, http_version), ''), '-'), '" ',
    coalesce(CAST(http_status AS text), '-'), ' ', coalesce(CAST(bytes_sent AS text), '-'),
    ' "', coalesce({referrer}, '-'), '" "', coalesce({agent}, '-'), '"')"""
)
# COPY's text format would double backslashes. As CSV, a line without these two control characters is sent unchanged.
_LINE_OPTIONS = sql.SQL(r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02'")
_CSV_OPTIONS = sql.SQL("FORMAT csv")
# Spreadsheets evaluate a cell as a formula if it begins with +, -, = or @, or another form of these (full-width, small,
# superscript, subscript), after any spaces and invisible characters. A leading tab or line end is escaped, whatever
# follows.
_SIGNS = r"=+@\u207a-\u207c\u208a-\u208c\u2212\ufb29\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20-"
_BLANKS = (
    r"\u0001-\u0020\u007f-\u00a0\u00ad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    r"\u2800\u3000\u3164\ufeff\uffa0"
)
_FORMULA = rf"^[{_BLANKS}]*[{_SIGNS}]|^[\t\n\r]"
# The comparisons save most cells the regular expression.
_FORMULA_SAFE = sql.SQL(
    """CASE WHEN ({cell} < 'A' COLLATE "C" AND (ascii({cell}) <= 32 OR ascii({cell}) IN (43, 45, 61, 64))
    OR {cell} > '~' COLLATE "C") AND {cell} ~ {formula} THEN '''' || {cell} ELSE {cell} END"""
)


def combined_lines(
    engine: sa.Engine,
    *,
    buckets: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
    progress: Callable[[Exported], None] | None = None,
) -> Generator[bytes]:
    """Yield records as lines of Apache's combined log format, in the order of the requests, in pieces of whole lines.

    `buckets` are bucket names in the records (default: all), `first` and `last` are request days (UTC). The user is the
    requester as one word. Missing values are `-`: S3's own actions have no host, request, status or bytes.
    """
    texts = {"uri": "request_uri", "referrer": "referrer", "agent": "user_agent"}
    line = _LINE.format(user=_USER, **{name: _escape(column) for name, column in texts.items()})
    return _copy_pieces(engine, line, _LINE_OPTIONS, b"", buckets, first, last, progress)


def csv_rows(
    engine: sa.Engine,
    *,
    buckets: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
    formula_safe: bool = False,
    progress: Callable[[Exported], None] | None = None,
) -> Generator[bytes]:
    """Yield records as CSV with a header and all columns, in the order of the requests, in pieces of whole rows.

    NULL is an empty cell, times are in UTC. With `formula_safe`, a text that a spreadsheet would evaluate as a formula
    gets an apostrophe before it. For the other arguments see `combined_lines`.
    """
    columns = [_make_cell(column) if formula_safe else sql.Identifier(column.name) for column in s3_log_record.columns]
    header = ",".join(column.name for column in s3_log_record.columns).encode() + b"\n"
    return _copy_pieces(engine, sql.SQL(", ").join(columns), _CSV_OPTIONS, header, buckets, first, last, progress)


def _escape(column: str) -> sql.Composable:
    return _ESCAPED.format(text=sql.Identifier(column), odd=_ODD, control=f"^[{_CONTROLS}]", pieces=_PIECES)


def _make_cell(column: sa.Column[object]) -> sql.Composable:
    name = sql.Identifier(column.name)
    return _FORMULA_SAFE.format(cell=name, formula=_FORMULA) if isinstance(column.type, sa.Text) else name


def _copy_pieces(
    engine: sa.Engine,
    columns: sql.Composable,
    options: sql.Composable,
    header: bytes,
    buckets: Sequence[str] | None,
    first: date | None,
    last: date | None,
    progress: Callable[[Exported], None] | None,
) -> Generator[bytes]:
    started = time.monotonic()
    with engine.connect() as connection:
        days = list_request_days(connection, first, last)
    done = Exported(all_days=len(days))
    held, size = [header], len(header)
    for day in days:
        statement = Extract(day, None if buckets is None else tuple(buckets)).copy(columns, options)
        try:
            with open_snapshot(engine) as connection, copy_out(connection, statement) as rows:
                for row in rows:
                    held.append(row)
                    size += len(row)
                    done.rows += 1
                    if size >= PIECE_BYTES:
                        yield _report(held, done, started, progress)
                        held, size = [], 0
        except DATABASE_ERRORS as error:
            # Nobody would notice a missing day within one text, so the text ends before it.
            raise_if_lost(error)
            remedy = (
                "what is written ends before that day; remove the cause, or export the days around it with --from"
                " and --to"
            )
            raise DatabaseError(f"day {day}: cannot export: {describe_cause(error)} - {remedy}") from None
        done.days += 1
    yield _report(held, done, started, progress)


def _report(held: list[bytes], done: Exported, started: float, progress: Callable[[Exported], None] | None) -> bytes:
    piece = b"".join(held)
    done.bytes += len(piece)
    done.seconds = time.monotonic() - started
    if progress:
        progress(done)
    return piece
