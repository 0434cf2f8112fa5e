import gzip

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.logformat import DecompressionError, decompress

TEXT = b"a line of a log\n" * 1000


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


PACKERS = pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])


@PACKERS
def test_a_packed_body_is_unpacked(pack):
    assert decompress(pack(TEXT)) == TEXT
    assert decompress(pack(b"")) == b""


@PACKERS
def test_members_in_a_row_are_one_body(pack):
    assert decompress(pack(TEXT) + pack(b"") + pack(b"more\n")) == TEXT + b"more\n"


@given(st.binary())
def test_plain_bytes_pass_through(data):
    body = b"x" + data
    assert decompress(body) is body


@PACKERS
def test_a_packed_body_cut_short_is_an_error(pack):
    packed = pack(TEXT)
    for length in (5, len(packed) // 2, len(packed) - 1):
        with pytest.raises(DecompressionError, match=r"cut short|corrupt"):
            decompress(packed[:length])


def test_a_changed_gzip_body_is_an_error():
    packed = bytearray(gzip.compress(TEXT))
    packed[-6] ^= 1
    with pytest.raises(DecompressionError, match="corrupt"):
        decompress(bytes(packed))


def test_rubbish_behind_a_gzip_member_is_an_error_but_padding_is_not():
    assert decompress(gzip.compress(TEXT) + b"\0" * 512) == TEXT
    with pytest.raises(DecompressionError):
        decompress(gzip.compress(TEXT) + b"rubbish")


@PACKERS
def test_a_body_that_grows_beyond_the_caps_is_an_error(pack):
    bomb = pack(b"\n" * 20_000_000)
    with pytest.raises(DecompressionError, match="more than 1000000 bytes"):
        decompress(bomb, max_bytes=1_000_000)
    with pytest.raises(DecompressionError, match="more than 10 times"):
        decompress(bomb, max_ratio=10)
