r"""Secrets of presigned URLs, taken out of texts: what signs a URL is a credential for as long as the URL is valid.

Values of `SECRET_PARAMETERS` become `REDACTED`; every other byte stays as it is. Clients send such URLs as the target
of a request, as the page that they came from, and inside other URLs, where they are percent-encoded once more each
time. So "X or encoded" means here: X, `%58`, `%2558` and so on, hex digits in either case.

- A name counts behind `?`, `&`, `;` or `#`, or one of them encoded, and before `=` or encoded. Upper and lower case are
  the same, and any character of it may be encoded: S3 decodes names before it compares them. A longer name that ends in
  a secret one is another name.
- Its value ends before the next `&`, `;`, `#`, blank or `"`; behind an encoded separator also before an encoded `&` or
  `#`, for then the URL around it goes on; or with the text. So a fragment counts too.
- An empty value stays empty. A value that is `REDACTED` stays, so that to redact twice is to redact once.

Source: S3 user guide, "Authenticating requests: using query parameters" (SigV4), "Signing and authenticating REST
requests" (SigV2).
"""

from dataclasses import replace

import numpy as np

from tamarin_dagster.logformat.automata import ENDS_HERE, START, Automaton, automaton
from tamarin_dagster.logformat.compiling import Octets, compiled, copy_octets, eight_octets, inlined, pointer, signed
from tamarin_dagster.logformat.fields import TEXT_NAMES
from tamarin_dagster.logformat.lines import Integers
from tamarin_dagster.logformat.quick import Spans
from tamarin_dagster.logformat.records import Records
from tamarin_dagster.logformat.scanning import NO

SECRET_PARAMETERS = (
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-S3session-Token",
    "X-Amz-Server-Side-Encryption-Customer-Key",
    "X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key",
    "Authorization",
    "Signature",
    "AWSAccessKeyId",
)
"""The query parameters whose values are redacted; the last two are those of SigV2.

S3 takes any header that begins with x-amz- as a parameter of a presigned URL too, keys of SSE-C among them. The MD5 of
such a key (…-Key-MD5) opens nothing, and stays.
"""
REDACTED = "REDACTED"
"""What stands in the place of a secret."""

_COLUMNS = np.array([TEXT_NAMES.index(name) for name in ("request_uri", "referrer")])
_MAX_GROWTH = 2
"""How many bytes a byte may become, at most: `?Signature=x`, 12 bytes, becomes 19."""
_MAX_POSITION = np.iinfo(np.int32).max
"""What a span can hold."""


def _any_case(name: str) -> str:
    return "".join(f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else letter for letter in name)


_NAMES = automaton(f"[?&;#](?:{'|'.join(map(_any_case, SECRET_PARAMETERS))})=")
"""Of what stands before a secret, decoded."""
_ROW = _NAMES.shape[1]
_REDACTED = np.frombuffer(REDACTED.encode(), np.uint8)

_PERCENT, _AMPERSAND, _HASH, _EQUALS = b"%&#="
_0, _2, _5, _9, _A, _F = b"0259af"
_LOWER = ord("a") - ord("A")
_SEPARATES, _ENDS = 1, 2
_KINDS = np.array([_SEPARATES * (octet in b"?&;#%") | _ENDS * (octet in b'&;# "') for octet in range(256)], np.uint8)
"""Of each byte, whether a separator may begin with it, and whether a value ends before it."""
_EIGHT_LOW_BITS, _EIGHT_HIGH_BITS, _EIGHT_PERCENTS, _EIGHT_EQUALS = (
    np.uint64(octet * 0x0101010101010101) for octet in (0x7F, 0x80, _PERCENT, _EQUALS)
)


def redact(records: Records) -> Records:
    """The records without the secrets in `request_uri` and `referrer`; the same object if there are none.

    The texts that change are written behind the others, and their spans point there; what was given stays as it is.

    Raises:
        ValueError: the texts would lie beyond what a span can hold, 2 GiB; a piece of usual lines has 8 MiB.
    """
    octets, spans = records.octets, records.spans
    found = np.empty(len(records) * len(_COLUMNS), np.int64)
    found = found[: _find_secrets(octets, spans, _COLUMNS, _NAMES, found)]
    if not len(found):
        return records
    spans = spans.copy()
    texts = spans.reshape(-1, 2)
    count, room = len(octets), _MAX_GROWTH * int(texts[found, 1].sum(dtype=np.int64))
    if count + room > _MAX_POSITION:
        raise ValueError(f"{count + room} bytes are too many for one piece of records: parse it in smaller ones")
    longer = np.empty(count + room, np.uint8)
    longer[:count] = octets
    longer = longer[: count + _redact_texts(octets, texts, found, _NAMES, longer[count:], count)]
    longer.setflags(write=False)  # as all octets of records: what is compiled is compiled for one of both
    return replace(records, octets=longer, spans=spans)


def redact_text(text: str) -> str:
    """The text without the secrets of the URLs in it, by the same rules: for messages that may quote a URL."""
    octets = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    redacted = np.empty(_MAX_GROWTH * len(octets), np.uint8)
    used = _redact_all(octets, _NAMES, redacted)
    return redacted[:used].tobytes().decode("utf-8", "surrogatepass")


@compiled
def _find_secrets(octets: Octets, spans: Spans, columns: Integers, names: Automaton, found: Integers) -> int:
    """Writes which texts hold a secret, as row * columns of TEXT_NAMES + column; gives their number."""
    text, table, count = pointer(octets), pointer(names), 0
    for row in range(len(spans)):
        for index in range(len(columns)):
            column = columns[index]
            start, length = spans[row, column, 0], spans[row, column, 1]
            end = start + length
            if _may_hold_secret(text, start, end) and _next_secret(text, start, end, table)[0] != NO:
                found[count] = row * spans.shape[1] + column
                count += 1
    return count


