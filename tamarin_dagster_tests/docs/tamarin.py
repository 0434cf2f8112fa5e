"""The two tables of the Django app Tamarin, as its last migration left them on Postgres, with some rows."""

from collections.abc import Callable

import psycopg
import sqlalchemy as sa

_TABLES = """
CREATE TABLE tamarin_s3loggedbucket (
    id serial PRIMARY KEY,
    name varchar(255) NOT NULL UNIQUE,
    log_bucket_name varchar(255) NOT NULL,
    monitor_bucket boolean NOT NULL);
CREATE TABLE tamarin_s3logrecord (
    id serial PRIMARY KEY,
    bucket_owner varchar(255) NOT NULL,
    bucket_id integer NOT NULL REFERENCES tamarin_s3loggedbucket (id),
    request_dtime timestamptz NOT NULL,
    remote_ip inet NOT NULL,
    requester varchar(255),
    request_id varchar(255) NOT NULL UNIQUE,
    operation varchar(255) NOT NULL,
    key text NOT NULL,
    request_method varchar(10),
    request_uri text NOT NULL,
    http_version varchar(15),
    http_status integer NOT NULL CHECK (http_status >= 0),
    error_code varchar(255),
    bytes_sent integer CHECK (bytes_sent >= 0),
    object_size integer CHECK (object_size >= 0),
    total_time integer CHECK (total_time >= 0),
    turnaround_time integer CHECK (turnaround_time >= 0),
    referrer text,
    user_agent text,
    version_id varchar(255));
INSERT INTO tamarin_s3loggedbucket (name, log_bucket_name, monitor_bucket) VALUES
    ('media.example.org', 'my-log-bucket', true), ('films.example.org', 'film-logs', false);
"""
_COLUMNS = (
    "bucket_owner, bucket_id, request_dtime, remote_ip, requester, request_id, operation, key, request_method,"
    " request_uri, http_version, http_status, error_code, bytes_sent, object_size, total_time, turnaround_time,"
    " referrer, user_agent, version_id"
)
# 200 of two months, an hour and a minute apart, in the site's time zone; and three that are less ordinary.
_ROWS = f"""
INSERT INTO tamarin_s3logrecord ({_COLUMNS})
SELECT '79a59df900b949e5', 1, '2011-04-29 20:00:00-04'::timestamptz + n * interval '61 minutes', '192.0.2.3', NULL,
       'ABCD' || lpad(n::text, 12, '0'), 'REST.GET.OBJECT', 'photos/' || n || '.jpg', 'GET', '/photos/' || n || '.jpg',
       'HTTP/1.1', 200, NULL, 1000 + n, 1000 + n, 20, 10, 'http://www.example.org/',
       'Mozilla/5.0 (Macintosh; U; Intel Mac OS X 10_6_7; en-us)', NULL
FROM generate_series(1, 200) n;
INSERT INTO tamarin_s3logrecord ({_COLUMNS}) VALUES
    ('79a59df900b949e5', 1, '2011-05-02 12:00:00Z', '192.0.2.9', 'Anonymous', 'EEEE000000000001', 'REST.GET.LOCATION',
     '-', NULL, '-', NULL, 403, 'AccessDenied', 231, NULL, 9, NULL, NULL, NULL, NULL),
    ('79a59df900b949e5', 1, '2011-05-02 12:00:01Z', '192.0.2.9', NULL, 'EEEE000000000002', 'REST.GET.OBJECT',
     'a.zip', 'GET', '/a.zip?AWSAccessKeyId=AKID&Expires=1304510501&Signature=s3cret', 'HTTP/1.0', 206, NULL,
     2147483647, 2147483647, 60000, 30, NULL, 'curl/7.15.1', NULL),
    ('79a59df900b949e5', 2, '2011-05-02 12:00:01Z', '192.0.2.9', '314159b66967d86f', 'EEEE000000000003',
     'REST.HEAD.OBJECT', 'film.mp4', 'HEAD', '/film.mp4', 'HTTP/1.1', 404, 'NoSuchKey', 297, NULL, 5, NULL, NULL,
     'curl/7.15.1', NULL);
"""
ALL_ROWS = 203
# Of a day that has come already.
LATER_ROW = f"""
INSERT INTO tamarin_s3logrecord ({_COLUMNS})
SELECT {_COLUMNS.replace("request_id", "'EEEE000000000009'")} FROM tamarin_s3logrecord
WHERE request_id = 'EEEE000000000002'
"""


def make(server_url: str, name: str) -> None:
    """Make a database of that name with Tamarin's tables."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(
        sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)
    ) as connection:
        connection.execute(_TABLES + _ROWS)


def check(rows: Callable[[str], list[tuple]], later: int = 0) -> None:
    """All rows have come, once, and the ledger's counts are true."""
    imported = "SELECT id FROM s3_log_key WHERE log_bucket_name LIKE 'file:%/tamarin-export'"
    assert rows(f"SELECT count(*), count(DISTINCT request_id) FROM s3_log_record WHERE log_key_id IN ({imported})") == [
        (ALL_ROWS + later, ALL_ROWS + later)
    ]
    assert rows(
        "SELECT count(*) FROM s3_log_key k WHERE record_count <>"
        " (SELECT count(*) FROM s3_log_record WHERE log_key_id = k.id) OR rejected_count > 0 OR purged_at IS NULL"
    ) == [(0,)]
    assert rows(
        "SELECT delivery_date::text, line_count FROM s3_log_key"
        " WHERE key LIKE '%/2011-04-30-%' AND purged_at IS NOT NULL"
    ) == [("2011-04-30", 23)]
    assert rows(
        "SELECT request_dtime = '2011-05-02 12:00Z', host(remote_ip), requester, operation, key, request_method,"
        " request_uri, http_version, http_status, error_code, bytes_sent, object_size, referrer, user_agent,"
        " version_id, host_id FROM s3_log_record WHERE request_id = 'EEEE000000000001'"
    ) == [
        (True, "192.0.2.9", "Anonymous", "REST.GET.LOCATION", *[None] * 4, 403, "AccessDenied", 231, *[None] * 5),
    ]
    assert rows("SELECT request_uri FROM s3_log_record WHERE request_id = 'EEEE000000000002'") == [
        ("/a.zip?AWSAccessKeyId=REDACTED&Expires=1304510501&Signature=REDACTED",)
    ]
