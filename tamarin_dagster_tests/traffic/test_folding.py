"""Values without rows of their own count in their parents: totals, networks and prefixes stay exact."""

import random
from ipaddress import ip_address, ip_network

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tamarin_dagster.traffic.dimensions import DIMENSIONS
from tamarin_dagster.traffic.folding import fold
from tamarin_dagster.traffic.parts import from_bytes, to_bytes
from tamarin_dagster.traffic.sums import complete, merge, schema_of, split, sum_up
from tamarin_dagster.traffic.totals import Total
from tamarin_dagster_tests.traffic.records import records

BY_NAME = {each.name: each for each in DIMENSIONS}
PARENTS = {
    "key": {"films/a.mp4": "films/", "films/b/c.mp4": "films/", "a.mp4": "", "/x": "/", "é/x": "é/"},
    "requester": {
        "arn:aws:sts::123456789012:assumed-role/app/session-1": "arn:aws:sts::123456789012:assumed-role/app",
        "arn:aws:iam::123456789012:user/eve": "arn:aws:iam::123456789012",
        "AmazonS3": "",
    },
    "referrer": {
        "https://a.example/x/y": "https://a.example/",
        "https://a.example": "https://a.example/",
        "http://[2001:db8::1]:80/x": "http://[2001:db8::1]:80/",
        "a/b/c/d": "",
        "": "",
    },
    "user_agent": {"curl/8.5.0": "curl", "Mozilla/5.0 (X11)": "Mozilla", "my agent": "my", "": ""},
}


@pytest.mark.parametrize("name", PARENTS)
def test_a_value_has_its_natural_parent(name):
    values = pa.array(PARENTS[name])
    parents = BY_NAME[name].parents(values)
    assert parents.to_pylist() == list(PARENTS[name].values())
    assert set(BY_NAME[name].roots(parents).to_pylist()) == {""}


def test_an_address_has_its_network():
    addresses = ["198.51.100.7", "198.51.100.8", "2001:db8:1:2::3", "203.0.113.9"]
    values = sum_up(records([{"remote_ip": each} for each in addresses]))["remote_ip"]["value"].combine_chunks()
    parents = BY_NAME["remote_ip"].parents(values)
    assert [network_of(value) for value in parents.to_pylist()] == [
        ip_network(each) for each in ("198.51.100.0/24", "198.51.100.0/24", "2001:db8:1::/48", "203.0.113.0/24")
    ]
    roots = BY_NAME["remote_ip"].roots(parents)
    assert [str(network_of(value)) for value in roots.to_pylist()] == ["0.0.0.0/0", "0.0.0.0/0", "::/0", "0.0.0.0/0"]


def network_of(packed: bytes):
    """Return the network that Postgres would read from it."""
    return ip_network(f"{ip_address(packed[4:])}/{packed[1]}")


def many(count: int, *, seed: int = 1) -> list[dict[str, object]]:
    """Records with distinct values, two of them with the most bytes and one with the most requests."""
    draw = random.Random(seed)
    changes = [
        {
            "key": f"d{number % 7}/{number}",
            "remote_ip": f"198.51.{number // 200 % 200}.{number % 200}",
            "requester": f"arn:aws:sts::123456789012:assumed-role/app-{number % 3}/s-{number}",
            "referrer": f"https://h{number % 5}.example/{number}",
            "user_agent": f"agent-{number % 4}/{number}",
            "bytes_sent": draw.randrange(1000),
        }
        for number in range(count)
    ]
    large = [changes[3] | {"bytes_sent": 10**9}, changes[4] | {"bytes_sent": 10**8}]
    return changes + large + [changes[5] | {"bytes_sent": 0}] * 50


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda each: each.name)
def test_the_largest_keep_their_rows_and_the_rest_adds_up_by_parent(dimension):
    sums = sum_up(records(many(1000)))[dimension.name]
    folded = fold(sums, dimension, 100).sums
    own, rest = split(folded)

    assert own.num_rows == 100
    assert rest.num_rows <= 25
    for name in ("requests", "bytes_sent"):
        assert pc.sum(folded[name]) == pc.sum(sums[name])
    exact = {row["value"]: row for row in sums.to_pylist()}
    for row in own.to_pylist():
        assert (row["requests"], row["bytes_sent"]) == tuple(exact[row["value"]][n] for n in ("requests", "bytes_sent"))
    for name in ("requests", "bytes_sent"):
        most = max(exact.values(), key=lambda row: row[name])["value"]
        assert most in own["value"].to_pylist()
    assert pc.sum(rest["folded_values"]).as_py() == 900

    parents = merge([with_parents(sums, dimension), with_parents(sums, dimension).slice(0, 0)])
    again = merge([with_parents(own, dimension), rest.drop_columns("folded_values")])
    if rest.num_rows == parents.num_rows:  # no parent was folded into its root
        assert sums_by_value(again) == sums_by_value(parents)


