import bz2
import gzip
import io
import lzma
import random
import struct
import zipfile
import zlib
from functools import cache

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.logformat import DecompressionError, decompress, decompress_chunks
from tamarin_dagster.logformat.compression import RATIO_FREE_BYTES
from tamarin_dagster_tests.examples import at_least
from tamarin_dagster_tests.logformat.cuts import chunks_of, sizes

TEXT = b"a line of a log\n" * 1000


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


@cache
def packed_once(pack, data):
    return pack(data)


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
        with pytest.raises(DecompressionError, match=r"truncated|corrupt"):
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


MEMBERS = st.sampled_from([b"", b"x", TEXT, b"\n" * 2**20, b"\n" * 1_500_000])


@PACKERS
@at_least(200)
@given(st.lists(MEMBERS, min_size=1, max_size=4), sizes(3000))
def test_a_packed_body_is_unpacked_wherever_its_chunks_are_cut(pack, members, cuts):
    packed = b"".join(packed_once(pack, member) for member in members)
    pieces = list(decompress_chunks(chunks_of(packed, cuts), len(packed)))
    assert b"".join(pieces) == decompress(packed) == b"".join(members)
    assert all(0 < len(piece) <= 2**20 for piece in pieces)


@PACKERS
@pytest.mark.parametrize("before", [[], [b"", b""]])
def test_a_packed_body_is_known_though_its_first_bytes_come_one_by_one(pack, before):
    packed = pack(TEXT)
    assert b"".join(decompress_chunks([*before, *chunks_of(packed, [1])], len(packed))) == TEXT


@given(st.binary(max_size=20), sizes(20))
def test_plain_chunks_pass_through(data, cuts):
    chunks = chunks_of(b"x" + data, cuts)
    assert [id(chunk) for chunk in decompress_chunks(chunks, 0, max_bytes=0)] == [id(chunk) for chunk in chunks]


@pytest.mark.parametrize("data", [b"", b"\x1f", b"\x28\xb5\x2f"])
def test_less_than_a_magic_number_is_plain(data):
    assert decompress(data) is data
    assert b"".join(decompress_chunks(chunks_of(data, [1]), len(data))) == data


def test_padding_behind_a_gzip_member_may_be_cut_and_rubbish_is_found_behind_it():
    packed = gzip.compress(TEXT)
    assert b"".join(decompress_chunks([packed, b"\0", b"\0\0", packed, b"\0"], 0)) == 2 * TEXT
    with pytest.raises(DecompressionError, match="corrupt"):
        list(decompress_chunks([packed, b"\0", b"\0rubbish"], 0))


@PACKERS
@pytest.mark.parametrize("size", [50, 10**9])
def test_a_stream_cut_short_is_an_error_behind_what_it_held(pack, size):
    packed = pack(random.Random(1).randbytes(2_500_000) + TEXT)
    pieces = []
    with pytest.raises(DecompressionError, match=rf"data of {len(packed)} bytes is (corrupt or )?truncated"):
        pieces.extend(decompress_chunks(chunks_of(packed[:-5], [size]), len(packed)))
    assert sum(map(len, pieces)) >= 2**20


@PACKERS
@pytest.mark.parametrize(
    ("bounds", "most"),
    [({"max_bytes": 5_000_000}, 5_000_000), ({"max_ratio": 10}, RATIO_FREE_BYTES), ({}, RATIO_FREE_BYTES)],
)
def test_a_bomb_is_refused_before_it_has_grown(pack, bounds, most):
    """And before the rest of it is read: after the bomb there are endless chunks."""
    bomb, read = pack(b"\0" * 50_000_000), []

    def chunks():
        yield from chunks_of(bomb, [100])
        while True:
            read.append(1)
            yield bomb

    lengths = []
    with pytest.raises(DecompressionError, match="more than"):
        lengths.extend(map(len, decompress_chunks(chunks(), 1000, **bounds)))
    assert most - 2**21 < sum(lengths) <= most
    assert not read


@PACKERS
@pytest.mark.parametrize("error", [OSError("the network is gone"), ValueError("something else")])
def test_what_the_chunks_raise_is_not_taken_for_corrupt_data(pack, error):
    def chunks():
        yield pack(TEXT)[:20]
        raise error

    with pytest.raises(type(error)) as raised:
        list(decompress_chunks(chunks(), 1000))
    assert raised.value is error


