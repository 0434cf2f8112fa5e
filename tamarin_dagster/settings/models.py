"""Read and validate the settings: tamarin.yaml, and TAMARIN_* variables, which win over the file.

All faults are reported in one `SettingsError`, a line for each wrong entry. It never repeats a value, because a
database URL holds a password.
"""

import difflib
import json
import os
import re
from collections import Counter
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tamarin_dagster.homes import CONFIG_VARIABLE, DEMO_CONFIG, demo_home, is_demo_home
from tamarin_dagster.settings.values import (
    ArchiveUrl,
    BucketName,
    DatabaseUrl,
    FileName,
    FileNames,
    HttpUrl,
    LakeUrl,
    LogBucketName,
    normalize_place,
)

DEFAULT_CONFIG = "tamarin.yaml"
VARIABLE_PREFIX = "TAMARIN_"
# Server access logging is as old as S3; no log key is older.
FIRST_LOG_DATE = date(2006, 3, 14)
# One run per day wastes two seconds on each day; one run for years holds a single transaction log for all of them.
DEFAULT_DAYS_PER_RUN = 31
# Concurrent COPY connections. On two cores, 2 load 1.36 times as fast as 1, and 3 are no faster.
DEFAULT_LOAD_CONNECTIONS = 2
# Seconds. Tools that write in place (curl, aws s3 cp of one file, tee) pause for less than this between two writes.
DEFAULT_QUIET_SECONDS = 60.0
# Median absolute deviations. In simulations, hours that vary by a third from day to day exceed this 0.15 times a month
# (5: 0.6 times, 3.5: 3.4 times), and three quarters of the hours with five times the traffic exceed it. Files of very
# unequal sizes alarm more often.
DEFAULT_ALARM_THRESHOLD = 6.0
DEFAULT_ROLLUP_ROWS = 20_000
# A run for one small key leaves about 120 kB in Dagster's storage, mostly events that only say how the run went.
DEFAULT_DAGSTER_EVENT_DAYS = 7
DEFAULT_ROLLUP_PARTS_DAYS = 35
# A fifth of all bytes: no ordinary reader of a public bucket with hundreds of addresses comes near it.
DEFAULT_HOG_SHARE = 0.2

# What the lake's URL begins with, where an archive's URL is expected.
LAKE_SCHEME = "iceberg:"

