"""A client of the Dagster UI: GraphQL over HTTP, like a browser."""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tamarin_dagster.orchestration.naming import ASSET_JOB
from tamarin_dagster.orchestration.selections import load_selection
from tamarin_dagster.settings import LoggedBucket, Settings

_LOCATION = "tamarin_dagster"
_ENDED = ("COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED")
_TOLD_BYTES = 3_000


class PageError(Exception):
    """The UI answered with an error."""


@dataclass(frozen=True)
class Page:
    """The UI at this address, with the actions of a user."""

    url: str

    def ask(self, query: str, **variables: Any) -> Any:
        """Return the only field of the answer. Raises PageError."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise PageError(f"the UI answers {error}: {error.read()[:_TOLD_BYTES]!r}") from None
        if answer.get("errors"):
            raise PageError(f"the UI answers {answer['errors']}")
        (found,) = answer["data"].values()
        if isinstance(found, dict) and "message" in found:
            raise PageError(f"the UI answers {found['message']}")
        return found

    def backfill(self, bucket: str, partitions: Sequence[str]) -> str:
        """Launch a backfill of a bucket's assets, and return its id."""
        launched = self.ask(
            "mutation($given: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $given) {"
            " ... on LaunchBackfillSuccess { backfillId } ... on Error { message } } }",
            given={
                "assetSelection": [{"path": [bucket, name]} for name in ("log_records", "purged_log_keys")],
                "partitionNames": list(partitions),
            },
        )
        return str(launched["backfillId"])

    def cancel(self, backfill: str) -> None:
        """Cancel a backfill."""
        self.ask(
            "mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) {"
            " ... on CancelBackfillSuccess { backfillId } ... on Error { message } } }",
            id=backfill,
        )

    def status(self, backfill: str) -> str:
        """Return the status of a backfill."""
        found = self.ask(
            "query($id: String!) { partitionBackfillOrError(backfillId: $id) {"
            " ... on PartitionBackfill { status } ... on Error { message } } }",
            id=backfill,
        )
        return str(found["status"])

    def has_ended(self, backfill: str) -> bool:
        """Return whether a backfill has ended, with any status."""
        return self.status(backfill) in _ENDED

    def launch(self, slug: str, first: str, last: str) -> str:
        """Launch one load of a bucket's days from `first` to `last`, and return the id of the run."""
        bucket = LoggedBucket(name="any-bucket", log_bucket_name="log-bucket")
        selection = load_selection(bucket, slug, Settings(buckets=(bucket,)))
        checks = [{"assetKey": {"path": list(key.asset_key.path)}, "name": key.name} for key in selection.checks]
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        launched = self.ask(
            "mutation($given: ExecutionParams!) { launchRun(executionParams: $given) {"
            " ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } ... on Error { message } } }",
            given={
                "selector": {
                    "jobName": ASSET_JOB,
                    "assetSelection": [{"path": list(key.path)} for key in selection.assets],
                    "assetCheckSelection": checks,
                    "repositoryName": "__repository__",
                    "repositoryLocationName": _LOCATION,
                },
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
            },
        )
        return str(launched["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        """Cancel a run."""
        self.ask(
            "mutation($id: String!) { terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) {"
            " ... on TerminateRunFailure { message } ... on Error { message } } }",
            id=run_id,
        )

    def runs(self) -> list[dict[str, Any]]:
        """Return all runs, the oldest first: runId, status, tags (a dict), startTime, endTime."""
        fields = "runId status startTime endTime tags { key value }"
        found = self.ask(f"{{ runsOrError {{ ... on Runs {{ results {{ {fields} }} }} }} }}")["results"]
        return [run | {"tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in reversed(found)]

    def why(self, run_id: str) -> str:
        """Return the messages of a run's events."""
        found = self.ask(
            "query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {"
            " ... on MessageEvent { message } } } } }",
            id=run_id,
        )
        return "\n".join(str(event.get("message")) for event in found["events"])
