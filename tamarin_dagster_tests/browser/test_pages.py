"""What users see in the Dagster UI, and the effect of their clicks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tamarin_dagster.logformat import FIELDS
from tamarin_dagster.orchestration.asset_checks import EVERY_KEY_IS_LOADED, NO_REJECTED_LINES, NO_STRAY_KEYS
from tamarin_dagster_tests.browser.hostile import LINKS, MARKUP, PRESS, SECRET
from tamarin_dagster_tests.browser.site import (
    MEDIA,
    MEDIA_GROUP,
    PHOTOS,
    PHOTOS_GROUP,
    PRESS_GROUP,
    SHOP,
    SHOP_GROUP,
    SHOP_LOG_BUCKET,
    Site,
)
from tamarin_dagster_tests.browser.watching import Picture, watched_page

# The first test waits for all that it takes to start.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

LOCATION = "/locations/tamarin_dagster"
GRAPH = f"{LOCATION}/asset-groups/{MEDIA_GROUP}/lineage"
SENSOR = f"{LOCATION}/sensors/{MEDIA_GROUP}__new_log_keys"
# Days of the history that no sensor looks at: from and to so many days ago.
BACKFILLED = (12, 8)
# Dagster looks at its backfills each 30 s: once to launch their runs, once to see that these have ended.
BACKFILL_SECONDS = 150


def asset(group: str, name: str, view: str = "overview", **query: str) -> str:
    """The address of an asset's page."""
    more = "".join(f"&{key}={value}" for key, value in query.items())
    return f"/assets/{group}/{name}?view={view}{more}"


def value_of(page: Page, name: str) -> Locator:
    """Return the value next to a name in a table of metadata."""
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))
    return row.get_by_role("cell").nth(1)


def button(page: Page, name: str) -> Locator:
    """A button of the dialog that is open, else of the page."""
    return page.get_by_role("button", name=name, exact=True).last


def ledger_of(site: Site, day: date) -> tuple[Any, ...]:
    """Of the demo's keys of a day, as the ledger has them: keys, lines, records, rejected lines, bytes."""
    query = "SELECT count(*), sum(line_count), sum(record_count), sum(rejected_count), sum(size) FROM s3_log_key"
    return site.records(f"{query} WHERE bucket = %s AND delivery_date = %s", MEDIA, day)[0]


@dataclass(frozen=True)
class Backfill:
    """A backfill, and how many lines each log key of its days had before."""

    id: str
    first: date
    last: date
    lines: Mapping[str, int]


@pytest.fixture(scope="module")
def backfill(browser: Browser, site: Site) -> Backfill:
    """Launched by clicking, on both of the demo's assets; it goes on while other tests run."""
    first, last = map(site.day, BACKFILLED)
    lines = site.delivered(first, last)
    with watched_page(browser, site) as page:
        page.goto(GRAPH)
        page.get_by_role("button", name="Materialize all (3)…").click()
        dialog = page.locator(".dagster-portal").filter(has_text="Launch runs to materialize 3 assets")
        days = dialog.get_by_role("textbox").first
        days.fill(f"[{first}...{last}]")
        days.press("Enter")
        expect(dialog.get_by_text("5 partitions")).to_be_visible()
        Picture(page).keep("backfill")
        dialog.get_by_role("button", name="Launch backfill").click()
        created = page.get_by_text(re.compile(r"Created backfill \w+"))
        expect(created).to_be_visible()
        return Backfill(created.inner_text().split()[2], first, last, lines)


def test_a_backfill_is_launched_by_clicking(page: Page, backfill: Backfill) -> None:
    """Start the backfill. A later test checks its result, because it takes a minute."""
    page.goto(f"/runs/b/{backfill.id}")
    expect(page.get_by_text(f"{backfill.first}...{backfill.last}")).to_be_visible()


def test_a_run_that_fails_says_which_bucket_and_what_to_do(page: Page, site: Site) -> None:
    page.goto(asset(SHOP_GROUP, "log_records"))
    page.get_by_role("button", name="Materialize…").click()
    page.get_by_role("button", name="Latest", exact=True).last.click()
    page.get_by_role("button", name="Launch 1 run", exact=True).click()
    failed = "SELECT run_id FROM runs WHERE status = 'FAILURE' AND run_body LIKE %s"
    ((run,),) = site.wait_for("a run that fails", lambda: site.dagster(failed, f"%{SHOP_GROUP}%"))
    page.goto(f"/runs/{run}")
    reported = page.get_by_text(
        f"bucket {SHOP}: log bucket {SHOP_LOG_BUCKET} (prefix 'shop/'): there is no such bucket;"
        " check log_bucket_name, region and endpoint_url"
    )
    expect(reported.first).to_be_visible()


