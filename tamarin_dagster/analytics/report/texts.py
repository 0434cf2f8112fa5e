r"""Texts of a client's choosing, made fit to be shown to people. Escaping for HTML or Markdown comes after this.

Queries of URLs go, since they hold signatures and sessions. Characters that are not seen as they stand, or that turn
the direction of what follows, are written as `\u202e`.
"""

import re

from tamarin_dagster.logformat.redaction import redact_text
from tamarin_dagster.logkey import make_printable

# What a line of a table has room for, and what one may want to read who opens it.
SHORT_CHARACTERS = 80
LONG_CHARACTERS = 2000
_CUT = "…"
_QUERY_OF_URL = re.compile(r"([a-z][a-z0-9+.-]*://[^\s?\"'<>]*)\?[^\s\"'<>)]*", re.IGNORECASE)


def name_of_object(key: str) -> str:
    """An object key as S3 logs it, without what stands behind a question mark."""
    name, mark, _ = key.partition("?")
    return _shown(name + (mark and mark + _CUT))


def free_text(text: str) -> str:
    """A user agent, a requester or a host; the URLs in it without their queries."""
    return _shown(_QUERY_OF_URL.sub(rf"\1?{_CUT}", text[:LONG_CHARACTERS]))


def shortened(text: str, characters: int = SHORT_CHARACTERS) -> str:
    """The text; of a longer one its start and its end, so many characters in all."""
    if len(text) <= characters:
        return text
    start = (characters - 1) * 2 // 3
    return text[:start] + _CUT + text[len(text) - (characters - 1 - start) :]


def _shown(text: str) -> str:
    return shortened(make_printable(redact_text(text[:LONG_CHARACTERS])), LONG_CHARACTERS)
