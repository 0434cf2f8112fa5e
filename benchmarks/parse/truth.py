"""The truth of a line, in a form that the result of every parser can be converted to, and the count of errors.

The truth of a line is seven fields. They leave out differences between parsers that are not errors: the request is one
text, with its method and version, and null is None, however it was written.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.parse.odd_lines import Fields

Digests = npt.NDArray[np.uint64]
"""One for each line; 0 means that the line is not a record."""


class Compared(NamedTuple):
    """The compared fields, as text. Bytes that are not UTF-8 are surrogates."""

    remote_ip: str | None
    operation: str | None
    key: str | None
    request: str | None
    http_status: str | None
    bytes_sent: str | None
    user_agent: str | None


@dataclass(frozen=True)
class Mistakes:
    """The errors of a parser in a file."""

    lost: int
    """Records that it did not find, and records that it found in lines that are not records."""
    wrong: int | None
    """Records that it found with a wrong value in one of the fields; None if it does not show its fields."""


def compared(fields: Fields) -> Compared:
    """Return the truth of a line whose fields are known."""
    request = [fields[name] for name in ("request_method", "request_uri", "http_version")]
    return Compared(
        fields["remote_ip"],
        fields["operation"],
        fields["key"],
        " ".join(part for part in request if part is not None) or None,
        fields["http_status"],
        fields["bytes_sent"],
        fields["user_agent"],
    )


def compared_columns(*texts: str) -> Compared:
    """Return the result of a parser that keeps nulls and quotes as in the line, in the order of `Compared`."""
    address, operation, key, request, status, size, agent = texts
    return Compared(
        _null(address),
        _null(operation),
        _null(key),
        _null(_unquoted(request)),
        _null(status),
        _null(size),
        _null(_unquoted(agent)),
    )


def compared_demo_line(line: str) -> Compared:
    """Return the truth of a line of the demo's traffic.

    This relies on the demo and does not work for other lines: only the URI may contain quotes, and only the requester,
    the request and the user agent may contain blanks.
    """
    if '"' in line:
        before, _, _, agent, _ = line.rsplit('"', 4)
        head, request = before.split(' "', 1)
        request, block = request.rsplit('" ', 1)
        status, _, size, *_ = block.split(" ")
    else:
        head, request, rest = line.partition(" - ")
        status, _, size, *_ = rest.split(" ")
        agent = request = "-"
    columns = head.split(" ")
    return compared_columns(columns[4], columns[-2], columns[-1], request, status, size, agent)


def digests(answers: Iterable[Compared | None]) -> Digests:
    """Return a digest for each line, so that a million results can be compared without keeping them."""
    return np.fromiter(map(_digest, answers), np.uint64)


def mistakes(truth: Digests, answers: Digests) -> Mistakes:
    """Return the differences between the results and the truth."""
    if len(truth) != len(answers):
        raise ValueError(f"{len(answers):,} answers to {len(truth):,} lines: one is needed for each")
    is_record, is_found = truth != 0, answers != 0
    lost = int(np.count_nonzero(is_record != is_found))
    return Mistakes(lost, int(np.count_nonzero(is_record & is_found & (truth != answers))))


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a file without their LF. Bytes that are not UTF-8 become surrogates."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n")


def _digest(answer: Compared | None) -> int:
    if answer is None:
        return 0
    return int.from_bytes(hashlib.blake2b(repr(tuple(answer)).encode(), digest_size=8).digest()) or 1


def _null(text: str) -> str | None:
    return None if text in ("-", "") else text


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
