"""A log bucket that somebody hostile has a hand in: names of objects, lines, and bodies that are meant for the page."""

from datetime import date

from tamarin_dagster_tests.lines import line

PRESS = "press.example.org"
PRESS_PREFIX = "press/"
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>"
LINKS = "[a link](https://evil.example/page)![an image](https://evil.example/image.png)"
ESCAPES = "\x1b[31mred\x1b[0m"
SECRET = "5ec4e7" * 10
"""The signature of a presigned URL, in a line that is rejected and so is kept as it came."""


def press_objects(day: date) -> dict[str, bytes]:
    """Objects by their names; all are of this day."""
    time = f"{day:%d/%b/%Y}:00:00:00 +0000"
    record = line(time, bucket=PRESS, user_agent=f"{MARKUP} {LINKS} {ESCAPES}", key=f"{MARKUP.replace(' ', '+')}")
    torn = line(time, bucket=PRESS, user_agent=MARKUP, key=f"a?X-Amz-Signature={SECRET}&{LINKS.replace(' ', '+')}")
    start = f"{PRESS_PREFIX}{day.isoformat()}-"
    return {
        f"{start}00-00-01-000000000000000A": record * 3 + torn[:-200] + b"\n",
        # a log key's name, and nothing that could be unpacked
        f"{start}00-00-02-000000000000000B.gz": b"\x1f\x8b\x08" + MARKUP.encode(),
        # names that are no log key's
        f"{start}{MARKUP}": b"",
        f"{start}{LINKS}": b"",
        f"{start}{ESCAPES}": b"",
    }
