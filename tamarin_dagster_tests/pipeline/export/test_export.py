"""Other tools get each record once, on one line or in one row, whatever a client has sent."""

import csv
import io
import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tamarin_dagster.lake import parquet
from tamarin_dagster.lake.schema import FILE
from tamarin_dagster.pipeline.export import columnar
from tamarin_dagster.pipeline.export.columnar import parquet_files, write_day
from tamarin_dagster.pipeline.export.text import combined_lines, csv_rows
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.private_files import write_whole_file
from tamarin_dagster.recordstore.schema.tables import RECORD_COLUMNS
from tamarin_dagster_tests.lines import HOST_ID, OWNER, line

TAIL = f"- {HOST_ID} - TLS_AES_128_GCM_SHA256 - media.s3.amazonaws.com TLSv1.3 - - us-east-1\n"
# Apache's combined format: seven fields; within quotes, a quote is always escaped by a backslash.
COMBINED = re.compile(
    rb'(\S+) - (\S+) \[([^]]+)\] "((?:[^"\\]|\\.)*)" (\S+) (\S+) "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"\n'
)


def written(
    time="05/Mar/2026:09:58:01 +0000",
    *,
    bucket="media",
    ip="192.0.2.3",
    requester="-",
    request='"GET /a.mp4 HTTP/1.1"',
    numbers="200 - 113 113 7 6",
    referrer='"-"',
    agent='"curl/8.5.0"',
    operation="REST.GET.OBJECT",
) -> bytes:
    head = f"{OWNER} {bucket} [{time}] {ip} {requester} 3E57427F33A59F07 {operation} a.mp4"
    return f"{head} {request} {numbers} {referrer} {agent} {TAIL}".encode()


@pytest.fixture
def loaded(folder_place, engine, put_key):
    """loaded(body, …): put each body as a log key and load them."""

    def load(*bodies, **where):
        for body in bodies:
            put_key(body, **where)
        done = pull_bucket(
            folder_place.bucket, folder_place.store, engine, first=date(2026, 3, 1), last=date(2026, 3, 31)
        )
        assert not done.failures
        assert sum(each.rejected for each in done.periods) == 0

    return load


def fields(engine, **chosen):
    text = b"".join(combined_lines(engine, **chosen))
    found = [match.groups() for match in COMBINED.finditer(text)]
    assert len(found) == text.count(b"\n"), text
    return [tuple(part.decode() for part in parts) for parts in found]


def test_a_record_is_a_line_of_apaches_combined_format(engine, loaded) -> None:
    loaded(written(referrer='"https://example.org/a"'))
    assert b"".join(combined_lines(engine)) == (
        b'192.0.2.3 - - [05/Mar/2026:09:58:01 +0000] "GET /a.mp4 HTTP/1.1" 200 113'
        b' "https://example.org/a" "curl/8.5.0"\n'
    )


def test_what_there_was_none_of_is_a_dash(engine, loaded) -> None:
    loaded(
        written(ip="-", request='"-"', numbers="- - - - - -", agent="-", operation="S3.EXPIRE.OBJECT"),
        written(ip="2001:db8::7"),
    )
    assert [each[0] for each in fields(engine)] == ["-", "2001:db8::7"]
    assert fields(engine)[0][3:] == ("-", "-", "-", "-", "-")


SENT_AND_SHOWN = [
    (b'say "hi"', r"say \"hi\""),
    (rb"a\b", r"a\\b"),
    (rb"a\x41b", r"a\\x41b"),
    (b"a\tb\rc\x7fd", r"a\x09b\x0dc\x7fd"),
    (b"a\xff\x00b", r"a\xff\x00b"),
    ("naïve 日本".encode(), "naïve 日本"),
    ("a\u0085b\u2028c\u009bd".encode(), r"a\xc2\x85b\xe2\x80\xa8c\xc2\x9bd"),
    (b"{x} %s %% :name $1 '", "{x} %s %% :name $1 '"),
]


