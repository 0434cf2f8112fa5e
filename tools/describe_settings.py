"""Print the page about the settings, made from the models.

`python -m tools.describe_settings > docs/reference/settings.md`
"""

import re
import sys
from collections.abc import Iterator
from datetime import date
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tamarin_dagster.homes import CONFIG_VARIABLE
from tamarin_dagster.settings import DEFAULT_CONFIG, VARIABLE_PREFIX, Lake, LoggedBucket, Settings
from tamarin_dagster.settings.values import ArchiveUrl, DatabaseUrl

_HEAD = f"""# Settings

Settings are in `{DEFAULT_CONFIG}`, or in the file that `--config` or `{CONFIG_VARIABLE}` names. Each can be set in the
environment instead, which wins over the file. If an entry is unknown, missing or wrong, a line says what is allowed,
and nothing is started.

| setting | variable | type | default | meaning |
|---|---|---|---|---|
"""
_BUCKETS = """
## Of a bucket

These are the entries of the list `buckets`. In the environment the whole list is one variable, as JSON:
`TAMARIN_BUCKETS='[{"name": "media.example.org", "log_bucket_name": "my-log-bucket"}]'`.

| setting | type | default | meaning |
|---|---|---|---|
"""
_LAKE = """
## Of a lake

These are the entries of `lake`. In the environment they are one variable, as JSON:
`TAMARIN_LAKE='{"warehouse": "s3://my-lake/warehouse"}'`. [A lake of records](../how-to/lake.md) explains them.

| setting | type | default | meaning |
|---|---|---|---|
"""
_TYPES: dict[Any, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    date: "date, `2026-01-31`",
    Path: "folder",
    str: "text",
    get_args(DatabaseUrl)[0]: "text",
    ArchiveUrl: "text",
}
# The types of settings whose validators accept only some texts.
_NARROWER = {
    "database_url": "`postgresql://user:password@host:5432/database`",
    "dagster_database_url": "`postgresql://user:password@host:5432/database`",
    "archive": "folder, or `s3://my-archive/prefix`",
    "name": "bucket name",
    "log_bucket_name": "bucket name, or `file:///path/to/folder`",
    "endpoint_url": "`https://host`",
    "role_arn": "`arn:aws:iam::123456789012:role/name`",
    "buckets": "list",
    "owners": "list",
    "geoip_database": "file, or a list of files",
    "prices": "file",
    "own_hosts": "list",
    "lake": "mapping",
    "warehouse": "folder, or `s3://my-lake/prefix`",
    "properties": "mapping of texts",
}
_TOLD_DEFAULT = re.compile(r" \(default: (.*)\)$")


def describe_settings() -> str:
    """Return a row for each setting with its variable, type, default and meaning, then those of a bucket and a lake."""
    rows = "".join(f"| `{name}` | `{VARIABLE_PREFIX}{name.upper()}` | {rest} |\n" for name, rest in _rows(Settings))
    of_a_bucket = "".join(f"| `{name}` | {rest} |\n" for name, rest in _rows(LoggedBucket))
    of_a_lake = "".join(f"| `{name}` | {rest} |\n" for name, rest in _rows(Lake))
    return _HEAD + rows + _BUCKETS + of_a_bucket + _LAKE + of_a_lake


def _rows(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        meaning = field.description or ""
        reported = _TOLD_DEFAULT.search(meaning)
        default = reported[1] if reported else _default(field)
        yield name, f"{_NARROWER.get(name) or _type_of(field)} | {default} | {_TOLD_DEFAULT.sub('', meaning)}"


def _type_of(field: FieldInfo) -> str:
    present = [each for each in get_args(field.annotation) if each is not NoneType] or [field.annotation]
    if isinstance(present[0], type) and issubclass(present[0], Enum):
        return " or ".join(f"`{each.value}`" for each in present[0])
    if isinstance(present[0], str):  # of a Literal
        return " or ".join(f"`{each}`" for each in present)
    return _TYPES[present[0]] + _bounds(field)


def _bounds(field: FieldInfo) -> str:
    said = []
    for each in field.metadata:
        if isinstance(each, Ge):
            said.append(f"from {each.ge}")
        elif isinstance(each, Gt):
            said.append(f"above {each.gt}")
        elif isinstance(each, Le):
            said.append(f"to {each.le}")
    return f" {', '.join(said)}" * bool(said)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None or field.default == ():
        return ""
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`" if str(field.default) else '`""`'


if __name__ == "__main__":
    sys.stdout.write(describe_settings())
