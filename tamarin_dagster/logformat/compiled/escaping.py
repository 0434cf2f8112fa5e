"""The rules of `logformat.escaping`, for compiled loops."""

import numpy as np
import numpy.typing as npt

from tamarin_dagster.logformat.compiled.compiling import Octets, compiled, copy_octets, inlined, pointer, signed

MAX_GROWTH = 4
"""The maximum length of an escaped byte."""

_BACKSLASH, _X = rb"\x"
_ESCAPES = np.frombuffer(b"".join(rb"\x%02x" % octet for octet in range(256)), np.uint8)
"""The escapes of all bytes, concatenated."""
_LENGTHS = np.array([1] * 0x80 + [0] * 0x42 + [2] * 0x1E + [3] * 0x10 + [4] * 5 + [0] * 11, np.int64)
"""The length of the UTF-8 character that a byte begins; 0 if it begins none."""


@compiled
def needs_escapes(octets: Octets, at: int, end: int) -> bool:
    r"""Return whether there is a NUL, a literal `\x`, or a byte that is not UTF-8."""
    odd = False
    for index in range(at, end):  # without a branch, so that many bytes are tested together
        octet = octets[index]
        odd = odd | (octet >= 0x80) | (octet == 0) | (octet == _BACKSLASH)
    if not odd:
        return False
    while at < end:
        if _is_escaped(octets, at, end):
            return True
        at += 1 if octets[at] < 0x80 else _LENGTHS[octets[at]]
    return False


@compiled
def escape_texts(
    octets: Octets, rows: npt.NDArray[np.int64], spans: npt.NDArray[np.int32], escaped: Octets, offset: int
) -> int:
    """Escape those texts of the rows that need it, and point their spans to the escaped texts.

    Args:
        octets: (bytes,): the bytes that the spans refer to.
        rows: which rows of `spans` to look at.
        spans: (lines, columns, 2): start and length; a negative length is null.
        escaped: where to write; `MAX_GROWTH` times the lines' bytes are enough.
        offset: the position that `escaped[0]` counts as.

    Returns:
        The number of bytes written.
    """
    used = 0
    text, target = pointer(octets), pointer(escaped)
    for row in rows:
        for column in range(spans.shape[1]):
            start, length = spans[row, column, 0], spans[row, column, 1]
            if length > 0 and needs_escapes(text, start, start + length):
                begin = used
                used = _escape(text, start, start + length, target, used)
                spans[row, column, 0], spans[row, column, 1] = offset + begin, used - begin
    return used


@compiled
def _escape(octets: Octets, at: int, end: int, escaped: Octets, used: int) -> int:
    """Write the escaped text to `escaped[used:]`; return its end."""
    while at < end:
        if _is_escaped(octets, at, end):
            copy_octets(escaped, used, pointer(_ESCAPES), MAX_GROWTH * signed(octets[at]), MAX_GROWTH)
            used, at = used + MAX_GROWTH, at + 1
        else:
            for _ in range(_LENGTHS[octets[at]]):
                escaped[used] = octets[at]
                used, at = used + 1, at + 1
    return used


@inlined
def _is_escaped(octets: Octets, at: int, end: int) -> bool:
    """Return whether the byte at `at`, where a character begins, must be escaped."""
    octet = octets[at]
    if octet < 0x80:
        return bool(octet == 0 or (octet == _BACKSLASH and at + 1 < end and octets[at + 1] == _X))
    return _LENGTHS[octet] == 0 or not _is_character(octets, at, end)


@compiled
def _is_character(octets: Octets, at: int, end: int) -> bool:
    """Return whether the bytes that UTF-8's first byte at `at` requires are there."""
    first, length = octets[at], _LENGTHS[octets[at]]
    if at + length > end:
        return False
    for index in range(at + 1, at + length):
        if octets[index] & 0xC0 != 0x80:
            return False
    second = octets[at + 1]
    # an overlong form, a surrogate, or above U+10FFFF
    if (first == 0xE0 and second < 0xA0) or (first == 0xED and second >= 0xA0):
        return False
    return not ((first == 0xF0 and second < 0x90) or (first == 0xF4 and second >= 0x90))
