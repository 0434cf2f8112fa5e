"""The benchmarks compare parsers with the true content of the lines, and each benchmark of loading runs."""

import gzip
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from benchmarks.ingest.endpoint import NGINX
from benchmarks.ingest.listing import Listing
from benchmarks.ingest.profile import parsed_stacks
from benchmarks.ingest.repeated import write_repeated
from benchmarks.ingest.run import phases
from benchmarks.ingest.stage import Stage
from benchmarks.parse.adversarial import adversarial_lines, average_line
from benchmarks.parse.mixes import nasty_lines
from benchmarks.parse.odd_lines import KINDS, NO_RECORD_KINDS, no_record, odd_record
from benchmarks.parse.truth import compared, compared_demo_line, digests, mistakes
from benchmarks.scaling.cluster import REDIS
from tamarin_dagster.demo import DemoSite, make_lines_between
from tamarin_dagster.logformat import FIELD_NAMES, parse_log, unescape_text
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres

NUMBERS = ("http_status", "bytes_sent", "object_size", "total_time", "turnaround_time")


def records(lines):
    """Line number -> the fields of its record, as the line writes them; the time as a time."""
    frame = parse_log(b"\n".join(lines)).records
    return {
        row["line_number"]: {name: as_written(row[name]) for name in FIELD_NAMES} for row in frame.to_dict("records")
    }


def as_written(value):
    if pd.isna(value):
        return None
    if isinstance(value, str):
        return unescape_text(value).decode("utf-8", "surrogateescape")
    return value if isinstance(value, datetime) else str(value)


def demo_lines(count):
    start, end = datetime(2025, 12, 26, tzinfo=UTC), datetime(2025, 12, 27, tzinfo=UTC)
    return make_lines_between(DemoSite(broken_share=0.0), start, end, count)


@cache
def odd_records():
    return records(odd_record(kind, number).line for number, kind in enumerate(KINDS))


@pytest.mark.parametrize(("number", "kind"), list(enumerate(KINDS)))
def test_an_odd_line_holds_the_fields_that_it_is_said_to_hold(number, kind):
    expected = dict(odd_record(kind, number).fields)
    expected["request_dtime"] = datetime.strptime(expected["request_dtime"], "%d/%b/%Y:%H:%M:%S %z")
    assert odd_records()[number + 1] == expected


def test_no_kind_is_another_in_disguise():
    assert len(
        {odd_record(kind, 0).line for kind in KINDS} | {no_record(kind, 0).line for kind in NO_RECORD_KINDS}
    ) == (len(KINDS) + len(NO_RECORD_KINDS))


def test_lines_that_are_no_records_are_rejected():
    lines = [no_record(kind, number).line for number, kind in enumerate(NO_RECORD_KINDS)]
    parsed = parse_log(b"\n".join(lines))
    assert parsed.records.empty
    assert parsed.rejected["line"].tolist() == lines


def test_the_truth_of_an_ordinary_line_is_what_the_parser_reads():
    lines = demo_lines(2_000)
    found = records(line.encode() for line in lines)
    assert [compared_demo_line(line) for line in lines] == [compared(found[n + 1]) for n in range(len(lines))]


def test_one_line_in_twenty_is_odd_and_one_odd_line_in_ten_no_record():
    ordinary = [line.encode() for line in demo_lines(20_000)]
    nasty = list(nasty_lines(line.decode() for line in ordinary))
    changed = [after for before, after in zip(ordinary, nasty, strict=True) if before != after[0]]
    assert len(changed) == 1_000
    assert sum(truth is None for _, truth in changed) == sum(truth is None for _, truth in nasty) == 100
    operations = Counter(truth.operation for _, truth in changed if truth)
    assert operations["BATCH.DELETE.OBJECT"] == pytest.approx(900 / len(KINDS), abs=1)


def test_mistakes_are_lost_and_wrong_lines():
    truth = digests([compared_demo_line(line) for line in demo_lines(4)] + [None, None])
    answers = np.array([truth[0], 0, 7, truth[3], 7, 0], np.uint64)
    assert (mistakes(truth, truth).lost, mistakes(truth, truth).wrong) == (0, 0)
    assert (mistakes(truth, answers).lost, mistakes(truth, answers).wrong) == (2, 1)


@pytest.mark.parametrize("length", [600, 8192])
def test_adversarial_lines_are_as_long_as_the_average_line(length):
    assert {len(line) for _, line in adversarial_lines(length)} == {len(average_line(length))} == {length}
    assert len(parse_log(average_line(length)).records) == 1


PROJECT = Path(__file__).parents[1]


