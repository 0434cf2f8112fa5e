"""What the documents say is what the code has."""

import re
from pathlib import Path

from tamarin_dagster.logformat import RejectReason
from tamarin_dagster.recordstore.describe import tables_as_markdown
from tamarin_dagster.settings import LoggedBucket, Settings

PROJECT = Path(__file__).parents[1]


def test_the_page_of_tables_is_current() -> None:
    """Renew it with: python -m tamarin_dagster.recordstore.describe > docs/tables.md."""
    assert (PROJECT / "docs/tables.md").read_text("utf-8") == tables_as_markdown()


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
