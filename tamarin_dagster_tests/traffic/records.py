"""Tables of records, made of what differs from an ordinary GET."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from tamarin_dagster.logformat import RECORDS_SCHEMA
from tamarin_dagster.traffic.measures import RECORD_COLUMNS

TIME = datetime(2026, 3, 5, 9, 58, 1, tzinfo=UTC)
_ORDINARY = {
    "request_dtime": TIME,
    "remote_ip": "192.0.2.3",
    "operation": "REST.GET.OBJECT",
    "key": "films/a.mp4",
    "http_status": 200,
    "bytes_sent": 100,
    "user_agent": "curl/8.5.0",
}


def records(changes: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return a record for each of the changes."""
    schema = pa.schema([RECORDS_SCHEMA.field(name) for name in RECORD_COLUMNS])
    return pa.Table.from_pylist([_ORDINARY | dict(each) for each in changes], schema)
