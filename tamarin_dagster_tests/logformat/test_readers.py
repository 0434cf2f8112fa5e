"""What must hold for any input: nothing is lost, both readers agree, no line takes long."""

import re
import time
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tamarin_dagster.logformat import FIELD_NAMES, careful, parse_logs, quick
from tamarin_dagster.logformat.lines import pieces_of
from tamarin_dagster_tests.logformat.lines_written import BLOCK, HEAD, HOST_ID, OWNER, TAIL, line

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = [
    "-", '"-"', '""', '"', " ", "  ", "\t", "\r", "\\x", "\0", "é", "200", "-1", "SigV4", "Yes", "arn:a b", "[", "]",
    '" "', '" 200 - 1 1 1 1 "', ' HTTP/1.1" 404 - 1 1 1 1 ', ' HTTP/1.1"', HOST_ID, TAIL, HEAD, BLOCK, "TLSv1.2",
    "[06/Feb/2019:00:00:38 +0000]", "REST.GET.OBJECT", "1.2.3.4", "\n",
    "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E2ABC",
]  # fmt: skip
BASES = [
    line(),
    line(tail=""),
    line(tail="-"),
    line(tail=f"{TAIL} new"),
    line(tail=f"- - {HOST_ID} SigV4 C AuthHeader films.example"),
    line('"-"', block="- - - 5 - -"),
    line("-", block="204 - - 5 - -", referrer="-", user_agent="-"),
    line(referrer="-", user_agent="-"),
    line(head=HEAD.replace(f".3 {OWNER}", ".3 arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E2ABC")),
    line('"GET /?f="x y" HTTP/1.1"', user_agent='"{"a":"b c"}"'),
]


@st.composite
def mutated_lines(draw):
    """A good line with pieces put in, cut out or replaced."""
    text = draw(st.sampled_from(BASES))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.sampled_from([start, start, start + 1, start + 20]))
        text = text[:start] + draw(st.sampled_from(["", *WORDS])) + text[end:]
    return text


def parsed_by(readers: str, lines: list[bytes]) -> tuple[list[dict], list[tuple]]:
    """The records and the rejected lines that both readers find, or the careful one alone."""

    def leave_all(*arguments: object) -> None:
        *_, outcomes, odd = arguments
        outcomes[:] = [quick.LEFT if text.strip(b" \t\r") else quick.BLANK_LINE for text in lines]
        odd[:] = False

    with pytest.MonkeyPatch.context() as patch:
        if readers == "careful":
            patch.setattr(quick, "read_lines", leave_all)
        parsed = parse_logs([b"\n".join(lines) + b"\n"], now=NOW)
    return parsed.records.to_pylist(), [(each.line_number, each.reason) for each in parsed.rejected]


