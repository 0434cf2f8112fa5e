"""The sensors that the page on alerting hands out, on runs that failed and checks that did not pass."""

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest

from tamarin_dagster.homes import CONFIG_VARIABLE
from tamarin_dagster_tests.docs.blocks import blocks_of
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.runs import job_of

DAY = "2026-03-05"


@pytest.fixture
def reported(monkeypatch) -> Iterator[list[str]]:
    """The messages that the webhook received."""
    texts: list[str] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("ALERT_WEBHOOK", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield texts
    server.shutdown()
    server.server_close()


@pytest.fixture
def alerts(tmp_path, monkeypatch, log_folder, database_url):
    """The page's module, on a bucket in a folder."""
    (block,) = [block for block in blocks_of("docs/how-to/alerting.md") if block.title == "alerts.py"]
    (tmp_path / "alerts.py").write_text(block.text)
    (tmp_path / "tamarin.yaml").write_text(
        f"database_url: '{database_url}'\nbuckets:\n"
        f"  - {{name: media, log_bucket_name: '{log_folder.as_uri()}', log_prefix: logs/, start_date: 2026-01-01}}\n"
    )
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "tamarin.yaml"))
    spec = importlib.util.spec_from_file_location("alerts", tmp_path / "alerts.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def look(alerts, sensor: str, kind: dg.DagsterEventType) -> None:
    """Run the load job of a day, then the sensor on it, like the daemon."""
    with dg.DagsterInstance.ephemeral() as instance:
        run_id = load(alerts, instance, DAY)
        (entry,) = instance.all_logs(run_id, of_type=kind)
        run = instance.get_run_by_id(run_id)
        getattr(alerts, sensor)(dg.build_run_status_sensor_context(sensor, entry.dagster_event, instance, run))


def load(alerts, instance: dg.DagsterInstance, day: str) -> str:
    tags = {"tamarin/bucket": "media", "tamarin/kind": "load"}
    return (
        job_of(alerts.defs, "load")
        .execute_in_process(partition_key=day, tags=tags, instance=instance, raise_on_error=False)
        .run_id
    )


def tick(alerts, instance: dg.DagsterInstance, cursor: str | None) -> str | None:
    """Evaluate the sensor `failed_runs` once and return its cursor."""
    context = dg.build_sensor_context(instance, cursor)
    alerts.failed_runs(context)
    return context.cursor


def test_a_check_that_warns_is_told(alerts, reported, put_key) -> None:
    put_key(lines(2) + b"no record\n")

    look(alerts, "failed_checks", dg.DagsterEventType.PIPELINE_SUCCESS)

    assert reported == [f"WARN: no_rejected_lines of media/log_records {DAY}"]


def test_of_checks_that_pass_nothing_is_told(alerts, reported, put_key) -> None:
    put_key(lines(2))

    look(alerts, "failed_checks", dg.DagsterEventType.PIPELINE_SUCCESS)

    assert reported == []


def test_runs_that_fail_together_are_told_in_one_message_and_once(alerts, reported, log_folder) -> None:
    log_folder.rmdir()
    with dg.DagsterInstance.ephemeral() as instance:
        load(alerts, instance, "2026-03-01")
        cursor = tick(alerts, instance, None)
        assert reported == []  # what failed before the sensor was turned on
        for day in ("2026-03-05", "2026-03-06", "2026-03-07"):
            load(alerts, instance, day)

        cursor = tick(alerts, instance, cursor)
        (text,) = reported
        assert text.startswith(
            "3 failed: load of media 2026-03-05, load of media 2026-03-06, load of media 2026-03-07: "
        )
        assert "\n" not in text

        tick(alerts, instance, cursor)
        assert len(reported) == 1


def test_what_was_told_the_time_before_is_no_news() -> None:
    (block,) = [block for block in blocks_of("docs/how-to/alerting.md") if "def is_news" in block.text]
    page: dict = {}
    exec(block.text, page)
    key = dg.AssetCheckKey(dg.AssetKey("traffic"), "usual")
    results = [True, False, False, True]
    left = iter(results)

    @dg.asset_check(asset=key.asset_key, name=key.name)
    def usual() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=next(left))

    definitions = dg.Definitions(assets=[dg.AssetSpec(key.asset_key)], asset_checks=[usual])
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        news = []
        for _ in results:
            job.execute_in_process(instance=instance)
            news.append(page["is_news"](instance, key, None))
    assert news == [True, True, False, True]