@pytest.fixture
def measured(tmp_path, short_folder):
    """measured("ingest.pull", "--lines", 9): the rows of its tables, as texts; what it had in TMPDIR is gone then."""

    def measured(name: str, *options: object) -> list[list[str]]:
        out = tmp_path / "tables.md"
        subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *map(str, options), "--markdown", out],
            cwd=PROJECT,
            env=os.environ | {"TMPDIR": str(short_folder)},
            check=True,
            timeout=600,
        )
        assert list(short_folder.iterdir()) == []
        rows = [line.strip("| ").split(" | ") for line in out.read_text().splitlines() if line.startswith("|")]
        heads = {index for index, row in enumerate(rows) if set(row[-1]) <= {"-", ":"}}
        return [row for index, row in enumerate(rows) if not {index, index + 1} & heads]

    return measured


def number(text: str) -> float:
    return float(text.replace(",", ""))


@pytest.mark.bench
def test_a_pull_is_held_against_a_copy_of_its_rows(measured) -> None:
    pull, copy, ratio, peak = measured("ingest.pull", "--lines", 400, "--keys", 4, "--rounds", 1)
    assert number(ratio[1]) == pytest.approx(number(pull[1]) / number(copy[1]), abs=0.006)
    assert 50 < number(peak[1]) < 2_000


@pytest.mark.bench
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_objects_are_counted_over_http_by_all_sides(measured) -> None:
    rows = measured("ingest.objects", "--keys", 60, "--lines-per-key", 2, "--days", 2, "--rounds", 1)
    assert len(rows) == 8
    rates = {row[0]: number(row[1]) for row in rows}
    assert all(rate > 0 for rate in rates.values())
    process = rows[0]
    assert number(process[4]) == pytest.approx(rates[process[0]] / rates["obstore, 16 threads"], abs=0.02)


@pytest.mark.bench
def test_agents_are_classified_once_each_and_of_each_record(measured) -> None:
    rows = measured("answers.agents", "--records", 7_000, "--hostile", 50, "--rounds", 1)
    distinct, hostile, each = ([number(text) for text in row[1:]] for row in rows)
    assert (distinct[:2], hostile[:2]) == (each[:2], [50, 50])
    assert distinct[1] < distinct[0] / 10


@pytest.mark.bench
def test_memory_is_measured_of_days_and_of_single_keys(measured) -> None:
    rows = measured("ingest.memory", "--megabytes", 0.2, "--key-kilobytes", 20, "--rounds", 1)
    assert [(row[0], row[1]) for row in rows] == [
        ("nothing to load", "0"),
        ("a tenth, ordinary keys", "1"),
        ("ordinary keys", "10"),
        ("a single key", "1"),
        ("a single key, gzipped", "1"),
    ]
    assert all(number(row[5]) > 50 for row in rows)


@pytest.mark.bench
def test_a_tick_is_measured_over_folder_and_http_by_the_ledger_behind(measured) -> None:
    rows = measured("ingest.tick", "--keys", 30, "--ledger", "10,500", "--ticks", 2)
    places = ["HTTP", "HTTP", "file://", "file://"] if NGINX else ["file://", "file://"]
    assert [row[0] for row in rows] == 2 * places
    assert [row[1] for row in rows] == len(places) * ["10", "500"]
    assert all(number(row[-1]) > 0 for row in rows)


@pytest.mark.bench
def test_growth_is_measured_by_lines_keys_and_ledger(measured) -> None:
    rows = measured(
        *("growth", "--lines", "500,1000", "--keys", "1,3", "--lines-in-keys", 1_000),
        *("--ledger", "0,50", "--lines-over-ledger", 500, "--rounds", 1),
    )
    assert [row[0] for row in rows] == ["500", "1,000", "1", "3", "0", "50"]
    assert [row[3] for row in rows if row[0] in ("1,000", "1", "0")] == ["1.00"] * 3


@pytest.mark.bench
def test_connections_are_compared_with_the_first_number_of_them(measured) -> None:
    first, second = measured("ingest.connections", "--lines", 500, "--keys", 5, "--connections", "1,2", "--rounds", 1)
    assert (first[0], first[4], second[0]) == ("1", "1.00", "2")


@pytest.mark.bench
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
def test_questions_are_timed_over_rollups_and_records(measured) -> None:
    rows = measured("answers.views", "--days", 40, "--values", 50, "--records", 3_000, "--rounds", 1)
    assert [row[0] for row in rows[:3]] == ["top files", "files with errors", "`s3_hogs`"]
    assert all(number(cell) >= 0 for row in rows for cell in row[1:])


@pytest.mark.bench
def test_cpu_seconds_are_those_of_the_pull_and_of_postgres(measured) -> None:
    rows = measured("ingest.profile", "--lines", 500, "--keys", 5)
    seconds = {row[0]: number(row[1]) for row in rows[:8]}
    assert seconds["the pull, user"] > 0
    if sys.platform == "linux":
        assert seconds["Postgres, backends (and autovacuum)"] > 0


