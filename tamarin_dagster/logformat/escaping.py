r"""Bytes that Postgres text cannot hold, written as text that says which bytes they were.

NUL and bytes that are no UTF-8 become `\xNN` (lower-case hex). So that such text can be told from a client that sent
a literal backslash and x, the literal one is written `\x5cx`. `unescape_text` is the exact inverse.
"""

import re

_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def escape_bytes(line: bytes) -> str:
    r"""The line as text: UTF-8 decoded, other bytes and NUL as `\xNN`, a literal `\x` as `\x5cx`."""
    plain = line.replace(b"\\x", b"\\x5cx").replace(b"\0", b"\\x00")
    return plain.decode("utf-8", errors="backslashreplace")


def unescape_text(text: str) -> bytes:
    """The bytes that `escape_bytes` made the text of."""
    # split alternates: text between two escapes, the hex digits of an escape, text, ...
    return b"".join(
        bytes.fromhex(piece) if index % 2 else piece.encode("utf-8") for index, piece in enumerate(_ESCAPED.split(text))
    )
