"""Stored records that the present rules would not load: found by the fields' patterns, reported, not changed."""

import json
import random
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from benchmarks.queries import blocks_of, fill_month
from tamarin_dagster.logformat import parse_logs
from tamarin_dagster.pipeline import recheck as rechecking
from tamarin_dagster.pipeline.recheck import ConcernedKey, StoredValue, recheck_records
from tamarin_dagster.recordstore.partitions import partition_name
from tamarin_dagster.recordstore.schema.tables import s3_log_record
from tamarin_dagster.recordstore.shapes import CHECKED_FIELDS, violates_shape
from tamarin_dagster_tests.contents import digests
from tamarin_dagster_tests.docs.blocks import blocks_of as blocks_of_page
from tamarin_dagster_tests.lines import HOST_ID, OWNER, line, lines
from tamarin_dagster_tests.recordstore.log_keys import DAY, load_keys, log_key

TAIL = f"- {HOST_ID} - TLS_AES_128_GCM_SHA256 - media.s3.amazonaws.com TLSv1.3 - - us-east-1"
# Values that an earlier version stored in the column, or could have stored.
WRONG = {
    "bucket_owner": ["PK\x03\x04\x14", "\ufeff" + OWNER, "a\\x00b", "a b", "", 'a"b'],
    "version_id": ["TLSv1.3", "SigV4", "QueryString", "arn:aws:s3:::x", "a.b", "Yes", "é", "ECDHE-RSA-AES128-SHA"],
    "host_id": ["AuthHeader", "a b", "TLSv1.", '"x"', ""],
    "signature_version": ["SigV", "words", "sigv4", HOST_ID],
    "cipher_suite": ["TLSv1.3", "words", "ECDHE-RSA-", "192.0.2.1:9021"],
    "authentication_type": ["Yes", "Auth Header", "AuthHeader2", "TLSv1.2"],
    "host_header": ["SigV4", "a/b", '"media.s3.amazonaws.com"', "TLSv1.3", "AuthHeader", "[::1"],
    "tls_version": ["TLSv1.", "TLS", "Yes", "media.s3.amazonaws.com"],
    "access_point_arn": ["Yes", "us-east-1", "arn:", "arn:aws:s3:::a b"],
    "acl_required": ["Ye", "No", "yes", "us-east-1"],
    "source_region": ["us-east", "us-eas", "US-EAST-1", "us-east-1\ufeff", "us-east-1\rPK"],
}
# Lines of every shape that S3 and other stores are known to write: each is a record.
ODD_TAILS = {
    "none": "",
    "of 2006, a version": "-",
    "of 2018, to the host id": f"3HL4kqtJvjVBH40Nrjfkd {HOST_ID}",
    "to the cipher": f"- {HOST_ID} SigV4 ECDHE-RSA-AES128-GCM-SHA256",
    "to the host": f"- {HOST_ID} SigV2 ECDHE-RSA-AES128-GCM-SHA256 AuthHeader media.s3.amazonaws.com",
    "to the TLS version": f"- {HOST_ID} SigV4 - QueryString media.s3.amazonaws.com:443 TLSV1.2",
    "with an ARN": f"- {HOST_ID} SigV4 - AuthHeader x TLSv1.2 arn:aws:s3:us-west-1:1:accesspoint/x Yes us-gov-east-1",
    "with extra fields": f"{TAIL} - any other fields",
    "with ~ at the end": f"{TAIL} ~",
    "with quoted extra fields": f'{TAIL} "a b" "c"',
    "of March 2019": f"- AIDAEXAMPLEEXAMPLE123 {HOST_ID} SigV4 - AuthHeader media.s3.amazonaws.com TLSv1.2",
    "of March 2019, with -": f"- - {HOST_ID} SigV4 - AuthHeader media.s3.amazonaws.com TLSv1.2",
    "of Dell OneFS": '- 192.0.2.20 SigV4 - AuthHeader "192.168.1.20:9021" TLSv1.3 - Yes',
    "of a copy, with ~ as version": f"~ {HOST_ID} - - - - - - - -",
    "with a version of another store": f"null {HOST_ID} SigV4 - AuthHeader [2001:db8::1]:9000 -",
    "with a dotted version": f"yn5YAJiwT36Rv78jGYLM71GZumWL.QWn {HOST_ID} - - - -",
    "with the source of a copy": f"x-amz-copy-source:/bucket/key?versionId=1 {HOST_ID} - - - -",
    "with dashes alone": "- - - - - - - - - -",
    "with a host id of capitals": "- ABCDEFGH-IJKLMNOP - - - -",
}


