"""Tails of random columns: no value gets into a column whose shape it does not have, and no line is lost."""

import random
import re

from tamarin_dagster.logformat import FIELDS, parse_logs
from tamarin_dagster.logformat.fields import TAIL_FIELDS
from tamarin_dagster_tests.logformat.found import records_of, rejected_of
from tamarin_dagster_tests.logformat.lines_written import HOST_ID, line

LINES = 100_000
SHAPES = {field.name: (re.compile(field.pattern), re.compile(field.excludes or "(?!)")) for field in FIELDS}
COLUMNS = [
    ["-", "null", "MwI7yXtui4mtwTeuZxHoT4qHap44j3T2", "yn5YAJiwT36Rv78jGYLM71GZumWL.QWn"],
    [HOST_ID, "192.0.2.20", "-"],
    ["SigV4", "SigV2", "-"],
    ["ECDHE-RSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256", "-"],
    ["AuthHeader", "QueryString", "-"],
    ["films.s3.eu-west-1.amazonaws.com", "s3.amazonaws.com", "192.0.2.20:9021", "-"],
    ["TLSv1.2", "TLSV1.1", "-"],
    ["arn:aws:s3:us-west-1:123456789012:accesspoint/x", "-"],
    ["Yes", "-"],
    ["eu-west-1", "us-gov-east-1", "-"],
]
WORDS = [
    "a",
    "Ye",
    "TLSv1.",
    "words",
    "[1]",
    '"',
    '"x"',
    "200",
    "\u00e9",
    "x/y",
    "SigV",
    "us-eas",
    "Mozilla/5.0",
    "AIDA1",
]


def random_tail(draws: random.Random) -> str:
    columns = [draws.choice(choices) for choices in COLUMNS[: draws.choice([2, 6, 7, 9, 10, 10, 10])]]
    for _ in range(draws.randrange(4)):
        at = draws.randrange(len(columns)) if columns else 0
        match draws.choice(["drop", "double", "quote", "swap", "word", "cut"]) if columns else "word":
            case "drop":
                del columns[at]
            case "double":
                columns.insert(at, columns[at])
            case "quote":
                columns[at] = f'"{columns[at]}"'
            case "swap":
                other = draws.randrange(len(columns))
                columns[at], columns[other] = columns[other], columns[at]
            case "cut":
                columns[at] = columns[at][: draws.randrange(1, 9)]
            case _:
                columns.insert(at, draws.choice(WORDS))
    return " ".join(columns)


def test_no_random_tail_is_read_into_a_column_whose_shape_it_does_not_have():
    draws = random.Random(20261127)
    lines = [line(tail=random_tail(draws)) for _ in range(LINES)]
    parsed = parse_logs(["\n".join([*lines, ""]).encode()])
    records = records_of(parsed)
    assert parsed.counts[0].line_count == LINES == records.num_rows + len(parsed.rejected)
    assert records.num_rows > LINES // 10
    assert {str(rejected.reason) for rejected in rejected_of(parsed)} <= {"bad_tail", "too_few_fields"}
    for name in TAIL_FIELDS:
        pattern, excluded = SHAPES[name]
        for text in set(records[name].to_pylist()) - {None}:
            assert pattern.fullmatch(text), (name, text)
            assert not excluded.fullmatch(text), (name, text)
    agents = {agent for agent in records["user_agent"].to_pylist() if agent != "curl/8.1"}
    # A quote in the tail may close the user agent: then some columns belong to the user agent, and a tail follows.
    assert all('"' in agent for agent in agents)
