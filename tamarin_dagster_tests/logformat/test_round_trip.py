"""Lines written like S3's, from arbitrary field values, are read back as those values."""

import ipaddress

from hypothesis import assume, event, given
from hypothesis import strategies as st

from tamarin_dagster.logformat import FIELD_NAMES, parse_logs, unescape_text
from tamarin_dagster.logformat.fields import BLOCK_FIELDS, TAIL_FIELDS, TEXT_NAMES
from tamarin_dagster_tests.examples import at_least
from tamarin_dagster_tests.logformat.ambiguities import is_ambiguous
from tamarin_dagster_tests.logformat.found import records_of, rejected_of
from tamarin_dagster_tests.logformat.invariants import NOW, escaped
from tamarin_dagster_tests.logformat.written_lines import Line, lines


def texts_of(line: Line) -> dict[str, bytes | None]:
    """Return the expected text columns, as bytes."""
    march_2019 = None if line.march_2019 == b"-" else line.march_2019
    extras = [text for text in (march_2019, line.extra_text) if text]
    unquoted = {
        "bucket_owner": line.opening[0],
        "bucket": line.opening[1],
        "remote_ip": _unmapped(line.address),
        "requester": line.requester,
        "request_id": line.request_id,
        "operation": line.operation,
        "key": line.key,
        "request_method": line.method,
        "http_version": line.version,
        "error_code": line.block[1],
        **{name: text.strip(b'"') for name, text in zip(TAIL_FIELDS, line.tail, strict=False)},
        "extra_fields": b" ".join(extras) or None,
    }
    quoted = {"request_uri": line.uri, "referrer": line.referrer, "user_agent": line.user_agent}
    texts = {name: None if text == b"-" else text for name, text in unquoted.items()}
    texts |= {name: None if text in (b"-", b"") else text for name, text in quoted.items()}
    return dict.fromkeys(TEXT_NAMES) | texts


def _unmapped(address: bytes) -> bytes:
    mapped = getattr(ipaddress.ip_address(address.decode()), "ipv4_mapped", None) if address != b"-" else None
    return str(mapped).encode() if mapped else address


def numbers_of(line: Line) -> dict[str, int | None]:
    """Return the expected columns of numbers."""
    numbers = {name: text for name, text in zip(BLOCK_FIELDS, line.block, strict=True) if name != "error_code"}
    return {name: None if text == b"-" else int(text) for name, text in numbers.items()}


@at_least(400)
@given(lines(), st.sampled_from([b"", b"\n"]))
def test_fields_written_as_s3_writes_them_are_read_back(line, end):
    assume(not is_ambiguous(line))
    event(f"{17 + len(line.tail)} fields")
    # After another line, because a byte order mark at the start of a log is not data.
    parsed = parse_logs([b"\n" + line.written() + end], now=NOW)
    assert not rejected_of(parsed)
    (row,) = records_of(parsed).to_pylist()
    texts = texts_of(line)
    expected = {name: None if text is None else escaped(text) for name, text in texts.items()}
    expected |= {"log_index": 0, "line_number": 2, "request_dtime": line.time, **numbers_of(line)}
    assert row == expected
    assert {name: row[name] and unescape_text(row[name]) for name in TEXT_NAMES} == texts
    assert set(row) == {"log_index", "line_number", *FIELD_NAMES}
