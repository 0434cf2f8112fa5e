"""The vectorised reader: ordinary lines, many at once.

A line is ordinary if it can be read in one way only: its quotes are just those around request, referrer and user agent
(or there are none, as for a request that was no HTTP request), single blanks separate its columns, and every column
that decides how the line is cut has its documented shape. Everything else is left to `careful`, with which this reader
agrees on every line that it takes.
"""

import polars as pl

from tamarin_dagster.logformat.careful import RAW_NAMES
from tamarin_dagster.logformat.fields import (
    BLOCK_FIELDS,
    HEAD_FIELDS,
    REQUEST_FIELDS,
    TAIL_FIELDS,
    TIME_PATTERN,
    ZONE_PATTERN,
    pattern_of,
)

_CLOUDFRONT_REQUESTER = "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity "
"""The one requester with blanks that comes in bulk: a private bucket behind CloudFront has it in every line."""

_HEAD = RAW_NAMES[: len(HEAD_FIELDS) + 1]
_REQUESTER = _HEAD.index("requester")
_CLOUDFRONT_PARTS = tuple(f"requester_{number}" for number in range(1, _CLOUDFRONT_REQUESTER.count(" ") + 1))
_CLOUDFRONT_HEAD = (*_HEAD[: _REQUESTER + 1], *_CLOUDFRONT_PARTS, *_HEAD[_REQUESTER + 1 :])
_TAIL = (*TAIL_FIELDS, "extra_fields")
_UNQUOTED = (*_HEAD, "request_uri", *BLOCK_FIELDS, "referrer", "user_agent", *_TAIL)

_BLOCK_PATTERN = "^ " + " ".join(pattern_of(name) for name in BLOCK_FIELDS) + " $"
_EXTRA_PATTERN = r"^[^ ]+(?: [^ ]+)*$"
_DECISIVE = {
    "time": rf"\[{TIME_PATTERN}",
    "zone": rf"{ZONE_PATTERN}\]",
    "operation": pattern_of("operation"),
    "signature_version": pattern_of("signature_version"),
}
"""Columns that tell a line which is cut wrongly: a requester with blanks, the extra column of March 2019."""
_SHAPES_QUOTED = _DECISIVE | {name: pattern_of(name) for name in ("request_method", "http_version")}
_SHAPES_UNQUOTED = _DECISIVE | {name: pattern_of(name) for name in BLOCK_FIELDS}


def read_lines(lines: pl.Series, rows: pl.Series) -> pl.DataFrame:
    """The ordinary ones among `lines`.

    Returns:
        `row` (from `rows`, the line's own) and the columns of `RAW_NAMES`, as text; ordered by row within each shape.
    """
    frame = pl.DataFrame({"row": rows, "line": lines})
    parts = frame.select("row", pl.col("line").str.splitn('"', 7)).unnest("line")
    shapes = [_read_quoted(parts, _HEAD)]
    if shapes[0].height < parts.height:
        others = ~pl.col("row").is_in(shapes[0].get_column("row").implode())
        shapes.append(_read_unquoted(frame.filter(others & ~pl.col("line").str.contains('"', literal=True))))
        from_cloudfront = pl.col("field_0").str.contains(_CLOUDFRONT_REQUESTER, literal=True)
        shapes.append(_read_quoted(parts.filter(others & from_cloudfront), _CLOUDFRONT_HEAD))
    return pl.concat(shapes)


