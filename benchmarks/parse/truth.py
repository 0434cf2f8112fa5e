"""What a line truly holds, in a form that every parser's answer can be brought to, and how many answers are not that.

A line's truth is seven fields. What differs between parsers without being wrong is no part of it: the request is one
text, with its method and version; null is None, however it was written.
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
"""One per line; 0 where there is no record."""


class Compared(NamedTuple):
    """The fields that are compared, as text; bytes that are no UTF-8 as surrogates."""

    remote_ip: str | None
    operation: str | None
    key: str | None
    request: str | None
    http_status: str | None
    bytes_sent: str | None
    user_agent: str | None


@dataclass(frozen=True)
class Mistakes:
    """What a parser made of a file."""

    lost: int
    """Records that it did not find, and records that it found in lines that are none."""
    wrong: int | None
    """Records that it found, but with another value in one of the fields; None if it does not show its fields."""


def compared(fields: Fields) -> Compared:
    """The truth of a line whose fields are known."""
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
    """The answer of a parser that leaves nulls and quotes as the line writes them; in the order of `Compared`."""
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
    """The truth of a line of the demo's traffic.

    Read by what the demo promises, not by rules for any line: it writes quotes into no field but the URI, and blanks
    into no field but the requester, the request and the user agent.
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
    """A digest per line: a million answers are compared without holding them."""
    return np.fromiter(map(_digest, answers), np.uint64)


def mistakes(truth: Digests, answers: Digests) -> Mistakes:
    """How the answers differ from the truth."""
    if len(truth) != len(answers):
        raise ValueError(f"{len(answers):,} answers to {len(truth):,} lines: one is needed for each")
    is_record, is_found = truth != 0, answers != 0
    lost = int(np.count_nonzero(is_record != is_found))
    return Mistakes(lost, int(np.count_nonzero(is_record & is_found & (truth != answers))))


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a file, without their LF; bytes that are no UTF-8 as surrogates."""
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
