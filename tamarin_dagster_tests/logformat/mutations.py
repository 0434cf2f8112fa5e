"""Lines that are nearly records: good ones, mutated, as hypothesis strategies."""

from hypothesis import strategies as st

from tamarin_dagster_tests.logformat.lines_written import BASES, WORDS

_BASES = [text.encode() for text in BASES]
_WORDS = [b"", *(word.encode() for word in WORDS)]
_MUTATIONS = ["put in", "cut out", "replace", "cut off", "splice", "swap columns", "double columns", "odd bytes"]


@st.composite
def mutated_lines(draw: st.DrawFn) -> bytes:
    """Draw a good line with words inserted, removed or replaced, columns swapped or doubled, or spliced with another
    line.

    It may hold an LF.
    """
    line = draw(st.sampled_from(_BASES))
    for mutation in draw(st.lists(st.sampled_from(_MUTATIONS), max_size=4)):
        line = _mutated(draw, line, mutation)
    return line


def single_lines() -> st.SearchStrategy[bytes]:
    """Return mutated lines that are one line each."""
    return mutated_lines().map(lambda line: line.replace(b"\n", b""))


def _mutated(draw: st.DrawFn, line: bytes, mutation: str) -> bytes:
    if mutation.endswith("columns"):
        columns = line.split(b" ")
        first, second = draw(st.tuples(*[st.integers(0, len(columns) - 1)] * 2))
        if mutation == "double columns":
            first, second = sorted((first, second))
            columns[second:second] = columns[first : min(second, first + 12)]
        else:
            columns[first], columns[second] = columns[second], columns[first]
        return b" ".join(columns)
    start = draw(st.integers(0, len(line)))
    if mutation == "put in":
        return line[:start] + draw(st.sampled_from(_WORDS)) + line[start:]
    if mutation == "odd bytes":
        return line[:start] + draw(st.binary(max_size=4)) + line[start:]
    if mutation == "cut off":
        return line[:start]
    if mutation == "splice":
        other = draw(st.sampled_from(_BASES))
        return line[:start] + other[draw(st.integers(0, len(other))) :]
    end = start + draw(st.integers(1, 20))
    return line[:start] + (b"" if mutation == "cut out" else draw(st.sampled_from(_WORDS))) + line[end:]