def test_a_clients_text_is_escaped_as_apache_escapes_it(engine, loaded) -> None:
    form = written(request='"GET /@ HTTP/1.1"', referrer='"@"', agent='"@"')
    loaded(b"".join(form.replace(b"@", sent) for sent, _ in SENT_AND_SHOWN))
    found = [(request, referrer, agent) for *_, request, _, _, referrer, agent in fields(engine)]
    assert found == [(f"GET /{shown} HTTP/1.1", shown, shown) for _, shown in SENT_AND_SHOWN]


def test_a_requester_is_one_word_without_brackets_or_slashes(engine, loaded) -> None:
    loaded(written(requester="arn:aws:sts::123456789012:assumed-role/Some Role/a b"), written(requester="me[1]"))
    assert [each[1] for each in fields(engine)] == ["arn:aws:sts::123456789012:assumed-role_Some_Role_a_b", "me_1_"]


def test_lines_come_in_the_order_of_the_requests_over_the_days_asked_for(engine, loaded) -> None:
    times = ["04/Mar/2026:23:59:59", "05/Mar/2026:00:00:00", "06/Mar/2026:23:59:59", "07/Mar/2026:00:00:00"]
    loaded(*(written(f"{time} +0000") for time in reversed(times)))
    assert [each[2] for each in fields(engine)] == [f"{time} +0000" for time in times]
    within = fields(engine, first=date(2026, 3, 5), last=date(2026, 3, 6))
    assert [each[2] for each in within] == [f"{time} +0000" for time in times[1:3]]
    assert fields(engine, first=date(2027, 1, 1)) == []


def test_a_bucket_is_that_of_the_line(engine, loaded) -> None:
    loaded(written(), written(bucket="films"), written(bucket="-"))
    assert len(fields(engine)) == 3
    assert len(fields(engine, buckets=["films"])) == 1
    assert fields(engine, buckets=["fi'lms"]) == []


def test_a_month_is_english_and_a_time_utc_whatever_the_session_has(engine, loaded, rows) -> None:
    loaded(written())
    rows(f"ALTER DATABASE {engine.url.database} SET TimeZone = 'Asia/Tokyo'")
    engine.dispose()
    assert fields(engine)[0][2] == "05/Mar/2026:09:58:01 +0000"
    assert b"2026-03-05 09:58:01+00" in b"".join(csv_rows(engine))


def table(pieces) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(pieces).decode(), newline="")))


def test_csv_has_all_columns_and_each_value_as_it_is(engine, loaded, rows) -> None:
    loaded(written(agent='"a,"b"\r=c"'), line())
    found = table(csv_rows(engine))
    assert list(found[0]) == list(RECORD_COLUMNS)
    expected = rows(f"SELECT {', '.join(RECORD_COLUMNS)} FROM s3_log_record ORDER BY log_key_id")
    assert [list(each.values()) for each in found] == [
        [
            "" if value is None else str(value).removesuffix(":00") if isinstance(value, datetime) else str(value)
            for value in row
        ]
        for row in expected
    ]
    assert found[0]["user_agent"] == 'a,"b"\r=c'


def test_csv_of_nothing_has_its_header(engine) -> None:
    assert b"".join(csv_rows(engine)).decode() == ",".join(RECORD_COLUMNS) + "\n"
    assert b"".join(combined_lines(engine)) == b""


def test_no_cell_is_a_formula(engine, loaded) -> None:
    agents = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "Mozilla -", "'=1", "#!"]
    loaded(b"".join(written(agent=f'"{agent}"') for agent in agents))
    found = [each["user_agent"] for each in table(csv_rows(engine, formula_safe=True))]
    assert found == [f"'{agent}" for agent in agents[:6]] + agents[6:]
    assert [each["user_agent"] for each in table(csv_rows(engine))] == agents


BLANKS = [" ", "\u00a0", "\u3000", "\u2003", "\ufeff", "\u200b", "\u200e", "\u202e", "\t", "  \u00a0"]