_OWNER = re.compile(r"team:\S+|[A-Za-z0-9_][A-Za-z0-9._%+-]*@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
# The name of a setting or a bucket; then the quoted parts, longer than one character, of a YAML error.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_QUOTED = re.compile(r"'[^'<][^']+'|\"[^\"]{2,}\"")
_OWN_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


class SettingsError(Exception):
    """The settings cannot be used. The text has one line for each wrong entry: which file, which entry, what is
    allowed.
    """


class PartitionUnit(StrEnum):
    """The length of a bucket's partitions. A partition is the smallest unit of a run, a check and a purge."""

    DAILY = "daily"
    HOURLY = "hourly"


class LoggedBucket(BaseModel):
    """A bucket whose requests are logged, and where its log keys are delivered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: BucketName = Field(description="the bucket whose requests are logged")
    log_bucket_name: LogBucketName = Field(
        description="the bucket that its log keys are delivered to, or the file:// URL of a folder of downloaded log"
        " keys"
    )
    log_prefix: str = Field(default="", description="the prefix of the names of its log keys")
    monitor_bucket: bool = Field(default=True, description="whether its sensor is on by default")
    start_date: date = Field(
        default=FIRST_LOG_DATE,
        description="the first day of its partitions (delivery days, UTC); set it to avoid empty partitions",
    )
    partition: PartitionUnit = Field(
        default=PartitionUnit.DAILY,
        description="the length of its partitions; choose hourly if one day is too much for one run",
    )
    monitor_from: date | None = Field(
        default=None,
        description="the first day that its sensor checks; load earlier days with a backfill (default: start_date)",
    )
    purge_parsed_keys: bool | None = Field(
        default=None,
        description="whether log keys are deleted after they are proved loaded (default: the global setting)",
    )
    purge_rejected: bool | None = Field(
        default=None, description="whether log keys with rejected lines are deleted too (default: the global setting)"
    )
    archive: ArchiveUrl | None = Field(
        default=None,
        description="a folder or s3:// URL to which its records are written as Parquet before its log keys are purged"
        " (default: the global setting)",
    )
    quiet_seconds: float | None = Field(
        default=None,
        ge=0,
        description="for a folder of log keys: seconds that a file must be unchanged before it is loaded (default:"
        " the global setting)",
    )
    owners: tuple[str, ...] = Field(
        default=(), description="the owners that Dagster shows: e-mail addresses, or teams as team:name"
    )
    own_hosts: tuple[str, ...] = Field(
        default=(),
        description="hosts whose pages may link to it and are not reported as hot-linkers: names, or `*.example.org`"
        " for all hosts below example.org",
    )
    freshness_hours: float | None = Field(
        default=None,
        gt=0,
        description="hours without a load after which Dagster reports it as stale (default: 36 if it is monitored,"
        " because its sensor looks at it every night)",
    )
    alarm_threshold: float | None = Field(
        default=None,
        gt=0,
        description="median absolute deviations above the usual at which traffic is an anomaly"
        " (default: the global setting)",
    )
    hog_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="the share of the bytes above which a consumer is a top talker (default: the global setting)",
    )
    minutes_between_runs: float | None = Field(
        default=None,
        ge=0,
        le=1440,
        description="minimum minutes between two runs for the same partition (default: the global setting)",
    )
    endpoint_url: HttpUrl | None = Field(default=None, description="the endpoint of an S3-compatible store")
    region: str | None = Field(default=None, description="the log bucket's region")
    profile: str | None = Field(default=None, description="a profile of ~/.aws/config to take credentials from")
    role_arn: str | None = Field(default=None, description="a role to assume for the log bucket")

    # Name and log_prefix of every other configured bucket that has the same log bucket.
    _neighbours: tuple[tuple[str, str], ...] = PrivateAttr(default=())

    @field_validator("start_date", "monitor_from")
    @classmethod
    def _check_day(cls, value: date | None) -> date | None:
        if value is not None and value < FIRST_LOG_DATE:
            raise ValueError(f"must be {FIRST_LOG_DATE} or a later day: S3 wrote no access logs before")
        return value

    @field_validator("role_arn")
    @classmethod
    def _check_role(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/.+", value):
            raise ValueError("must be a role's ARN: arn:aws:iam::123456789012:role/name")
        return value

    @field_validator("owners")
    @classmethod
    def _check_owners(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for owner in value:
            if not _OWNER.fullmatch(owner):
                raise ValueError("must be e-mail addresses, or teams like team:data")
        return value

    @field_validator("own_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _OWN_HOST.fullmatch(host):
                raise ValueError(
                    "must be host names without a scheme or path, like www.example.org, or *.example.org"
                    " for all hosts below it"
                )
        return tuple(host.lower() for host in value)

    @model_validator(mode="after")
    def _check_prefix(self) -> Self:
        if self.log_bucket_name == self.name and not self.log_prefix:
            raise ValueError(
                "log_bucket_name: is the logged bucket itself, and log_prefix is empty, so log keys would lie among"
                " its objects, and each delivery would be logged again; name another bucket, or set log_prefix to a"
                " prefix that only log keys have, such as access-logs/"
            )
        return self

    @property
    def logs_into_itself(self) -> bool:
        """Whether the log keys are delivered to the bucket itself."""
        return self.log_bucket_name == self.name

    def is_owner_of_tree(self, root: str) -> bool:
        """Return whether a tree of log keys belongs to this bucket, where the names of its folders do not decide it.

        Every bucket whose log_prefix the tree's root begins with is a candidate. The tree belongs to the candidate that
        its last folder is named after, otherwise to the one with the longest log_prefix.
        """

        def claim(name: str, prefix: str) -> tuple[bool, int]:
            return root.rpartition("/")[0].rpartition("/")[2] == name, len(prefix)

        others = (claim(*each) for each in self._neighbours if root.startswith(each[1]))
        return claim(self.name, self.log_prefix) >= max(others, default=(False, 0))

    @property
    def log_folder(self) -> Path | None:
        """The folder of a file:// log bucket, or None for a bucket in S3."""
        if not self.log_bucket_name.startswith("file:"):
            return None
        return Path(unquote(urlsplit(self.log_bucket_name).path))

    @property
    def first_monitored_date(self) -> date:
        """The first day that the bucket's sensor looks at."""
        return max(self.start_date, self.monitor_from or self.start_date)


class Lake(BaseModel):
    """A lake: where its files are, and which catalog knows its Iceberg tables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    warehouse: LakeUrl = Field(description="the folder or s3:// URL of the lake's files")
    catalog: Literal["sql", "rest", "glue"] = Field(
        default="sql",
        description="the Iceberg catalog: `sql` keeps it in the Postgres of the records, in the schema tamarin_lake;"
        " `rest` and `glue` are reached with `properties`",
    )
    namespace: str = Field(
        default="tamarin",
        pattern=r"^[a-z][a-z0-9_]{0,62}$",
        description="the namespace of the tables in the catalog, and their folder in the warehouse",
    )
    properties: tuple[tuple[str, SecretStr], ...] = Field(
        default=(),
        repr=False,
        description="properties of PyIceberg for the catalog and the file store, such as uri, token and s3.endpoint",
    )
    archives: bool = Field(
        default=True,
        description="whether the lake is the archive of all buckets for which `archive` is not set, so that no log key"
        " is purged before its records are in the lake",
    )
    spark_master: str | None = Field(
        default=None,
        description="the Spark master of `lake-load`; if it is set, Dagster gets an asset for each bucket that loads"
        " its days into the lake (default: local[*], and no asset)",
    )

    @field_validator("properties", mode="before")
    @classmethod
    def _check_properties(cls, value: object) -> object:
        if not isinstance(value, dict):
            raise ValueError("must be a mapping: uri: https://catalog.example.org")  # noqa: TRY004 - for pydantic
        texts = {name: str(each).lower() if isinstance(each, bool) else str(each) for name, each in value.items()}
        return tuple(texts.items())  # settings must be hashable

    @property
    def url(self) -> str:
        """The lake as a place of archives: `iceberg:s3://my-lake/warehouse/tamarin`."""
        return f"{LAKE_SCHEME}{self.warehouse}/{self.namespace}"

    def reveal_properties(self) -> dict[str, str]:
        """Return the properties with their secrets."""
        return {name: value.get_secret_value() for name, value in self.properties}


class Settings(BaseModel):
    """All settings. A non-empty TAMARIN_* variable wins over the given value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Path = Field(
        default=Path(".tamarin"), description="the folder of all state: the embedded Postgres, Dagster's home"
    )
    database_url: DatabaseUrl | None = Field(
        default=None, repr=False, description="the Postgres for the records (default: embedded)"
    )
    dagster_database_url: DatabaseUrl | None = Field(
        default=None, repr=False, description="the Postgres for Dagster's own storage (default: embedded)"
    )
    pull_parse_interval: float = Field(default=5, gt=0, le=1440, description="minutes between a sensor's ticks")
    minutes_between_runs: float | None = Field(
        default=None,
        ge=0,
        le=1440,
        description="minimum minutes between two runs of the sensor for the same partition of a bucket; 0: each tick"
        " may ask for one (default: six times pull_parse_interval, and less the more log keys wait)",
    )
    purge_parsed_keys: bool = Field(
        default=True, description="whether log keys are deleted after they are proved loaded"
    )
    purge_rejected: bool = Field(
        default=False,
        description="whether log keys with rejected lines are deleted too; a log key with an oversized line never is",
    )
    archive: ArchiveUrl | None = Field(
        default=None,
        description="a folder or s3:// URL to which records are written as Parquet before log keys are purged"
        " (default: none)",
    )
    lake: Lake | None = Field(
        default=None,
        description="a lake of records as Iceberg tables; its entries are below (default: none)",
    )
    quiet_seconds: float = Field(
        default=DEFAULT_QUIET_SECONDS,
        ge=0,
        description="seconds that a file in a folder of log keys must be unchanged before it is loaded; 0 if all"
        " files are known to be complete",
    )
    redact_query_secrets: bool = Field(
        default=True,
        description="whether signatures and credentials in stored URIs and referrers are replaced by a placeholder",
    )
    parser: Literal["compiled", "regex"] = Field(
        default="compiled",
        description="the parser: `compiled`, or `regex`, which gives the same records more slowly; a process that reads"
        " less than 1 MB uses `regex`, because loading the compiled parser takes longer",
    )
    retention_months: int | None = Field(
        default=None,
        ge=1,
        le=1200,
        description="how many months of records to keep, in addition to the current one (default: keep all)",
    )
    dagster_event_retention_days: int = Field(
        default=DEFAULT_DAGSTER_EVENT_DAYS,
        ge=1,
        le=36_500,
        description="days for which Dagster keeps the log lines, step events and compute logs of finished runs;"
        " materializations, observations and check results are kept",
    )
    rollup_rows: int = Field(
        default=DEFAULT_ROLLUP_ROWS,
        ge=100,
        le=10_000_000,
        description="maximum number of rows of single values in a day's rollup by key, address, requester, referrer or"
        " user agent; smaller values are folded into their prefix, network, role, host or product",
    )
    rollup_parts_days: int = Field(
        default=DEFAULT_ROLLUP_PARTS_DAYS,
        ge=1,
        le=36_500,
        description="how many days the partial sums of a day are kept after its last roll-up; a later load of that day"
        " reads its records again",
    )
    alarm_threshold: float = Field(
        default=DEFAULT_ALARM_THRESHOLD,
        gt=0,
        description="how many median absolute deviations above the usual make an hour's traffic an anomaly",
    )
    hog_share: float = Field(
        default=DEFAULT_HOG_SHARE,
        gt=0,
        le=1,
        description="the share of a bucket's bytes above which one consumer is a top talker; 1 means never",
    )
    load_connections: int = Field(
        default=DEFAULT_LOAD_CONNECTIONS,
        ge=1,
        le=8,
        description="how many database connections one pull loads with at the same time",
    )
    days_per_run: int = Field(
        default=DEFAULT_DAYS_PER_RUN,
        ge=1,
        le=366,
        description="the maximum number of days that one run of a backfill loads",
    )
    geoip_database: FileNames = Field(default=(), description="MMDB files that map addresses to countries and networks")
    prices: FileName | None = Field(
        default=None, description="the price list for cost estimates (default: the one in the package)"
    )
    reports: Path | None = Field(default=None, description="the folder for reports (default: `reports` in `home`)")
    anonymize_ips: bool = Field(default=False, description="whether reports replace IP addresses by pseudonyms")
    anonymize_key: str | None = Field(
        default=None,
        repr=False,
        min_length=16,
        description="the secret from which pseudonyms are made; set it to give an address the same pseudonym in every"
        " report (default: a new secret for each report)",
    )
    buckets: tuple[LoggedBucket, ...] = Field(default=(), description="the logged buckets")

    @field_validator("buckets")
    @classmethod
    def _check_distinct(cls, buckets: tuple[LoggedBucket, ...]) -> tuple[LoggedBucket, ...]:
        for name, count in Counter(bucket.name for bucket in buckets).items():
            if count > 1:
                raise ValueError(f"bucket '{name}' is listed {count} times; list each bucket once")
        return buckets

    @field_validator("buckets")
    @classmethod
    def _set_quiet_seconds(cls, buckets: tuple[LoggedBucket, ...], info: ValidationInfo) -> tuple[LoggedBucket, ...]:
        """Copy the global quiet_seconds into each bucket of a folder, because code that opens the folder has only the
        bucket.
        """
        seconds = info.data.get("quiet_seconds")
        return tuple(
            bucket.model_copy(update={"quiet_seconds": seconds})
            if bucket.log_folder is not None and bucket.quiet_seconds is None
            else bucket
            for bucket in buckets
        )

    @field_validator("buckets")
    @classmethod
    def _set_neighbours(cls, buckets: tuple[LoggedBucket, ...]) -> tuple[LoggedBucket, ...]:
        """Give each bucket its neighbours, because code that looks into a log bucket has only the bucket.

        It needs them to tell the bucket's log keys from the others'.
        """
        shared = [(each.log_bucket_name, each.endpoint_url) for each in buckets]
        placed = []
        for number, bucket in enumerate(buckets):
            copy = bucket.model_copy()
            copy._neighbours = tuple(
                (other.name, other.log_prefix)
                for place, (other, log_bucket) in enumerate(zip(buckets, shared, strict=True))
                if place != number and log_bucket == shared[number]
            )
            placed.append(copy)
        return tuple(placed)

    @field_validator("buckets")
    @classmethod
    def _check_archive(cls, buckets: tuple[LoggedBucket, ...], info: ValidationInfo) -> tuple[LoggedBucket, ...]:
        for bucket in buckets:
            place = bucket.archive or info.data.get("archive")
            log_keys = f"{normalize_place(bucket.log_bucket_name)}/{bucket.log_prefix}"
            if place and f"{normalize_place(place)}/".startswith(log_keys):
                raise ValueError(
                    f"archive: of bucket '{bucket.name}' lies under its log_prefix, where its files would be strays;"
                    " choose another place"
                )
        return buckets

    @field_validator("retention_months", mode="before")
    @classmethod
    def _refuse_flag(cls, value: object) -> object:
        if value is True:  # YAML's `true` would count as one month
            raise ValueError("must be a whole number of months; leave it out to keep all records")
        return value

    @model_validator(mode="before")
    @classmethod
    def _add_environment(cls, given: dict[str, Any]) -> dict[str, Any]:
        variables = {name.upper(): value for name, value in os.environ.items() if value}
        names = {name: f"{VARIABLE_PREFIX}{name.upper()}" for name in cls.model_fields}
        found: dict[str, Any] = {name: variables[each] for name, each in names.items() if each in variables}
        for name, kind in (("buckets", "a list of buckets"), ("lake", "an object")):  # those that are not scalars
            if name in found:
                try:
                    found[name] = json.loads(found[name])
                except ValueError:
                    raise SettingsError(f"{names[name]}: must be JSON: {kind} like the one in tamarin.yaml") from None
        return given | found

    @property
    def reports_folder(self) -> Path:
        """The folder for reports."""
        return self.reports or self.home / "reports"

    def bucket(self, name: str) -> LoggedBucket:
        """Return the bucket of that name. Raises SettingsError, which lists the configured names."""
        for bucket in self.buckets:
            if bucket.name == name:
                return bucket
        known = ", ".join(bucket.name for bucket in self.buckets) or "none"
        raise SettingsError(f"bucket '{name}' is not configured; configured buckets: {known}")

    @property
    def regions(self) -> dict[str, str]:
        """The regions of the buckets that set one; S3 delivers logs within a region."""
        return {bucket.name: bucket.region for bucket in self.buckets if bucket.region}

    def get_minutes_between_runs(self, bucket: LoggedBucket) -> float | None:
        """Return the minimum minutes between two runs for a partition; None if the backlog decides."""
        own = bucket.minutes_between_runs
        return self.minutes_between_runs if own is None else own

    def should_purge(self, bucket: LoggedBucket) -> bool:
        """Return whether the bucket's loaded log keys are deleted."""
        return self.purge_parsed_keys if bucket.purge_parsed_keys is None else bucket.purge_parsed_keys

    def archive_of(self, bucket: LoggedBucket) -> str | None:
        """Return the folder or URL that the bucket's records are archived in before a purge, or None.

        The lake's URL begins with LAKE_SCHEME.
        """
        return bucket.archive or self.archive or (self.lake.url if self.lake and self.lake.archives else None)

    def archives(self) -> dict[str, str]:
        """Return the archive of each bucket that has one, by bucket name."""
        return {bucket.name: url for bucket in self.buckets if (url := self.archive_of(bucket))}

    def should_purge_rejected(self, bucket: LoggedBucket) -> bool:
        """Return whether a purge of the bucket also deletes log keys with rejected lines."""
        return self.purge_rejected if bucket.purge_rejected is None else bucket.purge_rejected

    def get_alarm_threshold(self, bucket: LoggedBucket) -> float:
        """Return how many deviations above the usual make the bucket's traffic an anomaly."""
        return bucket.alarm_threshold or self.alarm_threshold

    def get_hog_share(self, bucket: LoggedBucket) -> float:
        """Return the share of the bucket's bytes above which a consumer is a top talker."""
        return bucket.hog_share or self.hog_share


def load_settings(config: Path | None = None, *, for_demo: bool = False, with_demo: bool = False) -> Settings:
    """Return the settings from `config`, or from $TAMARIN_CONFIG, or from ./tamarin.yaml, which may be missing.

    Relative paths count from the file's folder. While no bucket is configured, `home` is the demo's home if that
    exists, or if `for_demo` is true. If `with_demo` is true, the demo's settings, which have a bucket, are returned
    then. Raises SettingsError.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    path = config or Path(named or DEFAULT_CONFIG)
    entries: dict[str, Any] = {}
    if path.exists():
        entries = _read_yaml(path)
    elif config or named:
        raise SettingsError(f"{path}: no such file; --config or {CONFIG_VARIABLE} names it")
    return build_settings(path, entries, for_demo=for_demo, with_demo=with_demo)


def build_settings(path: Path, entries: dict[str, Any], *, for_demo: bool = False, with_demo: bool = False) -> Settings:
    """Return the settings made from the entries of the file `path`. See `load_settings`."""
    try:
        settings = Settings(**entries)
    except ValidationError as error:
        raise SettingsError("\n".join(_describe_errors(path, entries, error))) from None
    folder = path.absolute().parent
    placed: dict[str, Any] = {
        "home": _find_home(path, settings, for_demo=for_demo),
        "geoip_database": tuple(_resolve(folder, each) for each in settings.geoip_database),
        "prices": settings.prices and _resolve(folder, settings.prices),
        "reports": settings.reports and _resolve(folder, settings.reports),
    }
    if with_demo and not settings.buckets and is_demo_home(placed["home"]):
        return load_settings(placed["home"] / DEMO_CONFIG).model_copy(update={"home": placed["home"]})
    return settings.model_copy(update=placed)


def _find_home(path: Path, settings: Settings, *, for_demo: bool) -> Path:
    """Return the home in use. Every command has to agree on it."""
    home = _resolve(path.absolute().parent, settings.home)
    if not settings.buckets:
        demo = demo_home(home, is_set="home" in settings.model_fields_set)
        return demo if for_demo or is_demo_home(demo) else home
    if is_demo_home(home) and path.resolve() != home / DEMO_CONFIG:
        raise SettingsError(f"{path}: home: {home} is the demo's home; set another home for your own buckets")
    return home


def _resolve(folder: Path, path: Path) -> Path:
    return (folder / path.expanduser()).resolve()


class _GivenTwiceError(yaml.MarkedYAMLError):
    """An entry occurs twice in one mapping."""


class _Loader(yaml.SafeLoader):
    """Refuse an entry that occurs twice (YAML would silently take the last), and leave dates to the model."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the parent class
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _GivenTwiceError(
                    problem=f"'{_show_name(key)}' occurs twice; remove one of them", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        entries = yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = error.problem if isinstance(error, _GivenTwiceError) else _hide_values(error.problem)
        raise SettingsError(f"{path}:{line} is not valid YAML: {problem}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    except (TypeError, ValueError) as error:  # a mapping as a key, or a malformed number
        problem = _hide_values(str(error))
        raise SettingsError(f"{path}: is not valid YAML: {problem}; does it contain unfilled {{{{ }}}}?") from None
    if entries is None:
        return {}
    if not isinstance(entries, dict) or not all(isinstance(key, str) for key in entries):
        raise SettingsError(
            f"{path}: must hold settings as `name: value`; the settings are: {_list_settings(Settings)}"
        )
    return {key: value for key, value in entries.items() if value is not None}


def _hide_values(problem: str | None) -> str:
    """Return a YAML error's text without the texts that it quotes, because one of them may be a password."""
    return _QUOTED.sub("'…'", problem or "it cannot be read")


def _show_name(entry: object) -> str:
    """Return an entry's name if it looks like one. Without a space after the colon, a value would be shown."""
    return str(entry) if _NAME.fullmatch(str(entry)) else "(an entry whose name is not a setting)"


def _list_settings(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _describe_errors(path: Path, entries: dict[str, Any], error: ValidationError) -> list[str]:
    """Return one line for each wrong entry: where it is, what is wrong, what is allowed. Leave values out."""
    return [
        f"{_describe_place(path, entries, e['loc'])}: {_describe_problem(e['type'], e['msg'], e['loc'])}"
        for e in error.errors()
    ]


def _describe_place(path: Path, entries: dict[str, Any], loc: tuple[int | str, ...]) -> str:
    names = [_show_name(part) for part in loc]
    if len(loc) > 1 and loc[0] == "buckets" and isinstance(loc[1], int):
        listed = entries.get("buckets")
        entry = listed[loc[1]] if isinstance(listed, list) and loc[1] < len(listed) else None
        name = f" '{entry['name']}'" if isinstance(entry, dict) and isinstance(entry.get("name"), str) else ""
        names = [f"buckets[{loc[1]}]{name}", *names[2:]]
    variable = f"{VARIABLE_PREFIX}{_show_name(loc[0]).upper()}"
    return f"{variable if os.environ.get(variable) else path}: {': '.join(names)}"


def _describe_problem(kind: str, message: str, loc: tuple[int | str, ...]) -> str:
    if kind == "extra_forbidden":
        model: type[BaseModel] = Settings if len(loc) == 1 else Lake if loc[0] == "lake" else LoggedBucket
        close = difflib.get_close_matches(str(loc[-1]), model.model_fields, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"unknown setting{hint}; the settings are: {_list_settings(model)}"
    if kind == "missing" and loc[0] == "lake":
        return "is missing; a lake needs a warehouse: a folder, or an s3:// URL"
    if kind == "missing":
        return "is missing; every bucket needs a name and a log_bucket_name"
    if kind.startswith("date"):
        return "must be a day that exists, like 2026-01-31"
    return message.removeprefix("Value error, ").removeprefix("Input ")
