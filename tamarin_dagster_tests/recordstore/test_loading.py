"""A batch of keys becomes rows and ledger: all of it or nothing, once, byte for byte."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from ipaddress import ip_address

import psycopg
import pytest
import sqlalchemy as sa

from tamarin_dagster.logformat import FIELD_NAMES, parse_logs
from tamarin_dagster.logformat.frames import list_months
from tamarin_dagster.recordstore import ledger, loading
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.loading import load
from tamarin_dagster.recordstore.schema.tables import RECORD_COLUMNS
from tamarin_dagster.settings import Settings
from tamarin_dagster_tests.lines import HOST_ID, OWNER, line, lines
from tamarin_dagster_tests.logformat.found import records_of
from tamarin_dagster_tests.recordstore.log_keys import load_keys, log_key, prepared

JUNK = b"no log line at all\n"
COUNTS = (
    "SELECT (SELECT count(*) FROM s3_log_key), (SELECT count(*) FROM s3_log_record),"
    " (SELECT count(*) FROM s3_rejected_line)"
)


def written(user_agent: bytes = b"curl/8.5.0", referrer: bytes = b"-", key: bytes = b"k", uri: bytes = b"/k") -> bytes:
    """Return a line with any bytes in its free texts."""
    return (
        (OWNER.encode() + b" media [05/Mar/2026:09:58:01 +0000] 192.0.2.3 - 0123456789ABCDEF REST.GET.OBJECT " + key)
        + (
            b' "GET '
            + uri
            + b' HTTP/1.1" 200 - 1 1 7 6 "'
            + referrer
            + b'" "'
            + user_agent
            + b'" - '
            + HOST_ID.encode()
        )
        + b" - TLS_AES_128_GCM_SHA256 - media.s3.amazonaws.com TLSv1.3 - - us-east-1\n"
    )


def test_keys_of_a_batch_become_ledger_rows_records_and_rejected_lines(engine, rows):
    keys = [log_key("logs/a", version="v1"), log_key("logs/b", "b"), log_key("logs/c", "c", day=date(2026, 3, 6))]
    bodies = [lines(3), lines(1, "06/Mar/2026:01:00:00 +0000") + JUNK + b"\n \n" + lines(1), b""]
    loaded = load_keys(engine, keys, bodies, run_id="run-1")
    assert [key for key, _ in loaded.loaded] == keys
    assert (loaded.already_loaded, loaded.superseded) == ((), 0)
    assert rows(
        "SELECT bucket, log_bucket_name, key, etag, version_id, size, delivery_date, line_count, record_count,"
        " rejected_count, blank_count, first_request_dtime, last_request_dtime, run_id, purged_at, purge_error,"
        " superseded_at, last_modified, loaded_at > now() - interval '1 minute' FROM s3_log_key ORDER BY key"
    ) == [
        (
            *("media", "logs", key.object.key, key.object.etag, version, 100, key.delivery_date),
            *(*counts, first, last, "run-1", None, None, None, key.object.last_modified, True),
        )
        for key, version, counts, first, last in [
            (keys[0], "v1", (3, 3, 0, 0), *[datetime(2026, 3, 5, 9, 58, 1, tzinfo=UTC)] * 2),
            (
                keys[1],
                None,
                (5, 2, 1, 2),
                datetime(2026, 3, 5, 9, 58, 1, tzinfo=UTC),
                datetime(2026, 3, 6, 1, tzinfo=UTC),
            ),
            (keys[2], None, (0, 0, 0, 0), None, None),
        ]
    ]
    assert rows(
        "SELECT k.key, line_number, request_id FROM s3_log_record r JOIN s3_log_key k ON k.id = log_key_id"
        " ORDER BY 1, 2"
    ) == [("logs/a", number + 1, f"{number:016X}") for number in range(3)] + [
        ("logs/b", 1, f"{0:016X}"),
        ("logs/b", 5, f"{0:016X}"),
    ]
    assert rows("SELECT key, line_number, reason, line FROM s3_rejected_line JOIN s3_log_key ON id = log_key_id") == [
        ("logs/b", 2, "not_a_record", JUNK.strip())
    ]
    assert rows("SELECT tableoid::regclass::text, count(*) FROM s3_log_record GROUP BY 1") == [
        ("s3_log_record_2026_03", 5)
    ]


def test_a_batch_without_records_loads_too(engine, rows):
    load_keys(engine, [log_key("logs/a"), log_key("logs/b")], [b"", JUNK * 2 + b"\n"])
    assert rows(COUNTS) == [(2, 0, 2)]


def refuse_records(monkeypatch):
    render = loading.render
    monkeypatch.setattr(loading, "render", lambda records, ids: (*render(records, ids), b"no record"))


def refuse_rejected(monkeypatch):
    copy = loading._copy_rejected

    def twice(cursor, batch, lines):
        copy(cursor, batch, lines)
        copy(cursor, batch, lines)

    monkeypatch.setattr(loading, "_copy_rejected", twice)


def refuse_partition(monkeypatch):
    monkeypatch.setattr(loading, "ensure_partitions", lambda *_: None)


@pytest.mark.parametrize("refuse", [refuse_records, refuse_rejected, refuse_partition])
def test_of_a_refused_batch_nothing_is_loaded(engine, rows, monkeypatch, refuse):
    """Each refusal comes after other tables were written."""
    keys, bodies = [log_key("logs/a"), log_key("logs/b")], [lines(50), lines(3) + JUNK]
    with monkeypatch.context() as patch:
        refuse(patch)
        with pytest.raises(psycopg.Error):
            load_keys(engine, keys, bodies)
    assert rows(COUNTS) == [(0, 0, 0)]
    assert len(load_keys(engine, keys, bodies).loaded) == 2
    assert rows(COUNTS) == [(2, 53, 1)]


def test_of_a_batch_whose_connection_is_cut_nothing_is_loaded(engine, rows, monkeypatch):
    def cut(cursor, batch, lines):
        rows("SELECT pg_terminate_backend(:pid)", pid=cursor.connection.info.backend_pid)
        cursor.execute("SELECT 1")

    keys, bodies = [log_key("logs/a")], [lines(5) + JUNK]
    with monkeypatch.context() as patch:
        patch.setattr(loading, "_copy_rejected", cut)
        with pytest.raises((psycopg.OperationalError, sa.exc.OperationalError)):
            load_keys(engine, keys, bodies)
    assert rows(COUNTS) == [(0, 0, 0)]
    load_keys(engine, keys, bodies)
    assert rows(COUNTS) == [(1, 5, 1)]


def test_a_refused_batch_leaves_the_older_generation_in_place(engine, rows, contents, monkeypatch):
    load_keys(engine, [log_key("logs/a", "a")], [lines(5) + JUNK])
    before = contents()
    with monkeypatch.context() as patch:
        refuse_records(patch)
        with pytest.raises(psycopg.Error):
            load_keys(engine, [log_key("logs/a", "b", minutes=1)], [lines(7)])
    assert contents() == before


def test_the_same_batch_twice_loads_once(engine, rows, contents):
    keys, bodies = [log_key("logs/a"), log_key("logs/b")], [lines(3), lines(2) + JUNK]
    batch = prepared(engine, "media", "logs", keys, bodies)
    assert len(load(engine, batch).loaded) == 2
    before = contents()
    for again in (
        batch,
        prepared(engine, "media", "logs", keys, bodies),
        prepared(engine, "films", "logs", keys, bodies),
    ):
        loaded = load(engine, again)
        assert (loaded.loaded, loaded.already_loaded, loaded.superseded) == ((), tuple(keys), 0)
    assert contents() == before
    assert rows(COUNTS) == [(2, 5, 1)]


def test_of_a_batch_that_is_loaded_in_part_the_rest_is_loaded(engine, rows):
    keys = [log_key(f"logs/{name}") for name in "abc"]
    bodies = [lines(1) + JUNK, lines(2) + JUNK * 2, lines(4) + JUNK * 4]
    load_keys(engine, keys[1:2], bodies[1:2])
    loaded = load_keys(engine, keys, bodies)
    assert [key for key, _ in loaded.loaded] == [keys[0], keys[2]]
    assert [counts.record_count for _, counts in loaded.loaded] == [1, 4]
    assert loaded.already_loaded == (keys[1],)
    assert rows(COUNTS) == [(3, 7, 7)]
    with engine.connect() as connection:
        assert ledger.count_differences(connection, [row[0] for row in rows("SELECT id FROM s3_log_key")]) == []


def test_the_same_key_in_two_log_buckets_is_two_keys(engine, rows):
    load_keys(engine, [log_key("logs/a")], [lines(2)], log_bucket_name="one")
    assert len(load_keys(engine, [log_key("logs/a")], [lines(2)], log_bucket_name="two").loaded) == 1
    assert rows(COUNTS) == [(2, 4, 0)]


def test_two_loads_of_the_same_keys_at_once_load_once(engine, rows):
    """Batches that overlap in several days, in opposite orders, neither load twice nor wait forever."""
    for number in range(8):
        keys = [log_key(f"{number}/{day}/{i}", day=date(2026, 3, day)) for day in (5, 6, 7) for i in range(4)]
        bodies = [lines(i + 1) + JUNK for i in range(len(keys))]
        batches = [
            prepared(engine, "media", "logs", keys, bodies),
            prepared(engine, "films", "logs", keys[::-1], bodies[::-1]),
            prepared(engine, "media", "logs", keys[6:], bodies[6:]),
        ]
        barrier = threading.Barrier(len(batches))

        def work(batch, barrier=barrier):
            barrier.wait()
            return load(engine, batch)

        with ThreadPoolExecutor(len(batches)) as pool:
            done = list(pool.map(work, batches))
        assert sorted(key.object.key for loaded in done for key, _ in loaded.loaded) == sorted(
            k.object.key for k in keys
        )
        assert rows(COUNTS) == [(12 * (number + 1), 78 * (number + 1), 12 * (number + 1))]


def test_two_generations_at_once_leave_the_newer_one_alone(engine, rows):
    for number in range(10):
        name = f"logs/{number}"
        old = prepared(engine, "media", "logs", [log_key(name, "old")], [lines(3) + JUNK])
        new = prepared(engine, "media", "logs", [log_key(name, "new", minutes=1)], [lines(5)])
        barrier = threading.Barrier(2)

        def work(batch, barrier=barrier):
            barrier.wait()
            return load(engine, batch)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, [old, new] if number % 2 else [new, old]))
        live = "SELECT etag, record_count FROM s3_log_key WHERE key = :name AND superseded_at IS NULL"
        assert rows(live, name=name) == [("new", 5)]
    assert rows(COUNTS)[0][1:] == (50, 0)


LEDGER = (
    "SELECT etag, line_count, record_count, rejected_count, blank_count, superseded_at IS NULL, purged_at IS NOT NULL"
    " FROM s3_log_key ORDER BY etag"
)


def test_a_new_generation_takes_the_place_of_the_old_one(engine, rows):
    old = lines(3) + JUNK + b"\n" + lines(2, "01/Jan/2026:00:00:00 +0000")
    load_keys(engine, [log_key("logs/a", "a"), log_key("logs/b", "b")], [old, lines(1)])
    loaded = load_keys(engine, [log_key("logs/a", "c", minutes=1)], [lines(7) + JUNK * 2])
    assert (len(loaded.loaded), loaded.superseded) == (1, 1)
    assert rows(LEDGER) == [
        ("a", 0, 0, 0, 0, False, False),
        ("b", 1, 1, 0, 0, True, False),
        ("c", 9, 7, 2, 0, True, False),
    ]
    assert rows(COUNTS) == [(3, 8, 2)]
    with engine.connect() as connection:
        assert ledger.count_differences(connection, [row[0] for row in rows("SELECT id FROM s3_log_key")]) == []


def test_a_generation_that_comes_back_is_loaded_again(engine, rows):
    body = {"a": lines(3) + JUNK, "b": lines(5)}
    for minutes, etag in enumerate("ababba"):
        load_keys(engine, [log_key("logs/a", etag, minutes=minutes)], [body[etag]], run_id=f"run-{minutes}")
        other = "b" if etag == "a" else "a"
        assert [row[:1] + row[5:6] for row in rows(LEDGER) if row[0] == etag] == [(etag, True)]
        assert not [row for row in rows(LEDGER) if row[0] == other and (row[5] or row[1])]
        assert rows(COUNTS)[0][1:] == ((3, 1) if etag == "a" else (5, 0))
        with engine.connect() as connection:
            assert ledger.count_differences(connection, [row[0] for row in rows("SELECT id FROM s3_log_key")]) == []
    assert rows("SELECT etag, run_id, last_modified FROM s3_log_key WHERE superseded_at IS NULL") == [
        ("a", "run-5", datetime(2026, 3, 5, 10, 5, tzinfo=UTC))
    ]


def test_a_generation_that_comes_back_has_no_old_purge_error_and_is_not_expired(engine, rows):
    load_keys(engine, [log_key("logs/a", "a")], [lines(3)])
    rows("UPDATE s3_log_key SET expired_at = now(), archived_at = now()")
    with engine.begin() as connection:
        ledger.note_purge_errors(connection, dict.fromkeys([row[0] for row in rows("SELECT id FROM s3_log_key")], "no"))
    load_keys(engine, [log_key("logs/a", "b", minutes=1)], [lines(5)])
    load_keys(engine, [log_key("logs/a", "a", minutes=2)], [lines(3)])
    ((*cleared,),) = rows("SELECT purge_error, expired_at, archived_at FROM s3_log_key WHERE superseded_at IS NULL")
    assert cleared == [None, None, None]


def test_an_older_generation_that_arrives_late_is_not_taken(engine, rows, contents):
    """A run that listed before the overwrite, and loads after a run that listed later."""
    load_keys(engine, [log_key("logs/a", "new", minutes=5)], [lines(5) + JUNK])
    before = contents()
    late = [log_key("logs/a", "old"), log_key("logs/b", "b")]
    loaded = load_keys(engine, late, [lines(3), lines(1)])
    assert [key for key, _ in loaded.loaded] == late[1:]
    assert (loaded.already_loaded, loaded.superseded) == ((late[0],), 0)
    rows("DELETE FROM s3_log_record WHERE log_key_id = (SELECT id FROM s3_log_key WHERE key = 'logs/b')")
    rows("DELETE FROM s3_log_key WHERE key = 'logs/b'")
    assert contents() == before


def test_a_purged_generation_keeps_its_rows(engine, rows):
    """Its object is gone. What has the name now is another object with other lines."""
    load_keys(engine, [log_key("logs/a", "a")], [lines(3)])
    with engine.begin() as connection:
        ledger.mark_purged(connection, [row[0] for row in rows("SELECT id FROM s3_log_key")])
    loaded = load_keys(engine, [log_key("logs/a", "b", minutes=1)], [lines(5)])
    assert loaded.superseded == 0
    assert rows(LEDGER) == [("a", 3, 3, 0, 0, True, True), ("b", 5, 5, 0, 0, True, False)]
    assert rows(COUNTS) == [(2, 8, 0)]


def test_a_purged_generation_is_never_loaded_again(engine, rows):
    load_keys(engine, [log_key("logs/a", "a")], [lines(3)])
    with engine.begin() as connection:
        ledger.mark_purged(connection, [row[0] for row in rows("SELECT id FROM s3_log_key")])
    assert load_keys(engine, [log_key("logs/a", "a")], [lines(3)]).loaded == ()
    assert rows(COUNTS) == [(1, 3, 0)]


def test_every_column_of_a_record_reaches_its_column(engine, rows):
    full = (
        f"{OWNER} media [31/Dec/2025:23:59:59 -0530] 2001:db8::1 arn:aws:iam::123456789012:user/eve 0123456789ABCDEF"
        ' REST.GET.OBJECT video/a%2520b.mp4 "GET /video/a%20b.mp4?x=1,2 HTTP/2" 206 SlowDown 9223372036854775807'
        f' 5368709120 4294967296 2147483648 "https://example.org/a,b" "Agent, 1.0" 3HL4kqtJvjVBH40Nrjfkd {HOST_ID}'
        " SigV4 TLS_AES_128_GCM_SHA256 AuthHeader media.s3.eu-west-1.amazonaws.com TLSv1.3"
        ' arn:aws:s3:us-east-1:123456789012:accesspoint/ap Yes us-east-1 new-field "another, one"\n'
    ).encode()
    empty = (
        f'{OWNER} media [01/Jan/2026:00:00:00 +0000] - - - REST.GET.OBJECT - "-" - - - - - - "-" "-"' + " -" * 10 + "\n"
    )
    load_keys(engine, [log_key("logs/a")], [full + empty.encode()])
    found = rows(f"SELECT {', '.join(FIELD_NAMES)} FROM s3_log_record ORDER BY line_number")
    assert dict(zip(FIELD_NAMES, found[0], strict=True)) == {
        "bucket_owner": OWNER,
        "bucket": "media",
        "request_dtime": datetime(2026, 1, 1, 5, 29, 59, tzinfo=UTC),
        "remote_ip": ip_address("2001:db8::1"),
        "requester": "arn:aws:iam::123456789012:user/eve",
        "request_id": "0123456789ABCDEF",
        "operation": "REST.GET.OBJECT",
        "key": "video/a%2520b.mp4",
        "request_method": "GET",
        "request_uri": "/video/a%20b.mp4?x=1,2",
        "http_version": "HTTP/2",
        "http_status": 206,
        "error_code": "SlowDown",
        "bytes_sent": 9223372036854775807,
        "object_size": 5368709120,
        "total_time": 4294967296,
        "turnaround_time": 2147483648,
        "referrer": "https://example.org/a,b",
        "user_agent": "Agent, 1.0",
        "version_id": "3HL4kqtJvjVBH40Nrjfkd",
        "host_id": HOST_ID,
        "signature_version": "SigV4",
        "cipher_suite": "TLS_AES_128_GCM_SHA256",
        "authentication_type": "AuthHeader",
        "host_header": "media.s3.eu-west-1.amazonaws.com",
        "tls_version": "TLSv1.3",
        "access_point_arn": "arn:aws:s3:us-east-1:123456789012:accesspoint/ap",
        "acl_required": "Yes",
        "source_region": "us-east-1",
        "extra_fields": 'new-field "another, one"',
    }
    given = {"bucket_owner", "bucket", "request_dtime", "operation"}
    assert {name for name, value in zip(FIELD_NAMES, found[1], strict=True) if value is not None} == given


@pytest.mark.parametrize(
    ("address", "stored"),
    [
        ("192.0.2.3", "192.0.2.3"),
        ("255.255.255.255", "255.255.255.255"),
        ("::1", "::1"),
        ("2001:DB8::A", "2001:db8::a"),
    ],
)
def test_addresses_are_stored_as_inet(engine, rows, address, stored):
    load_keys(engine, [log_key("logs/a")], [line(remote_ip=address)])
    assert rows("SELECT host(remote_ip), pg_typeof(remote_ip)::text FROM s3_log_record") == [(stored, "inet")]


TEXTS = [
    b"plain",
    b"a,b",
    b"it's",
    b'say "hi" twice',
    b'""',
    b'"',
    b",",
    b",,",
    b"\\",
    b"\\N",
    b"\\n",
    b"\\.",
    b"\\\\",
    b'\\"',
    b"NULL",
    b"null",
    b" leading",
    b"trailing ",
    b" ",
    b"\t",
    b"a\tb",
    b"a\rb",
    b"\r",
    b"\x0b\x0c",
    b"\x01\x1f\x7f",
    "\u0085\u2028\u2029\ufeff".encode(),
    "Motörhead 漢字 😀 e\u0301".encode(),
    b"a\0b",
    b"\xff\xfe\xc3(",
    b"\\x41",
    b"$1 %s {} ; DROP TABLE s3_log_key; --",
    b"x" * 50_000,
]


@pytest.mark.parametrize("field", ["user_agent", "referrer", "key", "uri"])
def test_any_text_reaches_postgres_as_it_was_read(engine, rows, field):
    texts = [text for text in TEXTS if field in ("user_agent", "referrer") or (b" " not in text and b'"' not in text)]
    body = b"".join(written(**{field: text}) for text in texts)
    ((_, counts),) = load_keys(engine, [log_key("logs/a")], [body]).loaded
    assert counts.line_count == len(texts)
    column = "request_uri" if field == "uri" else field
    found = dict(rows(f"SELECT line_number, {column} FROM s3_log_record"))
    read = records_of(parse_logs([body]))
    assert found == dict(zip(read["line_number"].to_pylist(), read[column].to_pylist(), strict=True))
    assert len(found) == counts.record_count >= len(texts) - 3
    for number, text in enumerate(texts, 1):
        if number in found and text.isascii() and b"\0" not in text and b"\\x" not in text:
            assert found[number] == text.decode()


@pytest.mark.parametrize(
    ("sent", "stored"),
    [(b"a\0b", r"a\x00b"), (b"caf\xe9", r"caf\xe9"), (rb"\x00", r"\x5cx00"), ("é😀".encode(), "é😀"), (rb"\N", r"\N")],
)
def test_bytes_that_are_no_text_are_escaped(engine, rows, sent, stored):
    load_keys(engine, [log_key("logs/a")], [written(user_agent=sent)])
    assert rows("SELECT user_agent FROM s3_log_record") == [(stored,)]


def test_all_values_are_what_the_parser_read(engine, rows):
    """Send numbers and rows of a thousand lines to Postgres and back."""
    body = b"".join(
        line(
            request_id=f"{i:016X}", size=i * 2**33, status=str(200 + i % 5), remote_ip=f"10.0.{i % 256}.1", key=f"k/{i}"
        )
        for i in range(1000)
    )
    load_keys(engine, [log_key("logs/a")], [body])
    columns = [name for name in RECORD_COLUMNS[1:] if name != "remote_ip"]
    found = rows(f"SELECT {', '.join(columns)}, host(remote_ip) FROM s3_log_record ORDER BY line_number")
    read = records_of(parse_logs([body])).select([*columns, "remote_ip"])
    assert found == [tuple(row.values()) for row in read.to_pylist()]


def test_a_batch_of_many_pieces_is_copied_whole(engine, rows, monkeypatch):
    monkeypatch.setattr(loading, "_COPY_PIECE_BYTES", 1000)
    load_keys(engine, [log_key("logs/a"), log_key("logs/b")], [lines(500), lines(77)])
    assert rows("SELECT count(*), count(DISTINCT (log_key_id, line_number)) FROM s3_log_record") == [(577, 577)]


def test_settings_of_server_and_client_change_no_value(engine, rows, database_url, contents, monkeypatch):
    """A server may use another date style or time zone; a client's environment may name another encoding."""
    keys, bodies = [log_key("logs/a")], [written(user_agent="Motörhead 😀".encode()) + lines(2) + JUNK]
    load_keys(engine, keys, bodies)
    before = contents()
    rows("TRUNCATE s3_log_key, s3_log_record, s3_rejected_line")
    name = sa.make_url(database_url).database
    for setting in ("DateStyle = 'German, DMY'", "TimeZone = 'Asia/Kolkata'", "IntervalStyle = 'sql_standard'"):
        rows(f"ALTER DATABASE {name} SET {setting}")
    other = open_database(Settings(database_url=database_url))
    load_keys(other, keys, bodies)
    other.dispose()
    assert contents() == before