def test_a_sign_of_any_width_is_a_formula_and_so_it_is_after_blanks(engine, loaded) -> None:
    """Spreadsheets trim blanks, and treat full-width signs like the plain ones."""
    signs = [*"=+-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212", "\u207a", "\u208c"]
    formulas = [f"{sign}1" for sign in signs] + [f"{blank}{sign}1" for blank in BLANKS for sign in "=\uff1d@"]
    harmless = [
        " a=1",
        "\u00a0a",
        "\u65e5\u672c=1",
        "\u00e9+",
        "\uff41\uff1d1",
        "1-2",
        "'=1",
        "~",
        "\u3000\u65e5\u672c",
        "!=1",
    ]
    loaded(b"".join(written(agent=f'"{agent}"') for agent in [*formulas, *harmless]))
    found = [each["user_agent"] for each in table(csv_rows(engine, formula_safe=True))]
    assert found == [f"'{agent}" for agent in formulas] + harmless
    assert [each["user_agent"] for each in table(csv_rows(engine))] == formulas + harmless


def test_parquet_holds_what_the_table_holds(engine, loaded, rows, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
    agents = ['"a,"b"\r=c"', '"-"', '"日本\t"', '"- -"']
    loaded(*(written(agent=agent, ip=ip) for agent in agents for ip in ("-", "2001:db8::7")), bucket_day("06"))

    done = parquet_files(engine, tmp_path / "out")

    assert (done.rows, done.files, done.days) == (9, 1, 1)
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert files == ["logged_bucket=media/delivery_day=2026-03-05/part-0.parquet"]
    names = [name for name in RECORD_COLUMNS if name != "log_key_id"]
    casts = ", ".join("host(r.remote_ip)" if name == "remote_ip" else f"r.{name}" for name in names)
    expected = rows(f"SELECT {casts}, k.key FROM s3_log_record r JOIN s3_log_key k ON k.id = r.log_key_id")
    found = dataset(tmp_path / "out").to_table().to_pylist()
    assert sorted(map(repr, (tuple(each[name] for name in [*names, "log_key"]) for each in found))) == sorted(
        map(repr, map(in_plain_utc, expected))
    )
    assert {(each["logged_bucket"], str(each["delivery_day"])) for each in found} == {("media", "2026-03-05")}
    file = pq.ParquetFile(tmp_path / "out" / files[0])
    assert file.schema_arrow.equals(FILE)
    assert file.metadata.num_row_groups > 1
    assert {file.metadata.row_group(0).column(n).compression for n in range(file.metadata.num_columns)} == {"ZSTD"}


def in_plain_utc(row):
    """Postgres' driver and Arrow name the same time zone differently."""
    return tuple(value.astimezone(ZoneInfo("UTC")) if isinstance(value, datetime) else value for value in row)


def test_a_query_by_key_or_by_address_skips_most_row_groups(tmp_path, monkeypatch) -> None:
    """Sorted by time, as files were before, it skipped none."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 100)
    keys, addresses = [f"key-{number:04}" for number in range(50)], [f"192.0.2.{number}" for number in range(200)]
    table = pa.table(
        {"key": [keys[n % 50] for n in range(10_000)], "remote_ip": [addresses[n * 7 % 200] for n in range(10_000)]}
    )
    path = tmp_path / "a.parquet"
    with path.open("wb") as file:
        assert parquet.write_records(file, [parquet.sort_by_key(table)], table.schema, 10_000) == 10_000

    assert pq.read_table(path).num_rows == 10_000
    for column, values in (("key", keys), ("remote_ip", addresses)):
        assert share_skipped(path, column, values) >= 0.8


def share_skipped(path, column: str, values: list[str]) -> float:
    metadata = pq.read_metadata(path)
    place = metadata.schema.to_arrow_schema().get_field_index(column)
    found = [metadata.row_group(n).column(place).statistics for n in range(metadata.num_row_groups)]
    return sum(not (each.min <= value <= each.max) for each in found for value in values) / len(found) / len(values)


def bucket_day(day: str) -> bytes:
    return written(f"{day}/Mar/2026:00:00:00 +0000", bucket="films")


def dataset(folder):
    folders = pa.schema([("logged_bucket", pa.string()), ("delivery_day", pa.date32())])
    return ds.dataset(folder, partitioning=ds.partitioning(folders, flavor="hive"))


def test_an_export_of_one_partition_replaces_its_file_and_leaves_the_others(engine, loaded, tmp_path) -> None:
    loaded(written())
    loaded(written(), day="2026-03-06")
    out = tmp_path / "out"
    parquet_files(engine, out)
    other = next(out.glob("*/delivery_day=2026-03-06/*"))
    before = other.stat().st_ino
    loaded(written())

    done = parquet_files(engine, out, buckets=["media"], first=date(2026, 3, 5), last=date(2026, 3, 5))

    assert (done.rows, done.files) == (2, 1)
    assert dataset(out).count_rows() == 3
    assert other.stat().st_ino == before
    assert parquet_files(engine, out, buckets=["films"]).files == 0


def test_a_file_that_fails_half_way_leaves_the_older_one_and_nothing_else(tmp_path, engine, monkeypatch) -> None:
    path = tmp_path / "a" / "part-0.parquet"
    with write_whole_file(path) as file:
        file.write(b"old")

    def breaking(*_, **__):
        yield pa.table({"log_key_id": [1]})
        raise OSError("the disk is full")

    monkeypatch.setattr(columnar, "delivered_records", breaking)

    with pytest.raises(OSError, match="full"), engine.connect() as connection, write_whole_file(path) as file:
        write_day(file, connection, "media", date(2026, 3, 5), 1)
    assert path.read_bytes() == b"old"
    assert [each.name for each in path.parent.iterdir()] == ["part-0.parquet"]


def test_whoever_reads_the_folder_meanwhile_does_not_see_what_is_being_written(tmp_path) -> None:
    with write_whole_file(tmp_path / "part-0.parquet") as file:
        file.write(b"half")
        file.flush()
        assert ds.dataset(tmp_path, format="parquet").files == []
    assert (tmp_path / "part-0.parquet").read_bytes() == b"half"


def test_hostile_buckets_stay_in_the_folder(engine, loaded, tmp_path) -> None:
    loaded(*(written(bucket=bucket) for bucket in ("../../up", "/etc/x", "-", "..", "a'b;--", "%2e%2e", "z" * 900)))
    out = tmp_path / "out"

    assert parquet_files(engine, out).rows == 7

    assert {path.name for path in tmp_path.iterdir()} <= {"out", "log keys"}
    assert dataset(out).count_rows() == 7
    assert {None, "../../up", "/etc/x", "..", "a'b;--", "%2e%2e"} < set(dataset(out).to_table()["bucket"].to_pylist())


def test_duckdb_reads_it_partition_by_partition(engine, loaded, tmp_path) -> None:
    duckdb = pytest.importorskip("duckdb")
    loaded(written(), bucket_day("06"))
    parquet_files(engine, tmp_path / "out")
    asked = f"FROM read_parquet('{tmp_path}/out/**/*.parquet', hive_partitioning = true)"
    columns = "bucket, logged_bucket, delivery_day"
    assert duckdb.sql(f"SELECT {columns}, sum(bytes_sent) {asked} GROUP BY ALL ORDER BY 1").fetchall() == [
        ("films", "media", date(2026, 3, 5), 113),
        ("media", "media", date(2026, 3, 5), 113),
    ]
    time = duckdb.sql(f"SELECT epoch(request_dtime) {asked} WHERE bucket = 'media'").fetchall()
    assert time == [(datetime(2026, 3, 5, 9, 58, 1, tzinfo=UTC).timestamp(),)]
