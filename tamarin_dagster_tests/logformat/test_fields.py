import re

import pyarrow as pa

from tamarin_dagster.logformat import FIELD_NAMES, FIELDS, RECORDS_SCHEMA


def test_the_fields_stand_in_the_order_of_the_tables_columns():
    assert FIELD_NAMES == (
        "bucket_owner", "bucket", "request_dtime", "remote_ip", "requester", "request_id", "operation", "key",
        "request_method", "request_uri", "http_version", "http_status", "error_code", "bytes_sent", "object_size",
        "total_time", "turnaround_time", "referrer", "user_agent", "version_id", "host_id", "signature_version",
        "cipher_suite", "authentication_type", "host_header", "tls_version", "access_point_arn", "acl_required",
        "source_region", "extra_fields",
    )  # fmt: skip


def test_types_other_than_text_are_few():
    types = {field.name: field.sql_type for field in FIELDS if field.sql_type != "text"}
    assert types == {
        "request_dtime": "timestamptz",
        "remote_ip": "inet",
        "http_status": "smallint",
        "bytes_sent": "bigint",
        "object_size": "bigint",
        "total_time": "bigint",
        "turnaround_time": "bigint",
    }
    assert RECORDS_SCHEMA.field("http_status").type == pa.int16()
    assert RECORDS_SCHEMA.field("request_dtime").type == pa.timestamp("us", "UTC")


def test_every_field_has_a_meaning_of_one_sentence():
    for field in FIELDS:
        assert field.meaning.endswith("."), field.name
        assert len(field.meaning) > 20, field.name


def test_patterns_capture_nothing_and_look_nowhere():
    for field in FIELDS:
        assert re.compile(field.pattern).groups == 0, field.name
        assert not re.search(r"\\d|\(\?[=!<]", field.pattern), field.name