def is_read_quickly(line: bytes) -> bool:
    """Whether the quick reader takes the line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(careful, "read_line", lambda _: pytest.fail("left to the careful reader"))
        return parse_logs([line]).records.num_rows == 1


@settings(max_examples=800, deadline=None)
@given(st.lists(mutated_lines().map(lambda text: text.replace("\n", "").encode()), min_size=1, max_size=8))
def test_both_readers_agree_on_every_line(lines):
    assert parsed_by("both", lines) == parsed_by("careful", lines)


@pytest.mark.parametrize("text", BASES)
def test_records_of_all_shapes_are_read_by_the_quick_reader(text):
    assert is_read_quickly(text.encode())


@settings(max_examples=250, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            mutated_lines().map(str.encode),
            st.tuples(mutated_lines(), st.binary(max_size=4)).map(lambda pair: pair[0][:150].encode() + pair[1]),
        ),
        max_size=5,
    ),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"", b"\n"]),
)
@example([b"\xef\xbb\xbf"], b"\n", b"")
def test_any_bytes_are_records_rejected_lines_and_blanks(lines, separator, end):
    data = separator.join(lines) + end
    parsed = parse_logs([data, b"", data])
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert [counts.line_count for counts in parsed.counts] == [len(expected), 0, len(expected)]
    for counts in parsed.counts:
        assert counts.line_count == counts.record_count + counts.rejected_count + counts.blank_count
    for rejected in parsed.rejected:
        assert rejected.line == expected[rejected.line_number - 1]
        assert rejected.line_bytes == len(rejected.line)
    numbers = [*parsed.records["line_number"].to_pylist(), *(rejected.line_number for rejected in parsed.rejected)]
    assert all(expected[number - 1].strip(b" \t\r") for number in numbers)
    assert len(numbers) == sum(counts.record_count + counts.rejected_count for counts in parsed.counts)
    # NUL and lone surrogates never reach the database
    for column in parsed.records.columns:
        if pa.types.is_string(column.type):
            assert not any("\0" in text for text in column.to_pylist() if text is not None)


NAME = st.from_regex(r"[A-Za-z0-9._:/@+-]{2,20}", fullmatch=True)
NUMBER = st.one_of(st.none(), st.integers(0, 2**63 - 1))
QUOTED = st.text(st.characters(exclude_characters='\n"\0', exclude_categories=["Cs"]), max_size=40).filter(
    lambda text: text not in ("-", "") and "\\x" not in text
)
FIELDS_OF_A_LINE = st.fixed_dictionaries(
    {
        "bucket_owner": NAME,
        "bucket": NAME,
        "request_dtime": st.datetimes(datetime(2006, 1, 1), datetime(2024, 12, 31)).map(  # noqa: DTZ001
            lambda when: when.replace(microsecond=0, tzinfo=UTC)
        ),
        "remote_ip": st.one_of(st.none(), st.ip_addresses().map(str).filter(lambda text: "%" not in text)),
        "requester": st.one_of(st.none(), NAME, NAME.map(lambda name: f"arn:aws:iam::{name} with blanks")),
        "request_id": NAME,
        "operation": st.sampled_from(["REST.GET.OBJECT", "SOAP.ListBucket", "S3.COMPUTE.OBJECT.CHECKSUM"]),
        "key": st.one_of(st.none(), st.from_regex(r"[!-~]{2,30}", fullmatch=True)),
        "request_method": st.sampled_from(["GET", "PUT", "OPTIONS"]),
        "request_uri": QUOTED,
        "http_version": st.sampled_from(["HTTP/1.1", "HTTP/2"]),
        "http_status": st.one_of(st.none(), st.integers(100, 599)),
        "error_code": st.one_of(st.none(), st.just("NoSuchKey")),
        "bytes_sent": NUMBER,
        "object_size": NUMBER,
        "total_time": NUMBER,
        "turnaround_time": NUMBER,
        "referrer": st.one_of(st.none(), QUOTED),
        "user_agent": st.one_of(st.none(), QUOTED),
        "version_id": st.one_of(st.none(), NAME),
        "host_id": st.one_of(st.none(), st.just(HOST_ID)),
        "signature_version": st.sampled_from([None, "SigV2", "SigV4"]),
        "cipher_suite": st.sampled_from([None, "TLS_AES_128_GCM_SHA256"]),
        "authentication_type": st.sampled_from([None, "AuthHeader"]),
        "host_header": st.one_of(st.none(), NAME),
        "tls_version": st.sampled_from([None, "TLSv1.2", "TLSV1.2"]),
        "access_point_arn": st.none(),
        "acl_required": st.sampled_from([None, "Yes"]),
        "source_region": st.sampled_from([None, "eu-west-1"]),
    }
)


def written(fields: dict, null: str) -> str:
    """The line that S3 writes for the fields; `null` is how it writes a quoted null."""

    def bare(name: str) -> str:
        return "-" if fields[name] is None else str(fields[name])

    def quoted(name: str) -> str:
        return null if fields[name] is None else f'"{fields[name]}"'

    names = FIELD_NAMES[:-1]
    request = f'"{fields["request_method"]} {fields["request_uri"]} {fields["http_version"]}"'
    columns = [f"[{fields[name]:%d/%b/%Y:%H:%M:%S} +0000]" if name == "request_dtime" else bare(name) for name in names]
    columns[8:11] = [request]
    columns[15:17] = [quoted("referrer"), quoted("user_agent")]
    return " ".join(columns)


@settings(max_examples=150, deadline=None)
@given(FIELDS_OF_A_LINE, st.sampled_from(["-", '"-"', '""']))
def test_fields_written_as_s3_writes_them_are_read_back(fields, null):
    parsed = parse_logs([written(fields, null).encode()])
    assert not parsed.rejected
    (row,) = parsed.records.drop_columns(["log_index", "line_number", "extra_fields"]).to_pylist()
    assert row == fields


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from([*BASES, "", "rubbish"]), max_size=6), max_size=6), st.integers(1, 2000))
def test_pieces_of_any_size_hold_the_same_lines(logs, piece_bytes):
    bodies = ["\n".join(lines).encode() for lines in logs]
    found = [
        (log, number, piece.raw(row))
        for piece in pieces_of(bodies, piece_bytes)
        for row, (log, number) in enumerate(zip(piece.log_index.tolist(), piece.line_number.tolist(), strict=True))
    ]
    assert found == [
        (log, number, text)
        for log, body in enumerate(bodies)
        for number, text in enumerate(re.findall(rb"[^\n]*\n|[^\n]+", body), 1)
        for text in [text.removesuffix(b"\n")]
    ]


BAIT = [
    '"', '" ', '" "', ' HTTP/1.1" ', ' HTTP/1.1" 200 - 1 1 1 ', '" 200 - 1 1 1 1 ', " ", f'" {TAIL} ', "[", "1 ", "\\x",
    "\0", "é", " REST.GET.OBJECT ", "a ", "- ",
]  # fmt: skip


@pytest.mark.parametrize("bait", BAIT)
def test_no_line_takes_longer_than_its_length_explains(bait):
    """Grown four times, a hostile line may take four times as long; twice that again is left for a busy machine."""

    def seconds(size: int) -> float:
        fill = (bait * (size // len(bait) + 1))[:size]
        lines = [line(f'"GET /{fill}"'), line(referrer=f'"{fill}'), line(user_agent=f'"{fill}"'), HEAD + fill, fill]
        data = "\n".join(lines).encode()
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            parse_logs([data])
            best = min(best, time.process_time() - start)
        return best

    assert seconds(160_000) < 8 * seconds(40_000) + 0.05
