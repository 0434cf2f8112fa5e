"""What the documents say is what the code has."""

import re
from pathlib import Path

from tamarin_dagster.cli.app import COMMANDS, PROGRAM
from tamarin_dagster.cli.describe import commands_as_markdown
from tamarin_dagster.describe_settings import settings_as_markdown
from tamarin_dagster.logformat import RejectReason
from tamarin_dagster.recordstore.describe import tables_as_markdown
from tamarin_dagster.settings import LoggedBucket, Settings

PROJECT = Path(__file__).parents[1]


def test_the_page_of_tables_is_current() -> None:
    """Renew it with: python -m tamarin_dagster.recordstore.describe > docs/tables.md."""
    assert (PROJECT / "docs/tables.md").read_text("utf-8") == tables_as_markdown()


def test_the_pages_of_commands_and_settings_are_current() -> None:
    """Renew them with: make docs."""
    assert (PROJECT / "docs/cli.md").read_text("utf-8") == commands_as_markdown()
    assert (PROJECT / "docs/settings.md").read_text("utf-8") == settings_as_markdown()


def test_the_page_of_settings_has_each_with_its_variable_type_default_and_meaning() -> None:
    rows = re.findall(r"^\| (`.*) \|$", settings_as_markdown(), re.MULTILINE)
    assert len(rows) == len(Settings.model_fields) + len(LoggedBucket.model_fields)
    assert rows[3].startswith(
        "`pull_parse_interval` | `TAMARIN_PULL_PARSE_INTERVAL` | number above 0, to 1440 | `5` | "
    )
    assert not [row for row in rows if row.endswith("| ")]


def test_each_command_tells_what_it_does_with_examples_that_80_columns_hold() -> None:
    shown = {name: told for name, told in COMMANDS.items() if name != "dev"}
    assert {name for name, told in shown.items() if "\n\n" not in told.text or not told.examples} == set()
    lines = [f" {PROGRAM} {typed}" for told in shown.values() for typed, _ in told.examples]
    lines += [f" # {meaning}" for told in shown.values() for _, meaning in told.examples]
    assert [line for line in lines if len(line) > 79] == []


def test_every_column_has_a_meaning() -> None:
    assert not re.findall(r"^\|.*\|  \|$", tables_as_markdown(), re.MULTILINE)


def test_the_page_on_lines_has_every_reason_and_no_other() -> None:
    page = (PROJECT / "docs/lines.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE) == [
        (reason.value, reason.description) for reason in RejectReason
    ]


def test_the_readme_names_every_setting_and_no_other() -> None:
    readme = (PROJECT / "README.md").read_text("utf-8")
    settings = readme.split("\n## Settings\n")[1].split("\n## ")[0]
    first_columns = re.findall(r"^\| (`.*?) \|", settings, re.MULTILINE)
    named = [name for column in first_columns for name in re.findall(r"`(\w+)`", column)]

    assert set(named) == {*Settings.model_fields, *LoggedBucket.model_fields}


def test_each_test_that_the_page_on_security_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (PROJECT / "docs/security.md").read_text("utf-8")))
    tests = "\n".join(file.read_text("utf-8") for file in (PROJECT / "tamarin_dagster_tests").rglob("test_*.py"))
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_each_page_is_linked_and_each_link_leads_somewhere() -> None:
    pages = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
    links = {
        (page.parent / link).resolve()
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))
    }
    assert {link for link in links if not link.exists()} == set()
    assert {page for page in pages[1:] if page.resolve() not in links} == set()
