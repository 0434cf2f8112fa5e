"""Texts -> typed values, for both readers: nulls, numbers, times and addresses, and which lines they disqualify."""

import ipaddress
from datetime import UTC, datetime, timedelta

import polars as pl

from tamarin_dagster.logformat.fields import FIELD_NAMES, FIELDS
from tamarin_dagster.logformat.reasons import RejectReason

EARLIEST_REQUEST = datetime(2006, 1, 1, tzinfo=UTC)
"""S3 opened in March 2006."""
MAX_AHEAD = timedelta(days=1)
"""How far ahead of now a request time may be: clocks and time zones of S3-compatible stores."""

POLARS_TYPES: dict[str, pl.DataType] = {
    "timestamptz": pl.Datetime("us", "UTC"),
    "inet": pl.String(),
    "smallint": pl.Int16(),
    "bigint": pl.Int64(),
    "text": pl.String(),
}
RECORD_SCHEMA = {field.name: POLARS_TYPES[field.sql_type] for field in FIELDS}

_NUMBERS = tuple(field.name for field in FIELDS if field.sql_type in ("smallint", "bigint"))
_QUOTED = ("request_method", *(field.name for field in FIELDS if field.quoted))
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"


def typed(raw: pl.DataFrame, now: datetime) -> tuple[pl.DataFrame, dict[int, RejectReason]]:
    """The records that the raw columns are, and the reasons why rows are none.

    Args:
        raw: `row` and the columns of `careful.RAW_NAMES`.
        now: aware; later request times than `MAX_AHEAD` of it are out of range.

    Returns:
        The good rows as `row` and the fields' columns in their types, and the reason for each other row.
    """
    is_utc, are_ipv4 = raw.select(_IS_UTC, _ARE_IPV4).row(0)
    frame = raw.select(_TYPED if is_utc else (*_TYPED, "zone"))
    if not is_utc:
        frame = _in_utc(frame)
    range_of_time = pl.col("request_dtime").is_between(EARLIEST_REQUEST, now + MAX_AHEAD).all().alias("in_range")
    all_times, in_range, *nulls = frame.select(
        (pl.col("request_dtime").null_count() == 0).alias("all_times"),
        range_of_time,
        *(pl.col(name).null_count() for name in _NUMBERS),
    ).row(0)
    if all_times and in_range and are_ipv4 and tuple(nulls) == raw.select(_NULL_NUMBERS).row(0):
        return frame, {}
    reasons = _reasons(raw, frame, now)
    return frame.filter(~pl.col("row").is_in(list(reasons))), reasons


def _reasons(raw: pl.DataFrame, frame: pl.DataFrame, now: datetime) -> dict[int, RejectReason]:
    """The first thing that is wrong with each bad row."""
    time = frame.get_column("request_dtime")
    wrong = {
        RejectReason.BAD_TIME: time.is_null(),
        RejectReason.TIME_OUT_OF_RANGE: ~time.is_between(EARLIEST_REQUEST, now + MAX_AHEAD),
        RejectReason.BAD_ADDRESS: _is_no_address(frame.get_column("remote_ip")),
    }
    reasons: dict[int, RejectReason] = {}
    rows = frame.get_column("row")
    for reason, is_wrong in wrong.items():
        reasons |= dict.fromkeys(rows.filter(is_wrong.fill_null(value=False)), reason) | reasons
    for name in _NUMBERS:
        too_big = frame.get_column(name).is_null() & (raw.get_column(name) != "-").fill_null(value=False)
        reasons |= dict.fromkeys(rows.filter(too_big), RejectReason.BAD_NUMBER) | reasons
    return reasons


def _in_utc(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its request times moved from the zone in `zone` to UTC, and without that column."""
    zones = frame.get_column("zone").unique()
    offsets = pl.Series("offset", [_offset(zone) for zone in zones], dtype=pl.Duration("us"))
    offset = pl.col("zone").replace_strict(zones, offsets, return_dtype=pl.Duration("us"))
    return frame.with_columns(request_dtime=pl.col("request_dtime") - offset).drop("zone")


def _offset(zone: str) -> timedelta:
    """What a zone, written like `-0530]`, is ahead of UTC."""
    ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
    return -ahead if zone.startswith("-") else ahead


def _is_no_address(addresses: pl.Series) -> pl.Series:
    """Which addresses Postgres' type inet may refuse; decided once per distinct address."""
    distinct = addresses.unique().drop_nulls()
    others = distinct.filter(~distinct.str.contains(f"^{_IPV4}$"))
    wrong = pl.Series([text for text in others if not _is_address(text)], dtype=pl.String)
    return addresses.is_in(wrong.implode())


def _is_address(text: str) -> bool:
    # Postgres knows no zone ids (fe80::1%eth0)
    if "%" in text:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _typed(name: str) -> pl.Expr:
    """The raw text of a field in the field's type; `-` is null, and so is empty text in quotes."""
    text = pl.col(name)
    if name == "request_dtime":
        time = pl.col("time").str.to_datetime("[%d/%b/%Y:%H:%M:%S", time_unit="us", strict=False)
        return time.dt.replace_time_zone("UTC").alias(name)
    if name in _NUMBERS:
        return text.cast(RECORD_SCHEMA[name], strict=False)
    if name in _QUOTED:
        return pl.when((text != "-") & (text != "")).then(text)
    return pl.when(text != "-").then(text)


# Built once: building expressions takes longer than evaluating them on a few thousand rows.
_TYPED = (pl.col("row"), *(_typed(name) for name in FIELD_NAMES))
_NULL_NUMBERS = tuple((pl.col(name) == "-").sum() for name in _NUMBERS)
_IS_UTC = (pl.col("zone") == "+0000]").all()
_ARE_IPV4 = (pl.col("remote_ip").unique().str.contains(rf"^(?:-|{_IPV4})$")).all()
