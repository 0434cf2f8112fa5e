"""Log lines written like S3's, from arbitrary field values, with raw quotes.

Nothing here knows how the parser reads. `ambiguities` says which of these lines have two readings.
"""

import itertools
import string
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from tamarin_dagster_tests.logformat.lines_written import BASES, BLOCK, HOST_ID, TAIL

Text = bytes | None
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
TAIL_COLUMNS = 10


@dataclass(frozen=True)
class Line:
    """The parts of a line. Texts are the bytes in the line, without the quotes of a field; None is a bare `-`."""

    opening: list[bytes]
    """Owner, bucket, and the time in two columns."""
    time: datetime
    """Return the time of the opening, in UTC."""
    address: bytes
    requester: bytes
    request_id: bytes
    operation: bytes
    key: bytes
    method: Text
    uri: Text
    """None if the request is a bare `-`."""
    version: Text
    block: list[bytes]
    referrer: Text
    user_agent: Text
    tail: list[bytes]
    """Of the columns from version id on as many as there are; the host header perhaps in quotes."""
    march_2019: Text
    extras: list[bytes]
    """Each as it is written, with its quotes if it has some."""
    extra_gap: bytes
    gaps: tuple[int, ...]
    """The numbers of blanks between columns, repeated."""
    end: bytes
    """Blanks and a CR."""

    @property
    def request(self) -> Text:
        """The request without its quotes."""
        parts = [part for part in (self.method, self.uri, self.version) if part is not None]
        return None if self.uri is None else b" ".join(parts)

    @property
    def extra_text(self) -> bytes:
        """The extra fields as one text."""
        return self.extra_gap.join(self.extras)

    def parts(self) -> tuple[bytes, bytes, bytes, bytes]:
        """The line, cut after the key, after the end of the request, and after the end of the referrer."""
        gaps = (b" " * count for count in itertools.cycle(self.gaps))
        head = [*self.opening, self.address, self.requester, self.request_id, self.operation, self.key]
        tail = list(self.tail)
        if self.march_2019 is not None:
            tail.insert(1, self.march_2019)
        return (
            _joined(head, gaps, after=True) + quoted(self.request),
            _joined(self.block, gaps, before=True, after=True) + quoted(self.referrer),
            next(gaps) + quoted(self.user_agent),
            _joined(tail, gaps, before=True) + (next(gaps) + self.extra_text if self.extras else b""),
        )

    def written(self) -> bytes:
        """The line, without LF."""
        return b"".join(self.parts()) + self.end


def quoted(text: Text) -> bytes:
    """Return a field as written with quotes."""
    return b"-" if text is None else b'"' + text + b'"'


def _joined(columns: list[bytes], gaps: Iterator[bytes], *, before: bool = False, after: bool = False) -> bytes:
    between = b"".join((next(gaps) if index else b"") + column for index, column in enumerate(columns))
    if not columns:
        return b""
    return (next(gaps) if before else b"") + between + (next(gaps) if after else b"")


_ALNUM = string.ascii_letters + string.digits
_PIECES = [
    b'"', b'"', b" ", b" ", b"  ", b"\t", b"\r", b"\\", rb"\x", rb"\x41", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80",
    b"[", b"]", b"-", b'" "', b'" ', b' "', b' HTTP/1.1"', b' HTTP/1.1" 404 - 1 1 1 1 -', b'" 200 - 1 1 1 1 "',
    b'-" 200 - 1 1 1 1 "', b"GET ", b"arn:a b", b"\xef\xbb\xbf", b"REST.GET.OBJECT", b"[06/Feb/2019:00:00:38 +0000]",
    b"/a?b=c", b"Mozilla/5.0 (X11)", f'" {TAIL}'.encode(), f'" {TAIL} "'.encode(), f'" - {HOST_ID}'.encode(),
    BASES[0].encode(), BLOCK.encode(), "\x85\u2028é".encode(), b"\x0b\x0c\x1c",
]  # fmt: skip
ANY = st.lists(
    st.one_of(
        st.sampled_from(_PIECES),
        st.binary(max_size=6),
        st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
    ),
    max_size=6,
).map(lambda pieces: b"".join(pieces).replace(b"\n", b""))
"""Anything that a client may send; only a LF would end the line."""
COLUMN = ANY.map(lambda text: text.translate(None, b' "') or b"x")
KEY = ANY.map(lambda text: text.replace(b" ", b"") or b"-")
REQUESTER_WITH_BLANKS = st.builds(
    lambda first, rest: b"arn:" + b" ".join([first, *rest]),
    st.sampled_from([b"", b"aws:iam::cloudfront:user/CloudFront"]),
    st.lists(COLUMN.map(lambda text: text.translate(None, b"[]") or b"y"), min_size=1, max_size=3),
)
NULL = st.just(b"-")
NUMBER = st.one_of(
    NULL,
    st.builds(
        lambda value, zeros: b"0" * zeros + b"%d" % value,
        st.one_of(st.integers(0, 2**63 - 1), st.sampled_from([0, 2**31, 10**18 - 1, 10**18, 2**63 - 1])),
        st.sampled_from([0, 0, 1, 20]),
    ),
)
CLIENT_TEXT = st.one_of(st.none(), st.sampled_from([b"-", b"", b"- -"]), ANY, ANY)
_EXTRA = st.one_of(COLUMN, NULL, ANY.map(lambda text: b'"' + text.replace(b'"', b"") + b'"'))
EXTRAS = st.one_of(st.just([]), st.lists(_EXTRA, max_size=3), st.lists(_EXTRA, max_size=16))


