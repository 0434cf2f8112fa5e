"""Time Dagster's UI with many buckets: `python -m benchmarks.ui [--buckets 300] [--screenshots FOLDER]`.

`tamarin-dagster dev` runs on a fresh home. It is timed until the UI answers and until each sensor has ticked once; then
headless Chromium opens the UI's pages, each in a new browser context, until the last bucket's name is there.
"""

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from playwright.sync_api import Browser, sync_playwright

from benchmarks.command_line import command_line, show
from benchmarks.dagster_page import Page
from benchmarks.ingest.dev import dev
from benchmarks.ingest.stage import stage
from benchmarks.sheet import Sheet
from tamarin_dagster.demo.endpoint import free_port
from tamarin_dagster.homes import CONFIG_VARIABLE

_PAGES = {
    "group list": ("/locations/tamarin_dagster/assets", "bucket_0000"),
    "automation": ("/automation", "bucket_0000__new_log_keys"),
    "asset catalog": ("/assets", "bucket_0000"),
}
_ROUND_SECONDS = 1_200
_PAGE_MILLISECONDS = 180_000
_TICKS = """
{ sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "tamarin_dagster"}) {
    ... on Sensors { results { name sensorState { ticks(limit: 1) { status } } } }
} }
"""


def main() -> None:
    """Print a table of seconds."""
    parser = command_line(__doc__)
    parser.add_argument("--buckets", type=int, default=300)
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of the pages")
    options = parser.parse_args()
    rows: list[list[str]] = []
    with stage() as staged:
        config = Path(staged.folder / "tamarin.yaml")
        buckets = []
        for number in range(options.buckets):
            (staged.folder / "logs" / f"{number:04}").mkdir(parents=True)
            buckets.append(
                {
                    "name": f"bucket-{number:04}",
                    "log_bucket_name": (staged.folder / "logs" / f"{number:04}").as_uri(),
                    "start_date": datetime.now(UTC).date() - timedelta(days=30),
                }
            )
        config.write_text(yaml.safe_dump({"home": str(staged.home), "buckets": buckets}), "utf-8")
        os.environ[CONFIG_VARIABLE] = str(config)
        with dev(staged.folder / "dev.log", free_port()) as running:
            page = Page(running.address())
            rows.append(["`dev`: the UI answers", f"{time.monotonic() - running.started:.1f}"])

            def all_have_ticked() -> bool:
                ticks = [each["sensorState"]["ticks"] for each in page.ask(_TICKS)["results"]]
                return len(ticks) == options.buckets and all(each and each[0]["status"] != "STARTED" for each in ticks)

            running.wait_for("the first round", all_have_ticked, _ROUND_SECONDS)
            rows.append(["`dev`: each sensor has ticked", f"{time.monotonic() - running.started:.1f}"])
            with sync_playwright() as playwright:
                chromium = shutil.which("chromium") or shutil.which("google-chrome")
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
                for name, (path, text) in _PAGES.items():
                    seconds = _open(browser, f"{page.url}{path}", text, options.screenshots, name)
                    rows.append([name, f"{seconds:.1f}"])
                browser.close()
    show(
        [Sheet(f"{options.buckets} buckets; {os.cpu_count()} cores", ("until", "seconds"), rows, texts=("until",))],
        options.markdown,
    )


def _open(browser: Browser, url: str, text: str, pictures: Path | None, name: str) -> float:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    started = time.monotonic()
    page.goto(url)
    page.get_by_text(text).first.wait_for(timeout=_PAGE_MILLISECONDS)
    seconds = time.monotonic() - started
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=pictures / f"{name.replace(' ', '_')}.png")
    context.close()
    return seconds


if __name__ == "__main__":
    main()