def odd_lines() -> bytes:
    """Return a line of each odd shape, and of odd owners and hosts."""
    head = line().partition(b" - " + HOST_ID.encode())[0].decode()
    whole = [f"{head} {tail}".rstrip(" ") for tail in ODD_TAILS.values()]
    owners = [whole[0].replace(OWNER, owner) for owner in ("-", "anna", "tenant$anna", "-[x]~")]
    mapped = [whole[0].replace("192.0.2.3", "::ffff:192.0.2.3")]
    return "\n".join([*whole, *owners, *mapped, ""]).encode()


def spoil(rows: Any, key: str, number: int, **columns: str) -> None:
    """Store these values in a record, as an earlier version did."""
    for column, value in columns.items():
        rows(
            f"UPDATE s3_log_record SET {column} = :value WHERE line_number = :number AND log_key_id ="
            " (SELECT id FROM s3_log_key WHERE key = :key AND superseded_at IS NULL)",
            value=value,
            number=number,
            key=key,
        )


def counts(done: rechecking.Rechecked) -> dict[str, int]:
    return {column.column: column.records for column in done.columns}


def test_the_checked_columns_are_the_owner_and_the_tail():
    assert [field.name for field in CHECKED_FIELDS] == list(WRONG)


@pytest.mark.parametrize("column", WRONG)
def test_a_record_that_violates_the_shape_of_a_column_is_found(engine, rows, column):
    load_keys(engine, [log_key("a")], [lines(len(WRONG[column]) + 1)])
    for number, value in enumerate(WRONG[column], 1):
        spoil(rows, "a", number, **{column: value})

    done = recheck_records(engine)

    ((id_,),) = rows("SELECT id FROM s3_log_key")
    assert counts(done) == {column: len(WRONG[column])}
    assert done.records == len(WRONG[column])
    assert done.keys == [ConcernedKey(id_, "media", "a", is_purged=False, records=len(WRONG[column]))]
    assert (done.key_count, done.has_more_keys) == (1, False)


def test_no_line_of_a_documented_or_public_shape_is_found(engine, rows):
    """Short tails, extra fields, March 2019, quoted hosts, versions of all kinds, and owners of other stores."""
    load_keys(engine, [log_key("a"), log_key("b")], [odd_lines(), b"x\n" + line() + line(remote_ip="192.0.2.xx")])
    assert rows("SELECT sum(record_count), sum(rejected_count) FROM s3_log_key") == [(len(ODD_TAILS) + 6, 2)]

    done = recheck_records(engine)

    assert (done.records, done.columns, done.keys, done.key_count) == (0, [], [], 0)


