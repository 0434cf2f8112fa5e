"""The shape of a line: what may be shown of one that is no record, and may hold anything."""

SHAPE_BYTES = 200


def shape(line: bytes) -> str:
    """The line's start with each letter as `a` and each digit as `9`: at most SHAPE_BYTES characters, and `…` if cut.

    Why a line was rejected is mostly seen from quotes, blanks and brackets; addresses, keys, signatures and whatever
    else a stranger has written are not. All that is no printable ASCII is `?`.
    """
    return "".join(map(_masked, line[:SHAPE_BYTES])) + ("…" if len(line) > SHAPE_BYTES else "")


def _masked(byte: int) -> str:
    character = chr(byte)
    if not character.isascii() or not character.isprintable():
        return "?"
    return "a" if character.isalpha() else "9" if character.isdigit() else character