def test_another_client_encoding_changes_no_text(engine, rows, database_url, monkeypatch):
    """The user may have PGCLIENTENCODING, or a database that is not in UTF8."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    other = open_database(Settings(database_url=database_url))
    load_keys(other, [log_key("logs/a")], [written(user_agent="Motörhead".encode())])
    other.dispose()
    assert rows("SELECT user_agent FROM s3_log_record") == [("Motörhead",)]


def test_rejected_lines_are_kept_byte_for_byte(engine, rows):
    odd = [b"junk", bytes(b for b in range(256) if b != 10), b"\0", b"\\N", b"\xff" * 1000, b"a\r"]
    load_keys(engine, [log_key("logs/a")], [lines(1) + b"\n".join(odd) + b"\n" + lines(1)])
    assert rows("SELECT line_number, line, line_bytes, sha256 FROM s3_rejected_line ORDER BY line_number") == [
        (number, text, len(text), hashlib.sha256(text).digest()) for number, text in enumerate(odd, 2)
    ]


def test_of_an_oversized_line_the_start_is_kept_with_length_and_digest_of_all(engine, rows):
    text = b"x" * (1024 * 1024 + 1)
    load_keys(engine, [log_key("logs/a")], [lines(1) + text])
    assert rows("SELECT line_number, reason, line, line_bytes, sha256 FROM s3_rejected_line") == [
        (2, "oversized", text[: 64 * 1024], len(text), hashlib.sha256(text).digest())
    ]


def test_a_prepared_batch_knows_its_months_and_takes_ids_of_its_own(engine):
    body = lines(1, "31/Dec/2025:23:59:59 +0000") + lines(1, "01/Jan/2026:00:00:00 +0000") + lines(1)
    first = prepared(engine, "media", "logs", [log_key("a"), log_key("b")], [body, b""])
    second = prepared(engine, "media", "logs", [log_key("c")], [b""])
    assert list_months(first.records) == (date(2025, 12, 1), date(2026, 1, 1), date(2026, 3, 1))
    assert list_months(second.records) == ()
    assert len({*first.ids, *second.ids}) == 3
    assert [len(part) > 3 * 300 for part in first.copy_data] == [True]
    assert second.copy_data == ()


def test_a_key_that_the_ledger_would_count_wrong_is_refused_by_the_table(engine, rows):
    batch = prepared(engine, "media", "logs", [log_key("logs/a")], [lines(3)])
    counts = replace(batch.parsed.counts[0], line_count=4)
    with pytest.raises(sa.exc.IntegrityError, match="s3_log_key_counts"):
        load(engine, replace(batch, parsed=replace(batch.parsed, counts=(counts,))))
    assert rows(COUNTS) == [(0, 0, 0)]
