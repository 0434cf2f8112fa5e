"""Write log keys of difficult traffic: all keys, addresses, requesters, referrers and agents distinct, or 99 % PUT."""

import os
import random
from datetime import date, datetime, timedelta
from pathlib import Path

from tamarin_dagster.demo import WrittenLogKeys

_OWNER = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"
_HOST_ID = "m3PGwDN1s8smqpOSEELewHILMcdm7xri7/UsWHBhRrT0w23Pp0YcEmgboXyHFTv7qR7RvFMrUgo="


def write_unkind_keys(folder: Path, *, lines: int, keys: int, day: date, put_share: float = 0.0) -> WrittenLogKeys:
    """Write log keys of one UTC day to `folder`/logs/, with distinct values in all five dimensions.

    There are `lines` lines in `keys` log keys, and the share `put_share` of the requests are PUTs.
    """
    draw = random.Random(lines)
    target = folder / "logs"
    target.mkdir(parents=True, exist_ok=True)
    total = 0
    for key in range(keys):
        first, last = lines * key // keys, lines * (key + 1) // keys
        moment = datetime(day.year, day.month, day.day) + timedelta(days=first / lines)  # noqa: DTZ001 - a name's
        body = "".join(_line(number, day, lines, draw, put_share) for number in range(first, last)).encode()
        path = target / f"{moment:%Y-%m-%d-%H-%M-%S}-{key:016X}"
        path.write_bytes(body)
        os.utime(path, (0, 0))  # a file that was just written would wait for a later pull
        total += len(body)
    return WrittenLogKeys(keys, lines, total, day, day)


def _line(number: int, day: date, lines: int, draw: random.Random, put_share: float) -> str:
    second = 86_400 * number // lines
    time = f"{day:%d/%b/%Y}:{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02} +0000"
    address = ".".join(str(draw.randrange(1, 255)) for _ in range(4))
    size = draw.randrange(1, 2_000_000)
    is_put = draw.random() < put_share
    method, sent = ("PUT", "-") if is_put else ("GET", str(size))
    key = f"d{number % 977}/{number:012}.jpg"
    return (
        f"{_OWNER} media [{time}] {address} arn:aws:sts::123456789012:assumed-role/app/session-{number}"
        f' {draw.getrandbits(64):016X} REST.{method}.OBJECT {key} "{method} /{key} HTTP/1.1" 200 - {sent} {size}'
        f' {draw.randrange(1, 9000)} {draw.randrange(1, 90)} "https://site-{number % 5000}.example.org/page/{number}"'
        f' "client-{number}/1.0" - {_HOST_ID} SigV4 TLS_AES_128_GCM_SHA256 AuthHeader media.s3.amazonaws.com TLSv1.3'
        " - - -\n"
    )