def test_a_sensor_tells_of_each_tick_what_it_saw(page: Page, site: Site, picture: Picture) -> None:
    site.wait_until_loaded(MEDIA)
    page.goto(SENSOR)
    expect(page.get_by_text(f"Looks for log keys of {MEDIA} that are not loaded")).to_be_visible()
    expect(page.get_by_text(re.compile("0 runs requested")).first).to_be_visible()
    picture.keep("sensor")

    page.get_by_role("button", name=re.compile(r"^[1-9]\d* runs? requested$")).last.click()
    dialog = page.locator(".dagster-portal")
    expect(dialog.get_by_text("Requested materializations")).to_be_visible()
    expect(dialog.get_by_text(f"{MEDIA_GROUP} / log_records").first).to_be_visible()
    expect(dialog.get_by_text(re.compile(r"^[1-9]\d* materializations? requested$")).first).to_be_visible()
    button(page, "Close").click()

    page.get_by_role("button", name="0 runs requested").last.click()
    story = dialog.get_by_text(re.compile(r"Skip reason:.*\d+ log keys? in \d+ day.*: \d+ loaded, \d+ new"))
    expect(story).to_be_visible()


def test_the_records_page_tells_of_a_day_what_was_loaded(page: Page, site: Site, picture: Picture) -> None:
    site.wait_until_loaded(MEDIA)
    yesterday = site.day(1)
    keys, lines, records, rejected, size = ledger_of(site, yesterday)
    assert keys > 0
    page.goto(asset(MEDIA_GROUP, "log_records", "partitions", partition=yesterday.isoformat()))
    expect(page.get_by_text("22 Partitions Selected")).to_be_visible()
    expect(page.get_by_text("Materialized", exact=True)).to_be_visible()
    named = {"keys": keys, "lines": lines, "rows": records, "rejected lines": rejected, "bytes": size}
    for name, value in named.items():
        expect(value_of(page, name)).to_have_text(re.compile(f"^{value}"))
    expect(value_of(page, "lines/s")).to_have_text(re.compile(r"^\d+"))
    expect(value_of(page, "first request")).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
    picture.keep("records")


def test_the_records_page_explains_each_column_and_plots_what_was_loaded(page: Page, site: Site) -> None:
    site.wait_until_loaded(MEDIA)
    page.goto(asset(MEDIA_GROUP, "log_records"))
    expect(page.get_by_text("tamarin.public.s3_log_record").first).to_be_visible()
    for field in FIELDS:
        row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=field.name, exact=True))
        expect(row).to_contain_text(field.meaning)
    page.get_by_text("Plots", exact=True).click()
    for name in ("lines", "rows", "bytes", "lines/s"):
        expect(page.get_by_text(name, exact=True).last).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()


def test_a_check_says_what_it_states_and_what_it_found_of_each_day(page: Page, site: Site) -> None:
    site.wait_until_loaded(MEDIA)
    page.goto(asset(MEDIA_GROUP, "log_records", "checks", checkDetail=NO_REJECTED_LINES))
    expect(page.get_by_text("Each line that is not blank became a record.")).to_be_visible()
    expect(page.get_by_text("After an upgrade, the job reparse_rejected_lines parses them again.")).to_be_visible()
    page.get_by_role("tab", name="Partitions").last.click()
    for day in (site.day(1), site.day(2)):
        page.get_by_text(day.isoformat(), exact=True).first.click()
        rejected = ledger_of(site, day)[3]
        expect(page.get_by_text("Failed" if rejected else "Passed", exact=True).last).to_be_visible()
        expect(value_of(page, "rejected lines")).to_have_text(str(rejected))


def test_a_failing_check_shows_what_failed_in_a_table(page: Page, site: Site, picture: Picture) -> None:
    site.wait_until_loaded(PRESS)
    page.goto(asset(PRESS_GROUP, "log_records", "checks", checkDetail=EVERY_KEY_IS_LOADED))
    expect(page.get_by_text("the metadata names the log keys that were skipped")).to_be_visible()
    table = page.get_by_role("table").filter(has_text="error")
    expect(table.get_by_text(re.compile(r"-000000000000000B\.gz$"))).to_be_visible()
    expect(table.get_by_text("gzip data of 56 bytes is corrupt")).to_be_visible()
    picture.keep("check")


def test_what_somebody_hostile_wrote_is_shown_as_text_or_not_at_all(page: Page, site: Site) -> None:
    """Of names, markup and links are text, and control characters are spelt; of a line only its shape is shown."""
    site.wait_until_loaded(PRESS)
    shown = []
    page.goto(asset(PRESS_GROUP, "log_records", "checks", checkDetail=NO_STRAY_KEYS))
    for text in (MARKUP, LINKS, r"\x1b[31mred"):
        expect(page.get_by_text(text).last).to_be_visible()
    shown.append(page.content())
    page.goto(asset(PRESS_GROUP, "log_records", "checks", checkDetail=NO_REJECTED_LINES))
    expect(value_of(page, "rejected lines")).to_have_text("1")
    # the line's shape: it may hold anything
    expect(page.get_by_text("[99/aaa/9999:99:99:99").last).to_be_visible()
    shown.append(page.content())
    (run,) = site.dagster("SELECT min(run_id) FROM run_tags WHERE key = 'tamarin/bucket' AND value = %s", PRESS)[0]
    page.goto(f"/runs/{run}")
    expect(page.get_by_text(re.compile("STEP_SUCCESS|RUN_SUCCESS")).first).to_be_visible()
    shown.append(page.content())

    for content in shown:
        assert SECRET not in content
        assert "\x1b" not in content
        assert not re.search(r"<(script|img)[^>]*(alert|src=\"?x\b|evil)|href=\"[^\"]*evil", content)