def _of(characters: str, most: int = 20) -> st.SearchStrategy[bytes]:
    return st.text(characters, min_size=1, max_size=most).map(str.encode)


OWNER_COLUMN = st.one_of(_of(_ALNUM + "$._-/#!~[]"), st.sampled_from([b"root", b"tenant$user"]))
# In small letters, so that none of them looks like another column's word.
_SMALL = string.ascii_lowercase + string.digits
_TAIL = [
    st.one_of(NULL, st.sampled_from([b"null", b"~", b"yn5YAJiwT36Rv78jGYLM71GZumWL.QWn"]), _of(_SMALL + "_-", 40)),
    st.one_of(NULL, st.just(HOST_ID.encode()), _of(_SMALL + "+/=._-")),
    st.sampled_from([b"-", b"SigV2", b"SigV4", b"SigV4A"]),
    st.sampled_from([b"-", b"ECDHE-RSA-AES128-GCM-SHA256", b"TLS_AES_128_GCM_SHA256", b"C", b"RC4-MD5"]),
    st.sampled_from([b"-", b"AuthHeader", b"QueryString"]),
    st.one_of(
        NULL, _of(_SMALL + "._-:"), st.sampled_from([b"[2001:db8::1]:9000", b'"192.0.2.20:9021"', b"*.Example.org"])
    ),
    st.sampled_from([b"-", b"TLSv1.2", b"TLSV1.3", b"SSLv3", b"TLSv1"]),
    st.one_of(NULL, COLUMN.map(lambda text: b"arn:" + (text.translate(None, b"[]") or b"x"))),
    st.sampled_from([b"-", b"Yes"]),
    st.sampled_from([b"-", b"eu-west-1"]),
]
TAILS = st.builds(
    lambda columns, count: list(columns[:count]), st.tuples(*_TAIL), st.sampled_from([*range(11), 10, 10])
)
_OPERATIONS = ["REST.GET.OBJECT", "SOAP.ListBucket", "S3.COMPUTE.OBJECT.CHECKSUM", "WEBSITE.INVALIDOPERATION"]


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """Draw lines of any field values; some have two readings."""
    time = draw(st.integers(1136073600, 1767225600))
    sign, hours, minutes = (
        draw(st.sampled_from([1, -1])),
        draw(st.integers(0, 19)),
        draw(st.sampled_from([0, 0, 30, 59])),
    )
    when = datetime.fromtimestamp(time, UTC)
    local = when + sign * timedelta(hours=hours, minutes=minutes)
    tail = draw(TAILS)
    has_march_2019 = len(tail) > 2 and draw(st.sampled_from([False, False, False, True]))
    if has_march_2019:
        tail[1] = HOST_ID.encode()
    address = draw(st.one_of(NULL, st.ip_addresses().map(lambda address: str(address).partition("%")[0].encode())))
    method = draw(st.one_of(st.none(), st.sampled_from([b"GET", b"OPTIONS", b"M-SEARCH"])))
    uri, version = draw(CLIENT_TEXT), draw(st.sampled_from([None, b"HTTP/1.1", b"HTTP/2"]))
    return Line(
        opening=[
            draw(OWNER_COLUMN),
            draw(COLUMN),
            f"[{local.day:02}/{MONTHS[local.month - 1]}/{local.year}:{local:%H:%M:%S}".encode(),
            f"{'+' if sign > 0 else '-'}{hours:02}{minutes:02}]".encode(),
        ],
        address=address,
        requester=draw(st.one_of(NULL, COLUMN, REQUESTER_WITH_BLANKS)),
        request_id=draw(COLUMN),
        operation=draw(st.sampled_from(_OPERATIONS)).encode(),
        key=draw(KEY),
        # A request is complete, or null.
        method=method if uri else None,
        uri=uri,
        version=version if uri is not None else None,
        block=[draw(st.integers(0, 999).map(b"%03d".__mod__) | NULL), draw(_of(_ALNUM + "_.") | NULL),
               *draw(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER))],
        referrer=draw(CLIENT_TEXT),
        user_agent=draw(CLIENT_TEXT),
        tail=tail,
        march_2019=draw(st.sampled_from([b"-", b"AIDAABCDEFGHIJKLMNOPQ"])) if has_march_2019 else None,
        extras=draw(EXTRAS) if len(tail) == TAIL_COLUMNS else [],
        extra_gap=draw(st.sampled_from([b" ", b"  "])),
        gaps=draw(st.sampled_from([(1,), (1,), (2,), (1, 2, 1, 1, 3)])),
        end=draw(st.sampled_from([b"", b"", b" ", b"\r", b"  \r"])),
        time=when,
    )  # fmt: skip
