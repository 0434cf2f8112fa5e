"""Dagster as a person starts it, and its page as a browser asks it."""

import contextlib
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ingest.stage import COMMAND, Stage

_PORT = 3_300
_START_SECONDS = 180
_STOP_SECONDS = 120
_POLL_SECONDS = 0.25
_TOLD_BYTES = 3_000
_ADDRESS = re.compile(r"^(http://\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """Dagster's page, with its daemon and its code server behind it. What they say is in the file `log`."""

    url: str
    log: Path

    def told(self) -> str:
        """The end of what Dagster says."""
        return self.log.read_text("utf-8", "replace")[-_TOLD_BYTES:]

    def ask(self, query: str, **variables: Any) -> Any:
        """The answer's only field. An error ends the measurement."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise SystemExit(f"the page answers {error}: {error.read()[:_TOLD_BYTES]!r}") from None
        (found,) = answer["data"].values() if answer.get("data") else (None,)
        if answer.get("errors") or (isinstance(found, dict) and "message" in found):
            raise SystemExit(f"the page answers {answer}")
        return found

    def backfill(self, bucket: str, partitions: Sequence[str]) -> str:
        """Launches a backfill of a bucket's assets, as their page does; returns its id."""
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
        """Cancels a backfill, as its page does."""
        self.ask(
            "mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) {"
            " ... on CancelBackfillSuccess { backfillId } ... on Error { message } } }",
            id=backfill,
        )

    def status(self, backfill: str) -> str:
        """How a backfill stands."""
        found = self.ask(
            "query($id: String!) { partitionBackfillOrError(backfillId: $id) {"
            " ... on PartitionBackfill { status } ... on Error { message } } }",
            id=backfill,
        )
        return str(found["status"])


@contextlib.contextmanager
def dagster_page(staged: Stage) -> Iterator[Page]:
    """Dagster as `make dev` starts it; it is ended whatever happens."""
    log = staged.folder / "dev.log"
    with log.open("wb") as out:
        # a session of its own: a ctrl-C in the terminal is for us, and it would take a second one for an end in haste
        process = subprocess.Popen(
            [*COMMAND, "dev", "--port", str(_PORT)], stdout=out, stderr=out, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (found := _ADDRESS.search(log.read_text("utf-8", "replace"))):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"Dagster did not start. It says:\n{Page('', log).told()}")
            time.sleep(_POLL_SECONDS)
        yield Page(found[1], log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
