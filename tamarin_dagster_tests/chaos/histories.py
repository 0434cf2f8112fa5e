"""Log keys for the matrix: of each kind that a log bucket may hold, few and small, the same bytes each time."""

import gzip
import random

from tamarin_dagster_tests.lines import line

PREFIX = "logs/"
DAYS = (1, 2, 3)
STRAYS = {
    f"{PREFIX}readme.txt": b"not a log key",
    f"{PREFIX}2026-03-01-10-00-00-SHORT": line(request_id="STRAY"),
    f"{PREFIX}2026-03-01-10-00-00-0123456789ABCDEF.tmp": line(request_id="STRAY"),
    f"{PREFIX}2026-03-32-10-00-00-0123456789ABCDEF": line(request_id="STRAY"),
    f"{PREFIX}backup/2026-03-01-10-00-00-0123456789ABCDEF": line(request_id="STRAY"),
    f"{PREFIX}123456789012/us-east-1/media/2026/03/01/2026-03-02-10-00-00-0123456789ABCDEF": line(request_id="STRAY"),
}
"""Names that are no log key's, though some look like one."""


def name(day: int, number: int, suffix: str = "") -> str:
    """The name of a log key."""
    return f"{PREFIX}2026-03-{day:02}-{number % 24:02}-10-00-{day * 1000 + number:016X}{suffix}"


def partitioned_name(day: int, number: int) -> str:
    """The name of a log key in the layout that is partitioned by date."""
    folder = f"{PREFIX}123456789012/us-east-1/media/2026/03/{day:02}"
    return f"{folder}/2026-03-{day:02}-{number % 24:02}-20-00-{day * 1000 + 500 + number:016X}"


def body(day: int, number: int, count: int = 20, kind: str = "") -> bytes:
    """So many records, each with a request id that no other has."""
    return b"".join(
        line(
            f"{day:02}/Mar/2026:{number % 24:02}:05:{second % 60:02} +0000",
            request_id=f"{kind or 'A'}{day:03}{number:04}{second:08}",
            key=f"video/{second % 7}.mp4",
            size=1000 + second,
        )
        for second in range(count)
    )


def history() -> dict[str, bytes]:
    """By name the bytes of some thirty keys of three days, and of strays: records of each kind, and what is none."""
    objects = dict(STRAYS)
    for day in DAYS:
        for number in range(6):
            objects[name(day, number)] = body(day, number)
        objects[name(day, 6)] = body(day, 6, 150)  # larger than a batch
        objects[name(day, 7, ".gz")] = gzip.compress(body(day, 7), mtime=0)
        objects[partitioned_name(day, 8)] = body(day, 8)
    objects[name(1, 10)] = b""
    objects[name(1, 11)] = b"\n" + body(1, 11, 3) + b"\r\n\n"
    objects[name(2, 10)] = body(2, 10, 4) + b"no record at all\n"
    objects[name(2, 11)] = random.Random(5).randbytes(3000)
    objects[name(3, 10)] = body(3, 10, 2)[:-200]  # torn
    return objects