def test_postgres_reads_each_pattern_as_python_does(engine, rows):
    """Compared on texts that are right for one column and wrong for others, their parts, and each ASCII character."""
    draws = random.Random(20261128)
    right = {word.strip('"') for tail in ODD_TAILS.values() for word in tail.split(" ")} - {""}
    wrong = {text for texts in WRONG.values() for text in texts}
    texts = {*right, *wrong, *map(chr, range(1, 128)), "\n", "a\n", "TLSv1.3\n", "٣", "TLSv1.٣", "\uff41", "\u2028"}
    for _ in range(1_500):
        one, other = draws.choice(sorted(right | wrong)), draws.choice(sorted(right | wrong))
        texts.add(one[: draws.randrange(len(one) + 1)] + other[draws.randrange(len(other) + 1) :])
    chosen = sorted(texts)
    moment = datetime(2026, 3, 5, 12, tzinfo=UTC)
    load_keys(engine, [log_key("a")], [line()])
    rows("DELETE FROM s3_log_record")
    with engine.begin() as connection:
        connection.execute(
            sa.insert(s3_log_record),
            [
                {"log_key_id": 1, "line_number": number, "request_dtime": moment}
                | {field.name: text for field in CHECKED_FIELDS}
                for number, text in enumerate(chosen)
            ],
        )
        conditions = [violates_shape(field, s3_log_record.c[field.name]).label(field.name) for field in CHECKED_FIELDS]
        found = connection.execute(sa.select(s3_log_record.c.line_number, *conditions)).mappings().all()
    assert len(found) == len(chosen) > 1_000
    for row in found:
        text = chosen[row["line_number"]]
        for field in CHECKED_FIELDS:
            is_right = bool(re.fullmatch(field.pattern, text))
            is_excluded = bool(field.excludes and re.fullmatch(field.excludes, text, re.DOTALL))
            assert row[field.name] == (not is_right or is_excluded), (field.name, text)


def test_a_column_without_a_value_is_legal(engine, rows):
    load_keys(engine, [log_key("a")], [line()])
    rows("UPDATE s3_log_record SET " + ", ".join(f"{field.name} = NULL" for field in CHECKED_FIELDS))
    assert recheck_records(engine).records == 0


def test_a_record_may_violate_several_columns_and_counts_once(engine, rows):
    load_keys(engine, [log_key("a"), log_key("b")], [lines(3), lines(2)])
    spoil(rows, "a", 2, version_id="TLSv1.3", host_id="Yes", acl_required="Ye")
    spoil(rows, "b", 1, acl_required="Ye")

    done = recheck_records(engine)

    assert (done.records, counts(done)) == (2, {"version_id": 1, "host_id": 1, "acl_required": 2})
    assert [(key.key, key.records) for key in done.keys] == [("a", 1), ("b", 1)]


def test_days_and_the_bucket_that_loaded_the_log_key_are_kept_to(engine, rows):
    """By the day of the request and by the ledger, whatever bucket the line names and whenever it was delivered."""
    days = [DAY + timedelta(days=number) for number in range(3)]
    for number, day in enumerate(days):
        time = f"{day:%d/%b/%Y}:23:59:59 +0000"
        load_keys(engine, [log_key(f"m{number}", day=DAY)], [lines(1, time)])
        load_keys(engine, [log_key(f"f{number}", day=DAY)], [lines(1, time)], bucket="films")
    rows("UPDATE s3_log_record SET acl_required = 'Ye'")

    def found(**asked: Any) -> set[str | None]:
        done = recheck_records(engine, **asked)
        assert done.records == done.key_count == len(done.keys)
        return {key.key for key in done.keys}

    assert found() == {f"{bucket}{number}" for bucket in "mf" for number in range(3)}
    assert found(bucket="films") == {"f0", "f1", "f2"}
    assert found(first=days[1]) == {"m1", "f1", "m2", "f2"}
    assert found(last=days[1], bucket="media") == {"m0", "m1"}
    assert found(first=days[1], last=days[1]) == {"m1", "f1"}
    assert found(first=date(2030, 1, 1)) == set()
    assert found(bucket="nobody") == set()


def test_a_record_whose_log_key_the_ledger_lacks_is_found_too(engine, rows):
    load_keys(engine, [log_key("a")], [line()])
    spoil(rows, "a", 1, acl_required="Ye")
    ((id_,),) = rows("SELECT id FROM s3_log_key")
    rows("DELETE FROM s3_log_key")

    done = recheck_records(engine)

    assert done.keys == [ConcernedKey(id_, None, None, is_purged=False, records=1)]
    assert recheck_records(engine, bucket="media").records == 0


