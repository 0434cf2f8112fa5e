"""Addresses and times in machine code agree with Python's own modules."""

import calendar
import ipaddress
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from tamarin_dagster.logformat.compiled.addresses import IPV6_BYTES, pack_address
from tamarin_dagster.logformat.compiled.compiling import compiled, pointer
from tamarin_dagster.logformat.compiled.scanning import NO_TIME, read_time
from tamarin_dagster.logformat.values import EPOCH, MONTHS
from tamarin_dagster_tests.examples import at_least


@compiled
def _packed_address(octets, packed):
    return pack_address(pointer(octets), 0, len(octets), pointer(packed))


@compiled
def _read_times(octets, width, times):
    """Read the times of texts that all are `width` bytes long."""
    for row in range(len(times)):
        times[row] = read_time(pointer(octets), row * width, (row + 1) * width - 5)


def packed(text: str) -> bytes | None:
    """Return the address's bytes; None if it is not an address."""
    room = np.full(IPV6_BYTES, 0xAA, np.uint8)
    length = _packed_address(np.frombuffer(text.encode(), np.uint8), room)
    return room[:length].tobytes() if length else None


def packed_by_python(text: str) -> bytes | None:
    """The same in Python; None for zone IDs, which Postgres does not have."""
    try:
        return None if "%" in text else ipaddress.ip_address(text).packed
    except ValueError:
        return None


def times(texts: list[str]) -> list[datetime | None]:
    """Return the times of texts like `06/Feb/2019:00:00:38 +0000`."""
    found = np.empty(len(texts), np.int64)
    _read_times(np.frombuffer("".join(texts).encode(), np.uint8), len(texts[0]), found)
    return [None if time == NO_TIME else time for time in found.tolist()]


@st.composite
def addresses(draw):
    """Draw texts that are addresses, or nearly."""
    address = draw(st.ip_addresses())
    text = draw(st.sampled_from([str(address), address.exploded, address.compressed.upper()]))
    if draw(st.booleans()) and address.version == 6:
        text = text.rpartition(":")[0].rpartition(":")[0] + ":" + str(draw(st.ip_addresses(v=4)))
    if draw(st.booleans()) and ":" in text:
        groups = text.split(":")
        start = draw(st.integers(0, len(groups)))
        groups[start : start + draw(st.integers(0, 4))] = draw(st.sampled_from([[""], ["", ""], ["0"]]))
        text = ":".join(groups)
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(text)))
        word = draw(
            st.sampled_from(["", "", ":", "::", ".", "0", "00", "1", "255", "256", "f", "G", "%1", "/", "-", "٣"])
        )
        text = text[:start] + word + text[start + draw(st.integers(0, 5)) :]
    return text


@at_least(500)
@given(st.one_of(addresses(), st.text("0123456789abcdefABCDEF:.", max_size=24), st.text(max_size=12)))
@example("")
@example("::")
@example(":::")
@example("1:2:3:4:5:6:7::")
@example("::2:3:4:5:6:7:8")
@example("1::2:3:4:5:6:7:8")
@example("1:2:3:4:5:6:1.2.3.4")
@example("1:2:3:4:5::1.2.3.4")
@example("1:2:3:4:5:6:7:1.2.3.4")
def test_an_address_is_what_python_takes_for_one(text):
    assert packed(text) == packed_by_python(text)


def test_all_days_there_are_and_some_that_are_none():
    years = [*range(0, 10_000, 100), *range(1996, 2105), 1, 4, 9999]
    dates = [(year, month, day) for year in years for month in range(1, 13) for day in range(40)]
    texts = [f"{day:02}/{MONTHS[month - 1]}/{year:04}:00:00:00 +0000" for year, month, day in dates]
    for (year, month, day), text, found in zip(dates, texts, times(texts), strict=True):
        exists = year > 0 and 1 <= day <= calendar.monthrange(year, month)[1]
        expected = (datetime(year, month, day, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) if exists else None
        assert found == expected, text


@at_least(300)
@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),  # noqa: DTZ001 - the zone is in the text
    st.sampled_from("+-"),
    st.integers(0, 19),
    st.integers(0, 59),
)
def test_a_time_is_what_python_takes_it_for(local, sign, hours, minutes):
    text = f"{local.day:02}/{MONTHS[local.month - 1]}/{local.year:04}:{local:%H:%M:%S} {sign}{hours:02}{minutes:02}"
    ahead = timedelta(hours=hours, minutes=minutes) * (-1 if sign == "-" else 1)
    expected = local.replace(microsecond=0, tzinfo=UTC) - ahead - EPOCH
    assert times([text]) == [expected // timedelta(microseconds=1)]


@at_least(300)
@given(st.integers(0, 39), st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", min_size=3, max_size=3),
       st.integers(0, 29))  # fmt: skip
def test_a_month_or_an_hour_that_is_none_is_no_time(day, month, hour):
    found = times([f"{day:02}/{month}/2019:{hour:02}:59:59 +0000"])
    exists = month in MONTHS and hour < 24 and 1 <= day <= calendar.monthrange(2019, MONTHS.index(month) + 1)[1]
    assert (found != [None]) == exists