def with_parents(sums: pa.Table, dimension) -> pa.Table:
    return sums.set_column(0, "value", dimension.parents(sums["value"].combine_chunks()))


def sums_by_value(sums: pa.Table) -> dict[object, tuple[int, int]]:
    return {row["value"]: (row["requests"], int(row["bytes_sent"])) for row in sums.to_pylist()}


def test_a_missing_value_keeps_its_row():
    changes = [*many(300), {"referrer": None, "bytes_sent": 0}]
    own, _ = split(fold(sum_up(records(changes))["referrer"], BY_NAME["referrer"], 100).sums)
    assert None in own["value"].to_pylist()


def test_few_values_are_not_folded():
    sums = sum_up(records(many(50)))["key"]
    assert fold(sums, BY_NAME["key"], 50).sums.num_rows == 50
    assert "folded_values" not in fold(sums, BY_NAME["key"], 50).sums.column_names


def test_more_parents_than_rows_are_folded_into_their_root():
    changes = [{"key": f"d{number}/x", "bytes_sent": number} for number in range(1000)]
    folded = fold(sum_up(records(changes))["key"], BY_NAME["key"], 100).sums
    _, rest = split(folded)
    assert rest.num_rows <= 25
    assert "" in rest["value"].to_pylist()
    assert pc.sum(folded["bytes_sent"]).as_py() == sum(range(1000))


def test_a_day_with_more_values_than_a_part_holds_still_adds_up_and_says_what_a_row_may_lack():
    """Parts come one by one, and folding begins before the last is read."""
    total, exact = Total("key", max_values=100), []
    for seed in range(12):
        sums = sum_up(records(many(150, seed=seed)))["key"]
        exact.append(sums)
        total.add(from_bytes(to_bytes(sums)))
    found = from_bytes(to_bytes(total.sums()))
    whole = merge(exact)
    for name in ("requests", "bytes_sent"):
        assert pc.sum(found[name]).as_py() == pc.sum(whole[name]).as_py()
    right = {row["value"]: row for row in whole.to_pylist()}
    again = Total("key", max_values=100)
    again.add(found)
    assert (again.missing_requests, again.missing_bytes) == (total.missing_requests, total.missing_bytes)
    assert total.missing_requests > 0
    own, _ = split(found)
    assert 0 < own.num_rows <= 100
    for row in own.to_pylist():
        assert 0 <= right[row["value"]]["requests"] - row["requests"] <= total.missing_requests
        assert 0 <= int(right[row["value"]]["bytes_sent"]) - int(row["bytes_sent"]) <= total.missing_bytes


def test_bytes_beyond_64_bits_are_folded_exactly():
    changes = [{"key": f"d/{number}", "bytes_sent": 2**63 - 1 - number} for number in range(300)]
    sums = sum_up(records(changes))["key"]
    total = merge([sums, sums])
    folded = complete(fold(total, BY_NAME["key"], 100).sums, schema_of(BY_NAME["key"]))
    assert sum(int(value) for value in folded["bytes_sent"].to_pylist()) == 2 * sum(
        each["bytes_sent"] for each in changes
    )
