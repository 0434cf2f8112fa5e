"""The component for `dg` projects: the settings of tamarin.yaml as the attributes of a defs.yaml."""

import types
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import dagster as dg
from pydantic import BaseModel, Field, create_model

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.settings import LoggedBucket, Settings, build_settings, load_settings


def _simplify_type(annotation: Any) -> Any:
    """Return the type of an attribute in YAML for the type of a setting."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return Union[tuple(_simplify_type(each) for each in arguments)]  # noqa: UP007 - made at run time
    if origin is tuple:
        return list[_simplify_type(arguments[0])]  # type: ignore[misc]  # made at run time
    if origin is Literal or annotation in (bool, int, float, str, types.NoneType):
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return Literal[tuple(each.value for each in annotation)]
    return str


def _make_fields(model: type[BaseModel]) -> dict[str, Any]:
    """Return the settings of the model as attributes. The model sets the defaults."""
    return {
        name: (
            _simplify_type(field.annotation) if field.is_required() else Union[_simplify_type(field.annotation), None],  # noqa: UP007
            Field(default=... if field.is_required() else None, description=field.description),
        )
        for name, field in model.model_fields.items()
        if name != "buckets"
    }


class _Attributes(dg.Model, dg.Resolvable):
    """The base of both attribute classes."""


BucketAttributes = create_model("BucketAttributes", __base__=_Attributes, **_make_fields(LoggedBucket))
_SettingsAttributes = create_model("_SettingsAttributes", __base__=_Attributes, **_make_fields(Settings))


class _Scaffolder(dg.Scaffolder[Any]):
    """Writes a defs.yaml with an example bucket: empty attributes would not show what to fill in."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write the file."""
        bucket = {
            "name": "example-bucket",
            "log_bucket_name": "example-log-bucket",
            "log_prefix": "logs/",
            "start_date": datetime.now(UTC).date().isoformat(),
        }
        dg.scaffold_component(request, {"buckets": [bucket]})


@dg.scaffold_with(_Scaffolder)
class LoggedBucketsComponent(_SettingsAttributes, dg.Component):
    """S3 server access logs of these buckets, loaded into Postgres completely and exactly once.

    The attributes are the settings of tamarin.yaml. `config` names such a file instead. Give secrets as
    `"{{ env.TAMARIN_DATABASE_URL }}"`.
    """

    buckets: list[BucketAttributes] = Field(
        default_factory=list, description="the logged buckets, and where their log keys are delivered"
    )
    config: str | None = Field(
        default=None, description="a tamarin.yaml next to this file; if it is given, give no other settings here"
    )
    prefix: str = Field(default="", description="the prefix of the names of all assets, jobs, schedules and sensors")

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definitions for these settings. Raises SettingsError."""
        return build_definitions(self.settings(Path(context.path)), prefix=self.prefix)

    def settings(self, folder: Path) -> Settings:
        """Return the settings. Relative paths start at `folder`. Raises SettingsError."""
        given = self.model_dump(exclude={"config", "prefix"}, exclude_none=True)
        if self.config is not None:
            return load_settings(folder / self.config)
        entries: dict[str, Any] = {name: value for name, value in given.items() if name != "buckets"}
        return build_settings(folder / "defs.yaml", entries | {"buckets": given["buckets"]})