def test_a_value_is_shown_escaped_cut_and_without_secrets(engine, rows):
    values = {
        "host_header": "/x?X-Amz-Signature=5ec2e7&a=1",
        "host_id": "X-Amz-Security-Token=5ec2e7&a=1\x1b]0;x\x07",
        "version_id": "\u202egpj.exe\u2066\u200f",
        "source_region": "é/" * 50,
        "access_point_arn": "&Signature=" + "5ec2e7" * 9_000,
        "bucket_owner": "\ufeffa\r\u2028\u0085b",
    }
    load_keys(engine, [log_key("a")], [line()])
    spoil(rows, "a", 1, **values)

    shown = {column.column: [each.value for each in column.samples] for column in recheck_records(engine).columns}

    assert shown == {
        "bucket_owner": ["\\ufeffa\\r\\u2028\\x85b"],
        "version_id": ["\\u202egpj.exe\\u2066\\u200f"],
        "host_id": ["X-Amz-Security-Token=REDACTED&a=1\\x1b]0;x\\x07"],
        "host_header": ["/x?X-Amz-Signature=REDACTED&a=1"],
        "access_point_arn": ["&Signature=REDACTED…"],
        "source_region": ["é/" * 40 + "…"],
    }


def test_some_different_values_of_a_column_are_shown_with_their_places(engine, rows):
    days = [DAY, DAY + timedelta(days=1)]
    times = [f"{day:%d/%b/%Y}:10:00:00 +0000" for day in days]
    load_keys(engine, [log_key("a"), log_key("b")], [lines(2, times[0]), lines(2, times[0])])
    load_keys(engine, [log_key("c"), log_key("d"), log_key("e")], [lines(1, times[1])] * 3)
    for key in "abcde":
        spoil(rows, key, 1, acl_required={"a": "Ye", "b": "Ye", "c": "No", "d": "Y", "e": "N"}[key])
    ids = dict(rows("SELECT key, id FROM s3_log_key"))

    (column,) = recheck_records(engine).columns

    assert column.records == 5
    assert column.samples == [
        StoredValue("Ye", "a", ids["a"], 1),
        *(StoredValue(v, k, ids[k], 1) for v, k in (("No", "c"), ("Y", "d"))),
    ]


def test_of_many_log_keys_some_are_named_and_all_are_counted(engine, rows, monkeypatch):
    names = [f"{number:02}" for number in range(30)]
    load_keys(engine, [log_key(name) for name in names], [lines(2)] * 30)
    next_day = f"{DAY + timedelta(days=1):%d/%b/%Y}:10:00:00 +0000"
    load_keys(engine, [log_key("more")], [lines(1) + lines(1, next_day)])
    rows("UPDATE s3_log_record SET acl_required = 'Ye'")

    done = recheck_records(engine)

    assert (done.records, done.key_count, done.has_more_keys) == (62, 31, False)
    assert [(key.key, key.records) for key in done.keys] == [(name, 2) for name in names[:20]]
    monkeypatch.setattr(rechecking, "COUNTED_KEYS", 25)
    done = recheck_records(engine)
    assert (done.records, done.key_count, done.has_more_keys) == (62, 25, True)
    assert len(done.keys) == 20


def test_a_log_key_of_two_days_is_one_key(engine, rows):
    times = [f"{DAY + timedelta(days=number):%d/%b/%Y}:10:00:00 +0000" for number in range(2)]
    load_keys(engine, [log_key("a")], [lines(1, times[0]) + lines(2, times[1])])
    rows("UPDATE s3_log_record SET acl_required = 'Ye'")

    done = recheck_records(engine)

    assert (done.records, done.key_count, [key.records for key in done.keys]) == (3, 1, [3])


