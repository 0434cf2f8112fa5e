"""A `tamarin-dagster dev` on a world's own home, driven as its page drives it: by GraphQL over HTTP."""

import contextlib
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tamarin_dagster.failpoints import VARIABLE
from tamarin_dagster.orchestration.selections import load_selection
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster_tests.chaos.histories import DAYS
from tamarin_dagster_tests.chaos.matrix import UnexpectedError
from tamarin_dagster_tests.chaos.worlds import World
from tamarin_dagster_tests.dev_process import DevProcess, descendants, dev_process

PARTITIONS = [f"2026-03-{day:02}" for day in DAYS]
JOB = "__ASSET_JOB"
LOADS = "media__log_records"
"""The step that loads."""

_SENSOR = "media__new_log_keys"
_BUCKET = LoggedBucket(name="media", log_bucket_name="log-bucket")
_SELECTION = load_selection(_BUCKET, "media", Settings(buckets=(_BUCKET,)))
_RECORDS, _PURGED = {"path": ["media", "log_records"]}, {"path": ["media", "purged_log_keys"]}
_LOADED = [{"path": list(key.path)} for key in _SELECTION.assets]
_CHECKED = [{"assetKey": {"path": list(key.asset_key.path)}, "name": key.name} for key in _SELECTION.checks]
_REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "tamarin_dagster"}
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
_RUN_FIELDS = "runId jobName status tags { key value } stepStats { stepKey startTime endTime }"

Found = TypeVar("Found")


@dataclass(frozen=True)
class Run:
    """A run as the page shows it; `loading` is the time that its loading step took: from, to (now, if it goes on)."""

    id: str
    status: str
    tags: dict[str, str]
    loading: tuple[float, float] | None

    @property
    def ended(self) -> bool:
        """Return whether it has ended."""
        return self.status in _ENDED

    @property
    def by(self) -> str:
        """Return who requested it: the sensor, a backfill, Dagster itself (after a dead run), or a user."""
        if "dagster/backfill" in self.tags:
            return "backfill"
        if "dagster/parent_run_id" in self.tags:
            return "retry"
        return "sensor" if "dagster/sensor_name" in self.tags else "page"

    def overlaps(self, other: "Run") -> bool:
        """Return whether both were in their loading steps at the same time."""
        if self.loading is None or other.loading is None:
            return False
        return max(self.loading[0], other.loading[0]) < min(self.loading[1], other.loading[1])


@dataclass(frozen=True)
class CheckResult:
    """The result of a check for a partition in a run."""

    name: str
    partition: str
    status: str
    severity: str

    @property
    def fine(self) -> bool:
        """Return whether it passed, or only warns."""
        return self.status == "SUCCEEDED" or (self.status == "FAILED" and self.severity == "WARN")


