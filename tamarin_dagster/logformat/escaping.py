r"""Write bytes that Postgres text cannot hold as text that says which bytes they were.

NUL and bytes that are not UTF-8 become `\xNN` (lower-case hex). To distinguish that from a literal backslash
and x sent by a client, the literal one is written `\x5cx`. `unescape_text` is the exact inverse.
"""

import re

_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def escape_bytes(data: bytes) -> str:
    r"""Return the bytes as text: UTF-8 decoded, other bytes and NUL as `\xNN`, a literal `\x` as `\x5cx`."""
    return data.replace(rb"\x", rb"\x5cx").replace(b"\0", rb"\x00").decode("utf-8", "backslashreplace")


def unescape_text(text: str) -> bytes:
    """Return the bytes from which `escape_bytes` made the text."""
    # The split alternates: text, the hex digits of an escape, text, …
    return b"".join(
        bytes.fromhex(piece) if index % 2 else piece.encode("utf-8") for index, piece in enumerate(_ESCAPED.split(text))
    )