@pytest.mark.bench
def test_a_run_is_timed_from_its_request_to_its_success(measured) -> None:
    rows = measured("ingest.run", "--rounds", 1, "--interval", 1)
    written, *parts, total = [number(row[1]) for row in rows]
    assert written > 0
    assert sum(parts) == pytest.approx(total, abs=0.1)
    assert sum(row[0].startswith("step ") for row in rows) == 3


@pytest.mark.bench
def test_a_backfill_that_is_cancelled_and_launched_again_loads_each_line_once(measured) -> None:
    """The measurement ends with an error if it does not."""
    rows = {row[0]: row[1] for row in measured("backfill", "--days", 33, "--buckets", 2, "--keys", 1, "--lines", 2)}
    assert int(rows["runs"]) >= 4
    cancelled_with, again = rows["cancelled with"].split()[0], rows["launched again"].split()[0]
    assert int(cancelled_with) + int(again) == 33
    assert float(rows["bookkeeping per day"].removesuffix(" ms")) > 0


@pytest.mark.bench
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
def test_a_start_is_timed_until_the_first_rows_and_its_memory_is_that_of_all_processes(measured) -> None:
    rows = measured("start", "--rounds", 1, "--idle-minutes", 0)
    page, first_rows, *memory = [(row[0], number(row[1])) for row in rows]
    assert 0 < page[1] <= first_rows[1]
    sizes = dict(memory)
    assert sizes.keys() >= {"page", "daemon", "code server", "Postgres", "all"}
    assert sum(sizes.values()) == pytest.approx(2 * sizes["all"], abs=len(sizes))
    assert sizes["all"] > 300


@pytest.mark.bench
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_the_silence_of_a_command_is_measured_on_a_healthy_and_on_a_broken_server(measured) -> None:
    (row,) = measured("first_word", "--command", "stop")
    command, word, end, status, broken_word, broken_end, broken_status = row
    assert (command, status, broken_status) == ("stop", "0", "0")
    assert 0 < number(word) <= number(end) < 60
    assert 0 < number(broken_word) <= number(broken_end) < 60


@pytest.mark.bench
def test_the_processor_time_of_small_commands_is_measured_against_the_imports_they_need(measured) -> None:
    rows = measured("start_up", "--rounds", 1)
    assert [row[0] for row in rows] == [
        "import sqlalchemy, psycopg",
        "import sqlalchemy, psycopg, boto3",
        "--help",
        'sql "SELECT 1"',
        "buckets (folder)",
        "pull, nothing new (folder)",
        "buckets (S3)",
        "pull, nothing new (S3)",
    ]
    assert number(rows[0][2]) == 1.0
    assert all(number(row[1]) > 0 for row in rows)


@pytest.mark.bench
@pytest.mark.skipif(REDIS is None, reason="redis-server is not installed")
def test_a_backfill_is_timed_on_one_worker_and_on_two(measured) -> None:
    options = ("--lines", 2000, "--keys", 20, "--days", 4, "--days-per-run", 2, "--rounds", 1)
    pull, one, two = measured("scaling", *options)
    assert [pull[0], one[0], two[0]] == ["pull, without Dagster", "1 worker", "2 workers"]
    assert number(two[5]) == pytest.approx(number(one[1]) / number(two[1]), abs=0.1)
    assert number(one[5]) == 1
    assert all(number(row[8]) > 0 for row in (pull, one, two))