class Page:
    """The Dagster UI, with its daemon and its code server."""

    def __init__(self, world: World, started: DevProcess) -> None:
        self.world = world
        self.process = started.process
        self.reported = started.reported
        self._url = f"{started.page()}/graphql"

    def ask(self, query: str, **variables: Any) -> Any:
        """The answer's only field. Raises UnexpectedError if it is an error."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        if answer.get("errors"):
            raise UnexpectedError(f"the page answers {answer['errors']}")
        (field,) = answer["data"].values()
        if isinstance(field, dict) and "message" in field:
            raise UnexpectedError(f"the page answers {field['message']}")
        return field

    def launch(self, first: str, last: str = "") -> str:
        """Launch the load of a day, or of all days from `first` to `last`; return the run's id."""
        tags = {"dagster/partition": first}
        if last:
            tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        launched = self.ask(
            "mutation($given: ExecutionParams!) { launchRun(executionParams: $given) {"
            " ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } ... on Error { message } } }",
            given={
                "selector": {"jobName": JOB, "assetSelection": _LOADED, "assetCheckSelection": _CHECKED, **_REPOSITORY},
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
            },
        )
        return str(launched["run"]["runId"])

    def backfill(self, partitions: Sequence[str]) -> None:
        """Launch a backfill of both assets."""
        self.ask(
            "mutation($given: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $given) {"
            " ... on LaunchBackfillSuccess { backfillId } ... on Error { message } } }",
            given={"assetSelection": [_RECORDS, _PURGED], "partitionNames": list(partitions)},
        )

    def terminate(self, run_id: str) -> None:
        """Cancel a run, safely."""
        self.ask(
            "mutation($id: String!) { terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) {"
            " ... on TerminateRunFailure { message } ... on Error { message } } }",
            id=run_id,
        )

    def start_sensor(self) -> None:
        """Turns the sensor on."""
        self.ask(
            "mutation($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) { ... on Error { message } } }",
            sensor={"sensorName": _SENSOR, **_REPOSITORY},
        )

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        found = self.ask(f"{{ runsOrError {{ ... on Runs {{ results {{ {_RUN_FIELDS} }} }} }} }}")
        return [_run(each) for each in found["results"]]

    def run(self, run_id: str) -> Run:
        """One run."""
        return next(run for run in self.runs() if run.id == run_id)

    def process_id(self, run_id: str) -> int:
        """The process that a run has, as its events tell."""
        found = self.ask(
            "query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {"
            " ... on MessageEvent { message } } } } }",
            id=run_id,
        )
        reported = "\n".join(str(event.get("message")) for event in found["events"])
        if not (pid := re.search(r"Started process for run \(pid: (\d+)\)", reported)):
            raise UnexpectedError(f"no event names the process: {reported}")
        return int(pid[1])

    def why(self, run: Run) -> str:
        """Return who requested a run, its status, and the errors in its events."""
        found = self.ask(
            "query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {"
            " ... on MessageEvent { message level }"
            " ... on ErrorEvent { error { message causes { message } } } } } } }",
            id=run.id,
        )
        errors = [
            f"{event['message']} {event.get('error') or ''}"
            for event in found["events"]
            if event.get("level") in ("ERROR", "CRITICAL") or event.get("error")
        ]
        return f"{run.by} {run.status}: {'; '.join(errors)}"

    def check_results(self, partition: str) -> list[CheckResult]:
        """Return all results of each check for a partition."""
        checks = self.ask(
            "query($asset: AssetKeyInput!) { assetNodeOrError(assetKey: $asset) {"
            " ... on AssetNode { assetChecksOrError { ... on AssetChecks { checks { name jobNames } } } } } }",
            asset=_RECORDS,
        )["assetChecksOrError"]["checks"]
        results = []
        for name in (check["name"] for check in checks if JOB in check["jobNames"]):
            found = self.ask(
                "query($asset: AssetKeyInput!, $name: String!, $partition: String!) {"
                " assetCheckExecutions(assetKey: $asset, checkName: $name, partition: $partition, limit: 50) {"
                " status evaluation { severity } } }",
                asset=_RECORDS, name=name, partition=partition,
            )  # fmt: skip
            results += [
                CheckResult(name, partition, each["status"], (each["evaluation"] or {}).get("severity", ""))
                for each in found
            ]
        return results

    def wait_for(self, what: str, probe: Callable[[], Found | None], seconds: float = 120) -> Found:
        """Wait until the probe finds something, and return it. Raises UnexpectedError with the state of the runs."""
        deadline = time.monotonic() + seconds
        while not (found := probe()):
            if time.monotonic() > deadline or self.process.poll() is not None:
                stand = [(run.by, run.status) for run in self.runs()] if self.process.poll() is None else "no page"
                raise UnexpectedError(f"{what}: not within {seconds} s; the runs: {stand}; it says: {self.reported()}")
            time.sleep(0.25)
        return found

    def wait_until_ended(self, run_id: str) -> Run:
        """A run, when it is over."""
        return self.wait_for("the run's end", lambda: run if (run := self.run(run_id)).ended else None)

    def wait_until_loading(self) -> None:
        """Until a transaction of a load is open, and sleeps at an armed fail point."""
        self.wait_for("a load under way", lambda: self.world.rows(_LOADING))

    def daemon_process_id(self) -> int:
        """The process of Dagster's daemon."""
        daemons = self._processes(b"dagster._daemon")
        if len(daemons) != 1:
            raise UnexpectedError(f"the daemon's processes: {daemons}")
        return daemons[0]

    def code_servers(self) -> list[int]:
        """The processes that have loaded our code: one, or none while it is down."""
        return self._processes(b"\0api\0grpc\0")

    def _processes(self, argument: bytes) -> list[int]:
        return [pid for pid in descendants(self.process.pid) if argument in _arguments(pid)]


_LOADING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tamarin'"
    " AND state = 'idle in transaction' AND query ~* '(insert|copy|s3_log_key)'"
)


@contextlib.contextmanager
def dagster_page(world: World, failpoint: str = "") -> Iterator[Page]:
    """`tamarin-dagster dev`, on the world's settings, as a person starts it; it is ended whatever happens."""
    environment = _CREDENTIALS | ({VARIABLE: failpoint} if failpoint else {})
    with dev_process(world.config, world.folder / "dev.log", environment) as started:
        yield Page(world, started)


def _run(found: Any) -> Run:
    spans = [
        (step["startTime"], step["endTime"] or time.time())
        for step in found["stepStats"]
        if step["stepKey"] == LOADS and step["startTime"]
    ]
    tags = {tag["key"]: tag["value"] for tag in found["tags"]}
    return Run(found["runId"], found["status"], tags, spans[0] if spans else None)


def _arguments(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