def test_each_day_is_read_in_a_read_only_transaction_of_its_own(engine, rows):
    load_keys(engine, [log_key("a")], [lines(3)])
    spoil(rows, "a", 2, version_id="TLSv1.3")
    with engine.connect() as connection:
        before = digests(connection, ())
    transactions: list[set[bool]] = []

    @sa.event.listens_for(engine, "begin")
    def begun(_connection):
        transactions.append(set())

    @sa.event.listens_for(engine, "before_cursor_execute")
    def executed(connection, _cursor, _statement, _parameters, _context, _executemany):
        transactions[-1].add(bool(connection.connection.dbapi_connection.read_only))

    seen: list[tuple[int, int, int]] = []
    done = recheck_records(engine, progress=lambda d, day: seen.append((d.days, d.day_count, day.day.day)))

    assert done.records == 1
    assert seen == [(number, 31, number) for number in range(1, 32)], "March has 31 days"
    assert transactions == [{True}] * 32, "one for the days, and one for each"
    with engine.begin() as connection:
        assert digests(connection, ()) == before
        assert connection.scalar(sa.text("SHOW transaction_read_only")) == "off", "a pooled connection may write again"


def test_a_day_is_asked_for_in_its_partition_and_few_of_its_blocks(engine, rows):
    months = [date(2026, month, 1) for month in (2, 3, 4)]
    for month in months:
        fill_month(engine, month, 20_000)
    asked: list[tuple[str, Any]] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def remember(_connection, _cursor, statement, parameters, _context, _executemany):
        if "FROM s3_log_record" in statement:
            asked.append((statement, parameters))

    assert recheck_records(engine, first=date(2026, 3, 14), last=date(2026, 3, 14)).records == 0

    assert len(asked) == 2, "the different values, then the records"
    with engine.connect() as connection:
        month = blocks_of(connection, partition_name(months[1]))
        for statement, parameters in tuple(asked):
            explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
            (answer,) = connection.exec_driver_sql(explained, parameters).scalar_one()
            assert set(re.findall(r"s3_log_record_\d{4}_\d\d(?=')", str(answer))) == {partition_name(months[1])}
            assert 0 < answer["Plan"]["Shared Hit Blocks"] + answer["Plan"]["Shared Read Blocks"] < month / 8


def test_recheck_says_that_nothing_is_wrong(run, configured, put_key):
    put_key(lines(3))
    run("pull")

    done = run("recheck")

    assert done.returncode == 0, done.stderr
    assert "31 days of requests (2026-03-01 to 2026-03-31): 0 records would not be loaded today;" in done.stderr
    assert done.stdout == ""


def test_recheck_shows_columns_values_and_log_keys_and_gives_status_1(run, configured, put_key, rows):
    purged, kept = put_key(lines(3)), put_key(lines(2) + b"no record\n")
    run("pull")
    spoil(rows, purged, 2, version_id="TLSv1.3")
    spoil(rows, kept, 1, version_id="TLSv1.3", host_header="[red]\u202e")

    done = run("recheck", "--bucket", "media", "--from", "2026-03-05", "--to", "2026-03-05")

    assert done.returncode == 1
    assert "1 day of requests (2026-03-05): 2 records of 2 log keys would not be loaded today;" in done.stderr
    assert "docs/reference/lines.md" in done.stderr
    shown = [[cell.strip() for cell in row.split("│")[1:-1]] for row in done.stdout.splitlines() if row.startswith("│")]
    ids = dict(rows("SELECT key, id FROM s3_log_key"))
    assert shown == [
        ["version_id", "2", "TLSv1.3", purged, "2"],
        ["host_header", "1", "[red]\\u202e", kept, "1"],
        ["media", purged, str(ids[purged]), "1", "purged"],
        ["media", kept, str(ids[kept]), "1", "still there"],
    ]