def test_a_gzip_body_in_one_chunk_is_not_copied_over_and_over(monkeypatch):
    """zlib copies the stored bytes that it has not read yet, with each piece that it returns."""
    handed = []

    class Member:
        def __init__(self, wbits):
            self.member = make(wbits=wbits)

        def __getattr__(self, name):
            return getattr(self.member, name)

        def decompress(self, data, most):
            handed.append(len(data))
            return self.member.decompress(data, most)

    make = zlib.decompressobj
    packed = gzip.compress(random.Random(1).randbytes(8_000_000), 1)
    monkeypatch.setattr(zlib, "decompressobj", Member)
    assert len(decompress(packed)) == 8_000_000
    assert sum(handed) < 2 * len(packed)


def skippable(number: int, data: bytes = b"note") -> bytes:
    """Return a skippable frame of zstd (RFC 8878, 3.1.2): one of sixteen magic numbers, a length, and any bytes."""
    return struct.pack("<II", 0x184D2A50 + number, len(data)) + data


@pytest.mark.parametrize("number", range(16))
@pytest.mark.parametrize("cuts", [pytest.param([1], marks=pytest.mark.slow), [7], [10**9]])
def test_a_zstd_body_that_begins_with_skippable_frames_is_unpacked(number, cuts):
    """It was read as text: one rejected line, or a few."""
    body = skippable(number) + skippable(15 - number, b"\n" * 100_000) + zstd(TEXT) + skippable(0) + zstd(b"more\n")
    assert b"".join(decompress_chunks(chunks_of(body, cuts), len(body))) == TEXT + b"more\n"


def test_skippable_frames_alone_hold_nothing_and_text_after_them_is_corrupt():
    assert decompress(skippable(0) + skippable(9, b"")) == b""
    for body in (skippable(0) + TEXT, skippable(0)[:-1], skippable(0)[:4], skippable(0) + gzip.compress(TEXT)):
        with pytest.raises(DecompressionError, match="corrupt or truncated"):
            decompress(body)


def zipped(data: bytes, *, stored: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("2026-03-05-10-00-00-0123456789ABCDEF", data)
    return file.getvalue()


REFUSED = pytest.mark.parametrize(
    ("body", "name"),
    [
        (bz2.compress(TEXT), "a bzip2 file"),
        (bz2.compress(TEXT, 1), "a bzip2 file"),
        (bz2.compress(b""), "a bzip2 file"),
        (lzma.compress(TEXT), "an xz file"),
        (zipped(TEXT), "a zip archive"),
        (zipped(TEXT, stored=True), "a zip archive"),
        (b"PK\x05\x06" + b"\0" * 18, "a zip archive"),
        (b"PK\x07\x08" + zipped(TEXT), "a zip archive"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7-Zip archive"),
        (pa.compress(TEXT, codec="lz4", asbytes=True), "an LZ4 file"),
    ],
)


@REFUSED
@pytest.mark.parametrize("cuts", [[1], [10**9]])
def test_a_body_of_another_format_is_named_and_gives_no_byte(body, name, cuts):
    """The lines of a stored zip archive were loaded, with the archive's bytes in their first and last columns."""
    pieces = []
    with pytest.raises(DecompressionError, match=f"^is {name}, which is not supported"):
        pieces.extend(decompress_chunks(chunks_of(body, cuts), len(body)))
    assert pieces == []


@REFUSED
@PACKERS
def test_another_format_inside_a_packed_body_is_named_too(pack, body, name):
    outer = "a gzip file" if pack is gzip.compress else "a zstd file"
    with pytest.raises(
        DecompressionError, match=f"^is {name} inside {outer}, which is not supported; decompress it once"
    ):
        decompress(pack(body))


@PACKERS
@pytest.mark.parametrize(
    ("inner", "name"),
    [(gzip.compress, "a gzip file"), (zstd, "a zstd file"), (lambda data: skippable(3) + zstd(data), "a zstd file")],
    ids=["gzip", "zstd", "skippable"],
)
def test_a_body_that_is_packed_twice_is_refused_and_gives_no_byte(pack, inner, name):
    """gzip inside gzip was decompressed once, and its bytes were stored as rejected lines."""
    body, pieces = pack(b"") + pack(inner(TEXT)), []
    with pytest.raises(DecompressionError, match=f"^is {name} inside a (gzip|zstd) file"):
        pieces.extend(decompress_chunks(chunks_of(body, [1]), len(body)))
    assert pieces == []


@pytest.mark.parametrize("data", [b"BZh9", b"BZh91AY&S\n", b"PK\x03\n", b"\xfd7zXZ\n", b"P*M\x19", b"7z a line\n"])
def test_text_that_begins_almost_like_another_format_is_plain(data):
    assert decompress(data) is data
    assert decompress(gzip.compress(data)) == data
