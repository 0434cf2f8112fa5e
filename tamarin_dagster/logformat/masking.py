"""The shape of a line: the part that is safe to show of a line that is not a record, and may hold anything."""

SHAPE_BYTES = 200


def mask_line(line: bytes) -> str:
    """Return the line's start with each letter as `a` and each digit as `9`: at most SHAPE_BYTES characters, and `…` if
    cut.

    Quotes, blanks and brackets mostly show why a line was rejected; addresses, keys, signatures and other client data
    stay hidden. Everything but printable ASCII is `?`.
    """
    return "".join(map(_mask, line[:SHAPE_BYTES])) + ("…" if len(line) > SHAPE_BYTES else "")


def _mask(byte: int) -> str:
    character = chr(byte)
    if not character.isascii() or not character.isprintable():
        return "?"
    return "a" if character.isalpha() else "9" if character.isdigit() else character