@pytest.mark.bench
def test_an_interrupt_takes_all_of_a_measurement_away(short_folder) -> None:
    command = [sys.executable, "-m", "benchmarks.ingest.connections", "--lines", "20000", "--keys", "40"]
    process = subprocess.Popen(
        command, cwd=PROJECT, env=os.environ | {"TMPDIR": str(short_folder)}, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(short_folder.glob("*/program.log")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1
    assert list(short_folder.iterdir()) == []
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(short_folder) not in processes


def test_the_peak_of_a_program_is_its_own_and_not_that_of_who_starts_it(tmp_path) -> None:
    """Linux counts it from the starter's on, which is larger here than a program that does nothing."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 > 100
    usage = Stage(tmp_path, EmbeddedPostgres(tmp_path)).run([sys.executable, "-c", "print('something')"])
    assert usage.peak_mib < 50
    assert 0 < usage.user_seconds + usage.system_seconds < 2 * usage.seconds
    assert (tmp_path / "program.log").read_text() == "something\n"


def test_a_program_that_fails_ends_the_measurement_with_what_it_said(tmp_path) -> None:
    with pytest.raises(SystemExit, match=r"(?s)ended with 3. Its output:\nwhy"):
        Stage(tmp_path, EmbeddedPostgres(tmp_path)).run([sys.executable, "-c", "print('why'); exit(3)"])


def test_a_listing_gives_pages_as_s3_does(tmp_path) -> None:
    names = [f"logs/2026-01-0{day}-{number}" for day in (1, 2) for number in range(3)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    os.utime(tmp_path / names[0], (255, 255))
    listing = Listing(tmp_path)

    def page(**query: str):
        found = ET.fromstring(listing.page({name.replace("_", "-"): value for name, value in query.items()}))
        space = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
        keys = [key.text for key in found.iterfind("s3:Contents/s3:Key", space)]
        return keys, found.findtext("s3:NextContinuationToken", None, space)

    assert page() == (names, None)
    assert page(prefix="logs/2026-01-02") == (names[3:], None)
    assert page(prefix="logs/2026-01-01", start_after=names[0]) == (names[1:3], None)
    assert page(max_keys="4") == (names[:4], names[3])
    assert page(max_keys="4", continuation_token=names[3]) == (names[4:], None)
    assert page(prefix="other") == ([], None)
    assert b"<ETag>&quot;ff-5&quot;</ETag><Size>5</Size>" in listing.page({})


@pytest.mark.parametrize("gzipped", [False, True])
def test_repeated_lines_are_as_many_as_was_wanted_in_as_many_keys(tmp_path, gzipped) -> None:
    """More than one stretch of them: some keys hold its end and its beginning again."""
    written = write_repeated(tmp_path, date(2026, 1, 1), lines=50_003, keys=7, gzipped=gzipped)
    bodies = [path.read_bytes() for path in (tmp_path / "logs").iterdir()]
    parsed = [parse_log(gzip.decompress(body) if gzipped else body) for body in bodies]
    assert (len(parsed), written.lines) == (7, 50_003)
    assert sum(len(log.records) for log in parsed) == 50_003
    assert {log.line_count for log in parsed} == {50_003 // 7, 50_003 // 7 + 1}
    assert sum(map(len, bodies)) == written.bytes


def test_phases_of_a_run_add_up_to_all_of_it() -> None:
    kind = dg.DagsterEventType
    events = [
        SimpleNamespace(timestamp=at, dagster_event_type=kind_, step_key=step, message=message)
        for at, kind_, step, message in (
            (101.0, kind.RUN_ENQUEUED, None, ""),
            (101.75, kind.RUN_STARTING, None, ""),
            (103.0, kind.ENGINE_EVENT, None, "Started process for run (pid: 7)."),
            (103.25, kind.ENGINE_EVENT, None, "Executing steps in process"),
            (103.5, kind.RUN_START, None, ""),
            (104.0, kind.STEP_START, "records", ""),
            (105.0, kind.STEP_SUCCESS, "records", ""),
            (105.25, kind.STEP_START, "purge", ""),
            (106.0, kind.STEP_SUCCESS, "purge", ""),
            (106.5, kind.RUN_SUCCESS, None, ""),
        )
    ]
    assert phases(100.0, reversed(events)) == {
        "request to enqueued": 1.0,
        "enqueued to dequeued and launched": 0.75,
        "launched to process started": 1.25,
        "process started to run started": 0.5,
        "run started to first step": 0.5,
        "step records": 1.0,
        "between the steps": 0.25,
        "step purge": 0.75,
        "last step to success": 0.5,
    }


def test_threads_of_a_pool_are_one_in_a_profile() -> None:
    assert parsed_stacks(
        [
            "thread (0x7F1A): logstore_0;run (threading.py);get (store.py) 3",
            "thread (0x7F1B): logstore_11;run (threading.py);get (store.py) 4",
            "thread (41): MainThread;main (cli.py) 2",
            "thread (0x7F1C);work (pipeline.py) 1",
        ]
    ) == {
        ("logstore", "run (threading.py)", "get (store.py)"): 7,
        ("MainThread", "main (cli.py)"): 2,
        ("(unnamed)", "work (pipeline.py)"): 1,
    }


@pytest.mark.bench
def test_an_export_is_held_against_a_copy_of_the_same_columns(measured) -> None:
    rows = measured("export", "--lines", 400, "--keys", 4, "--days", 2, "--rounds", 1)
    assert [row[4] for row in rows if row[0].startswith("psql")] == ["1.00", "1.00"]
    assert [row[0].split()[-1] for row in rows] == ["line", "combined", "columns", "csv", "--formula-safe", "parquet"]
    assert all(number(row[8]) > 0 for row in rows)


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_what_is_killed_recovers_and_no_queued_run_is_lost(measured) -> None:
    rows = measured("recovery", "--runs", 4)
    counts = {row[0]: row[1] for row in rows}
    lost = ("failed", "log keys not loaded", "records more or fewer than lines")
    assert {name: counts[name] for name in lost} == dict.fromkeys(lost, "0")
    assert int(counts["succeeded at their first attempt"]) == 4