@compiled
def _redact_texts(
    octets: Octets, spans: Spans, found: Integers, names: Automaton, redacted: Octets, offset: int
) -> int:
    """Writes the found texts, redacted, and points their spans to where they then stand.

    Args:
        octets: (bytes,): what the spans are of.
        spans: (texts, 2): start and length.
        found: which of them hold a secret.
        names: `_NAMES`.
        redacted: where to write: `_MAX_GROWTH` times the texts' bytes are enough.
        offset: what `redacted[0]` is as a position.

    Returns:
        How many bytes were written.
    """
    text, table, target, used = pointer(octets), pointer(names), pointer(redacted), 0
    for which in found:
        begin, start = used, spans[which, 0]
        used = _redact(text, start, start + spans[which, 1], table, target, used)
        spans[which, 0], spans[which, 1] = offset + begin, used - begin
    return used


@compiled
def _redact_all(octets: Octets, names: Automaton, redacted: Octets) -> int:
    """Writes all of it, redacted; gives how many bytes that is."""
    return _redact(pointer(octets), 0, len(octets), pointer(names), pointer(redacted), 0)


@compiled
def _redact(octets: Octets, at: int, end: int, names: Automaton, redacted: Octets, used: int) -> int:
    """Writes the text, redacted, to `redacted[used:]`; gives where it ends."""
    start, stop = _next_secret(octets, at, end, names)
    while start != NO:
        copy_octets(redacted, used, octets, at, start - at)
        used += start - at
        copy_octets(redacted, used, pointer(_REDACTED), 0, len(_REDACTED))
        used, at = used + len(_REDACTED), stop
        start, stop = _next_secret(octets, at, end, names)
    copy_octets(redacted, used, octets, at, end - at)
    return used + end - at


@inlined
def _may_hold_secret(octets: Octets, at: int, end: int) -> bool:
    """Whether there is a `%` or `=`. Most texts are short and hold none: so eight bytes at a time, and the last eight,
    some of them for the second time, rather than a byte at a time.
    """
    if end - at < 8:
        while at < end and octets[at] != _PERCENT and octets[at] != _EQUALS:
            at += 1
        return at < end
    others = _EIGHT_HIGH_BITS
    while at + 8 < end:
        others &= _neither_of_eight(eight_octets(octets, at))
        at += 8
    return bool(others & _neither_of_eight(eight_octets(octets, end - 8)) != _EIGHT_HIGH_BITS)


@inlined
def _neither_of_eight(eight: np.uint64) -> np.uint64:
    """Sets the high bit of each byte that is neither `%` nor `=` (as `scanning` does it); other bits mean nothing."""
    percents, equals = eight ^ _EIGHT_PERCENTS, eight ^ _EIGHT_EQUALS
    return (((percents & _EIGHT_LOW_BITS) + _EIGHT_LOW_BITS) | percents) & (
        ((equals & _EIGHT_LOW_BITS) + _EIGHT_LOW_BITS) | equals
    )


@compiled
def _next_secret(octets: Octets, at: int, end: int, names: Automaton) -> tuple[int, int]:
    """Where the next value that is to be replaced begins and ends; NO twice if there is none."""
    while at < end:
        while at < end and not _KINDS[octets[at]] & _SEPARATES:
            at += 1
        start = _value_start(octets, at, end, names)
        if start == NO:
            at += 1
        else:
            at = _value_end(octets, start, end, octets[at] == _PERCENT)
            if at > start and not _is_redacted(octets, start, at):
                return start, at
    return NO, NO


@compiled
def _value_start(octets: Octets, at: int, end: int, names: Automaton) -> int:
    """Where the value begins, if a separator, a secret's name and `=` stand at `at`, or encoded; else NO.

    No name holds a separator, so that each byte is looked at for the sake of one separator before it, or its own.
    """
    state = START
    while at < end:
        octet, at = _decoded(octets, at, end)
        state = signed(names[_ROW * state + octet])
        if state == 0:
            return NO
        if names[_ROW * state + ENDS_HERE]:
            return at
    return NO


@inlined
def _value_end(octets: Octets, at: int, end: int, encoded: bool) -> int:
    """Where the value at `at` ends; `encoded` is whether its name stands behind an encoded separator."""
    while at < end and not _KINDS[octets[at]] & _ENDS:
        if encoded and octets[at] == _PERCENT:
            meant, _ = _decoded(octets, at, end)
            if meant in (_AMPERSAND, _HASH):
                break
        at += 1
    return at


@inlined
def _is_redacted(octets: Octets, at: int, end: int) -> bool:
    if end - at != len(_REDACTED):
        return False
    same = True
    for index in range(len(_REDACTED)):
        same &= octets[at + index] == _REDACTED[index]
    return same


@inlined
def _decoded(octets: Octets, at: int, end: int) -> tuple[int, int]:
    """The byte that is meant at `at`, however often it is encoded, and where the next one stands."""
    octet, digits = signed(octets[at]), at + 1
    if octet != _PERCENT:
        return octet, digits
    while digits + 1 < end and octets[digits] == _2 and octets[digits + 1] == _5:
        digits += 2
    if digits + 1 < end:
        high, low = _digit(signed(octets[digits])), _digit(signed(octets[digits + 1]))
        if NO not in (high, low):
            return 16 * high + low, digits + 2
    return octet, at + 1


@inlined
def _digit(octet: int) -> int:
    """What a hex digit counts; NO if it is none."""
    if _0 <= octet <= _9:
        return octet - _0
    octet |= _LOWER
    return octet - _A + 10 if _A <= octet <= _F else NO
