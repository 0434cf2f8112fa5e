import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.logformat import FIELDS
from tamarin_dagster.logformat.compiled.automata import ENDS_HERE, MAX_STATES, START, automaton, difference
from tamarin_dagster.logformat.fields import LONG_HOST_ID_PATTERN, MARCH_2019_PATTERN, TIME_PATTERN, ZONE_PATTERN
from tamarin_dagster_tests.examples import at_least

PATTERNS = sorted(
    {*(field.pattern for field in FIELDS), TIME_PATTERN, ZONE_PATTERN, MARCH_2019_PATTERN, LONG_HOST_ID_PATTERN}
)
LATIN_1 = st.characters(max_codepoint=0xFF)


def accepts(pattern: str, text: bytes) -> bool:
    """Return whether the pattern's automaton accepts the text."""
    table = automaton(pattern).tolist()
    state = START
    for octet in text:
        state = table[state][octet]
    return table[state][ENDS_HERE] == 1


@st.composite
def patterns_and_texts(draw):
    """Draw a pattern, and a text that it matches, or nearly, or that is unrelated to it."""
    pattern = draw(st.sampled_from(PATTERNS))
    text = draw(st.from_regex(pattern, fullmatch=True, alphabet=LATIN_1).map(lambda text: text.encode("latin-1")))
    kind = draw(st.sampled_from(["match", "mutated", "cut", "random"]))
    if kind == "random":
        text = draw(st.binary(max_size=90))
    elif kind != "match":
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 2))
        text = text[:start] + (draw(st.binary(max_size=2)) + text[end:] if kind == "mutated" else b"")
    return pattern, text


@at_least(500)
@given(patterns_and_texts())
def test_an_automaton_accepts_just_what_its_pattern_matches(pattern_and_text):
    pattern, text = pattern_and_text
    assert accepts(pattern, text) == (re.fullmatch(pattern, text.decode("latin-1")) is not None)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_automaton_knows_each_single_byte(pattern):
    found = [accepts(pattern, bytes([octet])) for octet in range(256)]
    assert found == [re.fullmatch(pattern, chr(octet)) is not None for octet in range(256)]


@pytest.mark.parametrize(
    "pattern",
    [r"\d", r"[\d-]", "(?=a)", "(?!a)", "(?<=a)b", "^a", "a$", r"\ba", "a*?", "a*+", r"(a)\1", "(?>a)", "(a)?(?(1)b)",
     "(?i)a", "(?i:a)", "ł", "[a-ł]", "é"],
)  # fmt: skip
def test_a_pattern_that_is_not_understood_is_refused(pattern):
    with pytest.raises(ValueError, match="field table"):
        automaton(pattern)


def test_a_pattern_of_too_many_states_is_refused():
    with pytest.raises(ValueError, match="too many states"):
        automaton(f"a{{{MAX_STATES}}}")


EXCLUDING = [field for field in FIELDS if field.excludes]


@at_least(500)
@given(st.sampled_from(EXCLUDING), st.data())
def test_a_difference_accepts_what_one_pattern_matches_and_the_other_does_not(field, data):
    pattern = data.draw(st.sampled_from([field.pattern, field.excludes]))
    text = data.draw(st.from_regex(pattern, fullmatch=True, alphabet=LATIN_1))
    state, table = START, difference(field.pattern, field.excludes).tolist()
    for octet in text.encode("latin-1"):
        state = table[state][octet]
    expected = re.fullmatch(field.pattern, text) is not None and re.fullmatch(field.excludes, text) is None
    assert (table[state][ENDS_HERE] == 1) == expected
