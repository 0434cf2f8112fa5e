"""The names of files in each program: the path of the request, as the program normalises it."""

import re
from urllib.parse import unquote

from tamarin_dagster_tests.peers.traffic import Request

_KNOWN_TO_GOACCESS = ["OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT", "PATCH", "PROPFIND"]
# What Analog reads as one character, other than itself: printable ASCII, but for what parts a query.
_KEPT_BY_ANALOG = "%&;=?"
_UNRESERVED = re.compile(r"%([46][1-9A-F]|[57][0-9A]|3[0-9]|2D|2E|5F|7E)", re.IGNORECASE)


def escaped(text: str) -> str:
    """Return the name as in a combined line: a backslash precedes a quote and a backslash."""
    return re.sub(r'(["\\])', r"\\\1", text)


def goaccess_file(request: Request) -> str:
    """Return the decoded name. The text after a question mark, plain or encoded, is the query."""
    if request.version is None or request.method is None:
        return "-"
    known = request.method.upper() in _KNOWN_TO_GOACCESS
    text = unquote(escaped((request.uri if known else request.line) or ""), errors="surrogateescape")
    return re.sub(r"[\r\n]", "", text).partition("?")[0]


def awstats_file(request: Request) -> str:
    """Letters, digits and `-._~` decoded; up to the first blank, anchor, question mark or semicolon."""
    path = escaped(request.uri or "-").partition(" ")[0]
    path = _UNRESERVED.sub(lambda found: chr(int(found[1], 16)), path)
    path = re.sub(r"#\w*$", "", path)
    path = re.split("[?;]", path, maxsplit=1)[0]
    return re.sub(r"/index\.html$", "/", re.sub(r"(?<!:)//", "/", path))


def analog_file(request: Request) -> str:
    """Return the URI as in a combined line, with `\\"` and `\\\\` in it; a blank in the URI takes the version along."""
    if request.method is None:
        return "-"
    has_blank = " " in (request.uri or "")
    text = f"{request.uri} {request.version}" if has_blank and request.version else request.uri
    return _plain(escaped(text or ""))


def analog_raw_file(request: Request) -> str:
    """Return the URI as in S3's line: up to the first blank."""
    return _plain((request.uri or "").partition(" ")[0])


def _plain(path: str) -> str:
    """Analog's name of a file: a backslash is a slash, `.` and `..` are resolved, `index.html` is its folder."""
    path = re.split("[?;#]", path, maxsplit=1)[0]
    path = re.sub(r"%([0-9A-Fa-f]{2})", _decoded, path).replace("\\", "/")
    if "://" not in path:
        path = re.sub("/{2,}", "/", path)
        path = re.sub(r"/(\./)+", "/", path)
        path = re.sub(r"/[^/]+/\.\./", "/", path)
    return re.sub(r"/index\.html$", "/", path)


def _decoded(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if " " <= character <= "~" and character not in _KEPT_BY_ANALOG else found[0]