def test_a_backfill_loads_each_key_of_its_days_once_in_one_run(page: Page, site: Site, backfill: Backfill) -> None:
    status = "SELECT status FROM bulk_actions WHERE key = %s"
    done = [("COMPLETED_SUCCESS",)]
    site.wait_for("the backfill", lambda: site.dagster(status, backfill.id) == done, BACKFILL_SECONDS)

    runs = "SELECT status FROM runs JOIN run_tags USING (run_id) WHERE key = 'dagster/backfill' AND value = %s"
    assert site.dagster(runs, backfill.id) == [("SUCCESS",)]
    of_the_days = "bucket = %s AND delivery_date BETWEEN %s AND %s"
    days = (MEDIA, backfill.first, backfill.last)
    assert dict(site.records(f"SELECT key, line_count FROM s3_log_key WHERE {of_the_days}", *days)) == backfill.lines
    rows = f"SELECT count(*) FROM s3_log_record WHERE log_key_id IN (SELECT id FROM s3_log_key WHERE {of_the_days})"
    sums = f"SELECT sum(line_count - rejected_count - blank_count) FROM s3_log_key WHERE {of_the_days}"
    assert site.records(rows, *days) == site.records(sums, *days)
    unpurged = f"SELECT count(*) FROM s3_log_key WHERE {of_the_days} AND purged_at IS NULL AND rejected_count = 0"
    assert site.records(unpurged, *days) == [(0,)]

    page.goto(f"/runs/b/{backfill.id}")
    expect(page.get_by_text("100% completed")).to_have_count(3)


def test_the_graph_shows_what_is_delivered_loaded_purged_and_rolled_up_in_this_order(page: Page, site: Site) -> None:
    site.wait_until_loaded(MEDIA)
    page.set_viewport_size({"width": 1500, "height": 600})  # five assets are a wide picture, not a high one
    page.goto(GRAPH)
    expect(page.get_by_text("Asset Group in tamarin_dagster")).to_be_visible()
    places = []
    for name in ("delivered_log_keys", "log_records", "purged_log_keys", "traffic_rollups", "traffic"):
        node = page.get_by_text(name, exact=True)
        expect(node).to_be_visible()
        places.append(node.bounding_box()["x"])
    assert places == sorted(places)
    for kind, assets in (("S3", 4), ("Postgres", 2), ("pandas", 1)):
        expect(page.get_by_text(kind, exact=True)).to_have_count(assets)
    expect(page.get_by_text(re.compile(r"^[1-9]\d*% filled"))).to_have_count(3)  # nothing materializes the first


def test_each_check_of_a_bucket_with_which_nothing_is_wrong_has_run_and_passes(
    page: Page, site: Site, picture: Picture
) -> None:
    """The picture of the README once showed checks that had not run: 0 / 4 Passed."""
    site.wait_until_loaded(PHOTOS)
    launch = """mutation ($job: String!) {
        launchRun(executionParams: {
            selector: {
                jobName: $job, repositoryName: "__repository__", repositoryLocationName: "tamarin_dagster"
            }
            runConfigData: "{}", mode: "default"
        }) {__typename}
    }"""
    jobs = ["watch_buckets", "check_last_days"]
    for job in jobs:
        asked = {"query": launch, "variables": {"job": job}}
        answer = page.request.post("/graphql", data=asked).json()
        assert answer == {"data": {"launchRun": {"__typename": "LaunchRunSuccess"}}}
    ended = "SELECT count(DISTINCT pipeline_name) FROM runs WHERE pipeline_name = ANY (%s) AND status = 'SUCCESS'"
    site.wait_for("the jobs of the checks", lambda: site.dagster(ended, jobs) == [(len(jobs),)])

    page.set_viewport_size({"width": 1500, "height": 600})
    page.goto(f"{LOCATION}/asset-groups/{PHOTOS_GROUP}/lineage")
    # of delivered_log_keys and traffic, of log_records, and of traffic_rollups
    for passed, assets in (("5 / 5 Passed", 2), ("6 / 6 Passed", 1), ("1 / 1 Passed", 1)):
        expect(page.get_by_text(passed, exact=True)).to_have_count(assets)
    expect(page.get_by_text(re.compile("Passed$"))).to_have_count(4)
    expect(page.get_by_text(re.compile("^100% filled"))).to_have_count(3)
    picture.keep("assets")
