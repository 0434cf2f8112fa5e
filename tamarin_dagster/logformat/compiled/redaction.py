"""The rules of `logformat.redaction`, compiled, over whole columns of texts."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamarin_dagster.logformat.compiled.automata import ENDS_HERE, START, Automaton, automaton
from tamarin_dagster.logformat.compiled.compiling import (
    Octets,
    compiled,
    copy_octets,
    eight_octets,
    inlined,
    pointer,
    signed,
)
from tamarin_dagster.logformat.compiled.scanning import NO
from tamarin_dagster.logformat.redaction import REDACTED, SECRET_PARAMETERS

Integers = npt.NDArray[np.int64]
Offsets = npt.NDArray[np.int32]
T = TypeVar("T", bound=np.generic)

_MAX_GROWTH = 2
"""The maximum growth of a byte: `?Signature=x`, 12 bytes, becomes 19."""
_MAX_OFFSET = np.iinfo(np.int32).max
"""The largest offset of Arrow's type string."""


def _any_case(name: str) -> str:
    return "".join(f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else letter for letter in name)


_NAMES = automaton(f"[?&;#](?:{'|'.join(map(_any_case, SECRET_PARAMETERS))})=")
"""The decoded bytes that may precede a secret."""
_ROW = _NAMES.shape[1]
_REDACTED = np.frombuffer(REDACTED.encode(), np.uint8)

_PERCENT, _AMPERSAND, _HASH, _EQUALS = b"%&#="
_0, _2, _5, _9, _A, _F = b"0259af"
_LOWER = ord("a") - ord("A")
_SEPARATES, _ENDS = 1, 2
_KINDS = np.array([_SEPARATES * (octet in b"?&;#%") | _ENDS * (octet in b'&;# "') for octet in range(256)], np.uint8)
"""For each byte, whether a separator may begin with it, and whether a value ends before it."""
_EIGHT_LOW_BITS, _EIGHT_HIGH_BITS, _EIGHT_PERCENTS, _EIGHT_EQUALS = (
    np.uint64(octet * 0x0101010101010101) for octet in (0x7F, 0x80, _PERCENT, _EQUALS)
)


def redact_texts(texts: pa.StringArray) -> pa.StringArray:
    """Return a column without secrets: the same object if there are none. See `redaction.redact_texts`.

    Raises:
        ValueError: the texts would be longer than 2 GiB, the limit of an array of strings.
    """
    count = len(texts)
    validity, offsets_buffer, octets_buffer = texts.buffers()
    if count == texts.null_count or octets_buffer is None:
        return texts
    offsets = np.frombuffer(offsets_buffer, np.int32)[texts.offset : texts.offset + count + 1]
    octets = _readonly(np.frombuffer(octets_buffer, np.uint8))
    found = np.empty(count, np.int64)
    found = found[: _find_secrets(octets, _readonly(offsets), _NAMES, found)]
    if not len(found):
        return texts
    kept = int(offsets[-1]) - int(offsets[0])
    room = kept + (_MAX_GROWTH - 1) * int((offsets[found + 1] - offsets[found]).sum(dtype=np.int64))
    if room > _MAX_OFFSET:
        raise ValueError(f"{room} bytes are too many for one array of texts: parse smaller pieces")
    redacted, new_offsets = np.empty(room, np.uint8), np.empty(count + 1, np.int32)
    used = _redact_texts(octets, _readonly(offsets), found, _NAMES, redacted, new_offsets)
    valid = None if validity is None or not texts.null_count else pa.array(texts.is_valid()).buffers()[1]
    return pa.StringArray.from_buffers(
        count, pa.py_buffer(new_offsets), pa.py_buffer(redacted[:used]), valid, texts.null_count
    )


def _readonly(array: npt.NDArray[T]) -> npt.NDArray[T]:
    """Return a read-only view, because numba compiles for only one of the two."""
    view = array.view()
    view.setflags(write=False)
    return view


@compiled
def _find_secrets(octets: Octets, offsets: Offsets, names: Automaton, found: Integers) -> int:
    """Write which texts hold a secret; return their number."""
    text, table, count = pointer(octets), pointer(names), 0
    for row in range(len(offsets) - 1):
        start, end = signed(offsets[row]), signed(offsets[row + 1])
        if _may_hold_secret(text, start, end) and _next_secret(text, start, end, table)[0] != NO:
            found[count] = row
            count += 1
    return count


@compiled
def _redact_texts(
    octets: Octets, offsets: Offsets, found: Integers, names: Automaton, redacted: Octets, new_offsets: Offsets
) -> int:
    """Write all texts and their offsets, with those of `found` redacted; return the number of bytes."""
    text, table, target = pointer(octets), pointer(names), pointer(redacted)
    used, row = 0, 0
    for following in range(len(found) + 1):
        last = found[following] if following < len(found) else len(offsets) - 1
        start, end = signed(offsets[row]), signed(offsets[last])
        moved_by = used - start
        copy_octets(target, used, text, start, end - start)
        used += end - start
        for unchanged in range(row, last + 1):
            new_offsets[unchanged] = signed(offsets[unchanged]) + moved_by
        if following < len(found):
            used = _redact(text, signed(offsets[last]), signed(offsets[last + 1]), table, target, used)
            row = last + 1
            new_offsets[row] = used
    return used


@compiled
def _redact(octets: Octets, at: int, end: int, names: Automaton, redacted: Octets, used: int) -> int:
    """Write the redacted text to `redacted[used:]`; return its end."""
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
    """Return whether there is a `%` or `=`.

    Most texts are short and hold none, so it tests eight bytes at a time; the last eight overlap others.
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
    """Set the high bit of each byte that is neither `%` nor `=` (like `scanning`); other bits mean nothing."""
    percents, equals = eight ^ _EIGHT_PERCENTS, eight ^ _EIGHT_EQUALS
    return (((percents & _EIGHT_LOW_BITS) + _EIGHT_LOW_BITS) | percents) & (
        ((equals & _EIGHT_LOW_BITS) + _EIGHT_LOW_BITS) | equals
    )


@compiled
def _next_secret(octets: Octets, at: int, end: int, names: Automaton) -> tuple[int, int]:
    """Return where the next value to replace begins and ends; NO twice if there is none."""
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
    """Return where the value begins if a separator, a secret's name and `=`, plain or encoded, are at `at`; otherwise
    NO.

    No name holds a separator, so each byte is read for at most one separator before it, or as one itself.
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
    """Return where the value at `at` ends; `encoded` says whether the separator before its name is encoded."""
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
    """Return the decoded byte at `at`, however often it is encoded, and where the next one begins."""
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
    """Return the value of a hex digit; NO if it is not one."""
    if _0 <= octet <= _9:
        return octet - _0
    octet |= _LOWER
    return octet - _A + 10 if _A <= octet <= _F else NO
