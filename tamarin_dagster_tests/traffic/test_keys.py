"""Both spellings of a key as one, in Arrow and in SQL."""

import time

import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.traffic.keys import rest_spelling

CASES = [
    ("date_%253D2021/a+b.txt", "REST.PUT.OBJECT", "date_%253D2021/a+b.txt"),
    ("date_%3D2021/a+b.txt", "S3.EXPIRE.OBJECT", "date_%253D2021/a+b.txt"),
    ("b%26c.txt", "BATCH.DELETE.OBJECT", "b%2526c.txt"),
    ("b%2526c.txt", "WEBSITE.GET.OBJECT", "b%2526c.txt"),
    ("plain.txt", "S3.EXPIRE.OBJECT", "plain.txt"),
    ("100%", "S3.EXPIRE.OBJECT", "100%25"),
    ("a%3Db", None, "a%3Db"),
    (None, "S3.EXPIRE.OBJECT", None),
    (None, None, None),
]


def test_keys_that_s3_encodes_once_get_the_spelling_of_rest_operations():
    keys, operations, expected = zip(*CASES, strict=True)
    found = rest_spelling(pa.array(keys, pa.string()), pa.array(operations, pa.string()))
    assert found.to_pylist() == list(expected)


def test_chunks_and_large_strings_are_accepted():
    keys, operations, expected = zip(*CASES, strict=True)
    for kind in (pa.string(), pa.large_string()):
        chunked = pa.chunked_array([pa.array(keys[:2], kind), pa.array(keys[2:], kind)])
        names = pa.chunked_array([pa.array(operations[:4], kind), pa.array(operations[4:], kind)])
        assert rest_spelling(chunked, names).to_pylist() == list(expected)
    assert rest_spelling(pa.array([], pa.string()), pa.array([], pa.string())).to_pylist() == []


@pytest.mark.parametrize(("key", "operation", "expected"), CASES)
def test_sql_spells_keys_in_the_same_way(database_url, key, operation, expected):
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        found = connection.scalar(sa.text("SELECT s3_rest_key(:key, :operation)"), {"key": key, "operation": operation})
    engine.dispose()
    assert found == expected


@given(st.lists(st.tuples(st.text(), st.sampled_from(["S3.EXPIRE.OBJECT", "BATCH.DELETE.OBJECT", "REST.GET.OBJECT"]))))
def test_any_text_keeps_its_meaning(rows):
    keys, operations = [key for key, _ in rows], [operation for _, operation in rows]
    found = rest_spelling(pa.array(keys, pa.string()), pa.array(operations, pa.string())).to_pylist()
    assert found == [
        key if operation.startswith("REST.") else key.replace("%", "%25")
        for key, operation in zip(keys, operations, strict=True)
    ]


def test_records_of_rest_operations_cost_next_to_nothing():
    keys = pa.array([f"photos/{number}%2520.jpg" for number in range(100_000)])
    operations = pa.array(["REST.GET.OBJECT"] * 100_000)
    started = time.perf_counter()
    assert rest_spelling(keys, operations) is keys
    assert time.perf_counter() - started < 0.1
