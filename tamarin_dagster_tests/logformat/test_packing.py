"""Rows are packed alike with and without the compiled engine, wherever Arrow's buffers begin."""

import ipaddress
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.logformat import packing
from tamarin_dagster.logformat.packing import pack_addresses, pack_rows
from tamarin_dagster_tests.examples import at_least

_TYPES = (pa.string(), pa.binary(), pa.int16(), pa.int32(), pa.int64())
_VALUES = {
    pa.string(): st.text(max_size=20),
    pa.binary(): st.binary(max_size=20),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
}


@st.composite
def tables(draw):
    rows = draw(st.integers(0, 20))
    return [draw(st.lists(st.none() | _VALUES[type_], min_size=rows, max_size=rows)) for type_ in _TYPES], draw(
        st.integers(0, rows)
    )


def written(type_, value):
    """Return a value after its length, computed in another way."""
    if value is None:
        return struct.pack(">i", -1)
    if type_ in (pa.string(), pa.binary()):
        data = value.encode() if isinstance(value, str) else value
        return struct.pack(">i", len(data)) + data
    form = {16: ">ih", 32: ">ii", 64: ">iq"}[type_.bit_width]
    return struct.pack(form, type_.bit_width // 8, value)


@pytest.fixture(params=["compiled", "without numba"])
def engine(request, monkeypatch):
    if request.param != "compiled":
        monkeypatch.setattr(packing, "compiled_engine", lambda: None)


@at_least(100)
@given(tables())
def test_rows_are_packed_value_by_value(drawn):
    columns, start = drawn
    arrays = [pa.array(values, type_)[start:] for values, type_ in zip(columns, _TYPES, strict=True)]
    rows = len(arrays[0])
    leads = np.arange(3 * rows, dtype=np.uint8).reshape(rows, 3)
    expected = b"".join(
        leads[row].tobytes() + b"".join(written(array.type, array[row].as_py()) for array in arrays)
        for row in range(rows)
    )
    assert bytes(pack_rows(leads, arrays)) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "compiled_engine", lambda: None)
        assert bytes(pack_rows(leads, arrays)) == expected


def test_addresses_are_packed_after_the_lead_of_their_family(engine):
    texts = ["192.0.2.1", None, "2001:db8::1", "::", "255.255.255.255", "::ffff:192.0.2.1", None]
    packed = [
        text and (b"four" if "." in text and ":" not in text else b"sixteen") + ipaddress.ip_address(text).packed
        for text in texts
    ]
    for start in range(len(texts)):
        column = pa.array(texts, pa.string())[start:]
        assert pack_addresses(column, b"four", b"sixteen").to_pylist() == packed[start:]


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "localhost", "::g", "1::2::3"])
def test_a_text_that_is_not_an_address_is_refused_by_row(engine, text):
    with pytest.raises(ValueError, match="row 1 is not an IPv4 or IPv6 address"):
        pack_addresses(pa.array(["::1", text, "::2"], pa.string()), b"4", b"6")
