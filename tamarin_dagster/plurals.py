"""Numbers with their nouns, for messages."""


def count_noun(count: int, noun: str) -> str:
    """Return the number and the noun, in the plural unless there is one: `1 log key`, `2,000 log keys`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