def test_recheck_tells_a_script_what_it_found(run, configured, put_key, rows):
    key = put_key(lines(3))
    run("pull", "--no-purge")
    spoil(rows, key, 2, acl_required="Ye\u202e")

    done = run("recheck", "--json")

    assert done.returncode == 1
    found = json.loads(done.stdout)
    ((id_,),) = rows("SELECT id FROM s3_log_key")
    assert found.pop("seconds") > 0
    assert found == {
        "first_day": "2026-03-01",
        "last_day": "2026-03-31",
        "days": 31,
        "records": 1,
        "columns": [
            {
                "column": "acl_required",
                "records": 1,
                "samples": [{"value": "Ye\\u202e", "log_key": key, "log_key_id": id_, "line_number": 2}],
            }
        ],
        "keys": [{"id": id_, "bucket": "media", "key": key, "is_purged": False, "records": 1}],
        "key_count": 1,
        "has_more_keys": False,
    }


def test_more_log_keys_than_are_named_are_counted(run, configured, put_key, rows):
    for _ in range(22):
        put_key(lines(1))
    run("pull")
    rows("UPDATE s3_log_record SET acl_required = 'Ye'")

    done = run("recheck")

    assert done.returncode == 1
    assert "22 records of 22 log keys" in done.stderr
    assert "and 2 more log keys" in done.stderr


def test_recheck_of_a_bucket_that_is_not_known_is_a_mistake_and_of_one_without_log_keys_says_so(run, configured):
    unknown, empty = run("recheck", "--bucket", "flims"), run("recheck", "--bucket", "media")

    assert (unknown.returncode, empty.returncode) == (2, 0)
    assert "flims" in unknown.stderr
    assert "bucket media: no log key was ever loaded for it, so there is nothing to recheck" in empty.stderr
    assert "0 days of requests: 0 records would not be loaded today;" in empty.stderr


def test_a_log_key_that_is_still_there_is_loaded_again_as_the_page_says(
    run,
    configured,
    put_key,
    rows,
    log_folder,
):
    """Then its bad line is a rejected line, its other lines are records, and its days are rolled up again."""
    wrong = line(request_id="BAD").replace(f"- {HOST_ID}".encode(), b"TLSv1.3 words words")
    assert parse_logs([wrong]).rejected["reason"].tolist() == ["bad_tail"]
    key, other = put_key(lines(2) + line(request_id="BAD")), put_key(lines(4))
    run("pull", "--no-purge")
    (log_folder / key).write_bytes(lines(2) + wrong)  # as it has been all along
    spoil(rows, key, 3, version_id="TLSv1.3", host_id="words")
    ((id_,),) = rows("SELECT id FROM s3_log_key WHERE key = :key", key=key)
    assert run("recheck").returncode == 1

    texts = [each.text for each in blocks_of_page("docs/reference/lines.md")]
    (block,) = (each for each in texts if "DELETE FROM s3_log_key" in each)
    done = run("sql", block.replace("17", str(id_)))
    assert done.returncode == 0, done.stderr
    assert rows("SELECT key FROM s3_log_key") == [(other,)]
    assert rows("SELECT count(*) FROM s3_log_record") == [(4,)]
    assert rows("SELECT bucket, request_date FROM traffic_pending_day") == [("media", DAY)]
    pulled = run("pull", "--from", "2026-03-05", "--to", "2026-03-05")

    assert pulled.returncode == 0, pulled.stderr
    assert rows("SELECT record_count, rejected_count FROM s3_log_key WHERE key = :key", key=key) == [(2, 1)]
    assert rows("SELECT line_number, reason, line FROM s3_rejected_line") == [(3, "bad_tail", wrong.rstrip(b"\n"))]
    assert rows("SELECT sum(requests) FROM traffic_daily_by_key") == [(6,)]
    assert run("recheck").returncode == 0
    assert [path.name for path in Path(log_folder, "logs").iterdir()] == [key.rpartition("/")[2]], "it stays"
