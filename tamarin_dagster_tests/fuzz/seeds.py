"""The seeds of fuzzing: a line of each known shape, and the words that matter."""

from benchmarks.parse.odd_lines import KINDS, NO_RECORD_KINDS, no_record, odd_record
from tamarin_dagster_tests.logformat.lines_written import BASES, WORDS


def seeds() -> list[bytes]:
    """Log objects: each line alone, and all of them in one."""
    lines = [text.encode() for text in BASES]
    lines += [odd_record(kind, number).line for number, kind in enumerate(KINDS)]
    lines += [no_record(kind, number).line for number, kind in enumerate(NO_RECORD_KINDS)]
    return [*lines, b"\r\n".join(lines), b"\xef\xbb\xbf" + lines[0] + b"\n\n \t\r\n" + lines[1]]


def dictionary() -> str:
    """The words, as libFuzzer reads a dictionary."""
    entries = ["".join(rf"\x{octet:02x}" for octet in word.encode()) for word in WORDS]
    return "".join(f'"{entry}"\n' for entry in entries)
