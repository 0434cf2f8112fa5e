r"""Make texts from clients safe to show to people. Escaping for HTML or Markdown comes after this.

Queries of URLs are removed, because they hold signatures and sessions. Characters that are invisible, or that reverse
the direction of the text after them, are written as `\u202e`.
"""

import re

from tamarin_dagster.logformat.redaction import redact_text
from tamarin_dagster.logkey import make_printable

# The room in a line of a table, and the maximum that is shown when a reader opens it.
SHORT_CHARACTERS = 80
LONG_CHARACTERS = 2000
_CUT = "…"
_QUERY_OF_URL = re.compile(r"([a-z][a-z0-9+.-]*://[^\s?\"'<>]*)\?[^\s\"'<>)]*", re.IGNORECASE)


def clean_key(key: str) -> str:
    """Return an object key as S3 logs it, without the text after a question mark."""
    name, mark, _ = key.partition("?")
    return _clean(name + (mark and mark + _CUT))


def clean_text(text: str) -> str:
    """Return a user agent, a requester or a host; URLs in it lose their queries."""
    return _clean(_QUERY_OF_URL.sub(rf"\1?{_CUT}", text[:LONG_CHARACTERS]))


def shorten(text: str, characters: int = SHORT_CHARACTERS) -> str:
    """Return the text; if it is longer than `characters`, its start and its end, that long in all."""
    if len(text) <= characters:
        return text
    start = (characters - 1) * 2 // 3
    return text[:start] + _CUT + text[len(text) - (characters - 1 - start) :]


def _clean(text: str) -> str:
    return shorten(make_printable(redact_text(text[:LONG_CHARACTERS])), LONG_CHARACTERS)