def _read_quoted(parts: pl.DataFrame, head: tuple[str, ...]) -> pl.DataFrame:
    """Lines with quotes around request, referrer and user agent.

    Args:
        parts: `row`, and the line split at its quotes.
        head: names of the columns before the request, each without a blank.
    """
    frame = parts.select(_split("field_0", (*head, "head_end")), *_QUOTED_COLUMNS)
    frame = frame.unnest("field_0", "field_1", "field_2", "field_6")
    shapes = _have_shapes(frame, _SHAPES_QUOTED)
    request = (_IS_REQUEST & shapes["request_method"] & shapes["http_version"]) | pl.col("no_request")
    names = [name for name in head if name not in _HEAD]
    frame = frame.filter(
        _QUOTED_FITS, request, *(pl.col(name) != "" for name in names), *(shapes[n] for n in _DECISIVE)
    )
    if head is _CLOUDFRONT_HEAD:
        frame = frame.with_columns(pl.concat_str("requester", *_CLOUDFRONT_PARTS, separator=" ").alias("requester"))
        frame = frame.filter(pl.col("requester").str.contains(f"^{pattern_of('requester')}$"))
    return frame.select("row", *RAW_NAMES)


def _read_unquoted(frame: pl.DataFrame) -> pl.DataFrame:
    """Lines without a quote: no HTTP request, referrer or user agent. `frame`: `row` and `line`."""
    one_time = pl.col("line").str.count_matches("[", literal=True) == 1
    frame = frame.select("row", _split("line", _UNQUOTED), fits=one_time).unnest("line")
    shapes = _have_shapes(frame, _SHAPES_UNQUOTED)
    is_null = (pl.col(name) == "-" for name in ("request_uri", "referrer", "user_agent"))
    frame = frame.filter("fits", _WHOLE_COLUMNS, *is_null, *shapes.values())
    nothing = pl.lit(None, pl.String)
    return frame.with_columns(request_method=nothing, http_version=nothing).select("row", *RAW_NAMES)


def _split(column: str, names: tuple[str, ...]) -> pl.Expr:
    """The column cut at each blank, the last name taking all that is left."""
    return pl.col(column).str.splitn(" ", len(names)).struct.rename_fields(list(names))


def _have_shapes(frame: pl.DataFrame, shapes: dict[str, str]) -> dict[str, pl.Expr]:
    """For each column, which rows match its pattern (or are null)."""
    patterns = {name: f"^(?:{pattern})$" for name, pattern in shapes.items()}
    # there are far fewer distinct values than rows, and as a rule all of them match
    all_match = frame.select(pl.col(name).unique().str.contains(patterns[name]).all() for name in patterns).row(0)
    return {
        name: pl.lit(value=True) if matches else pl.col(name).str.contains(patterns[name]).fill_null(value=True)
        for (name, matches) in zip(patterns, all_match, strict=True)
    }


# Built once: building expressions takes longer than evaluating them on a few thousand rows.
_TAIL_TEXT = pl.col("field_6")
_QUOTED_COLUMNS = (
    pl.col("row"),
    _split("field_1", (*REQUEST_FIELDS, "request_end")),
    _split("field_2", ("block_start", *BLOCK_FIELDS, "block_end")),
    pl.col("field_3").alias("referrer"),
    pl.col("field_5").alias("user_agent"),
    _split("field_6", ("tail_start", *_TAIL)),
    ((pl.col("field_1") == "-") | (pl.col("field_1") == "")).alias("no_request"),
    (
        (pl.col("field_4") == " ")
        & pl.col("field_2").str.contains(_BLOCK_PATTERN)
        & ~_TAIL_TEXT.str.contains('"', literal=True)
        & ~_TAIL_TEXT.str.contains("[", literal=True)
    ).alias("fits"),
)
_WHOLE_COLUMNS = pl.all_horizontal(
    *(pl.col(name) != "" for name in _HEAD),
    *(pl.col(name).ne_missing("") for name in TAIL_FIELDS),
    pl.col("extra_fields").is_null() | pl.col("extra_fields").str.contains(_EXTRA_PATTERN),
)
"""No column is empty, as doubled blanks would make it."""
_IS_REQUEST = (pl.col("request_uri") != "") & pl.col("request_end").is_null()
_QUOTED_FITS = pl.col("fits") & (pl.col("head_end") == "") & (pl.col("tail_start") == "") & _WHOLE_COLUMNS
