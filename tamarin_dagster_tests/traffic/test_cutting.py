"""Texts are cut as Python cuts them, whatever they hold and however an array is sliced."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.traffic import cutting
from tamarin_dagster.traffic.cutting import cut

TEXTS = st.lists(st.none() | st.text(alphabet="a/?#: é\U0001f600", max_size=12), max_size=40)


def cut_by_python(text: str | None, marks: str, nth: int, *, keeps_mark: bool) -> str | None:
    if text is None:
        return None
    places = [place for place, letter in enumerate(text) if letter in marks]
    return text if len(places) < nth else text[: places[nth - 1] + keeps_mark]


@given(TEXTS, st.sampled_from(["/", "?#", ":"]), st.integers(1, 3), st.booleans(), st.integers(0, 3))
def test_texts_are_cut_as_python_cuts_them(texts, marks, nth, keeps_mark, skipped):
    array = pa.array(["before/it", *texts], pa.string()).slice(1 + min(skipped, len(texts)))
    expected = [cut_by_python(text, marks, nth, keeps_mark=keeps_mark) for text in array.to_pylist()]
    assert cut(array, marks.encode(), nth, keeps_mark=keeps_mark).to_pylist() == expected


def test_texts_are_cut_some_thousands_at_a_time(monkeypatch):
    monkeypatch.setattr(cutting, "_ROWS", 3)
    texts = pa.array([f"d{number}/x" for number in range(10)] + [None])
    assert cut(texts, b"/").to_pylist() == [f"d{number}" for number in range(10)] + [None]
