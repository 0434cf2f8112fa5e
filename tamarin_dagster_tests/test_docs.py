"""The documents agree with the code."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tamarin_dagster.cli.app import COMMANDS, LISTED, PROGRAM, load_commands
from tamarin_dagster.logformat import RejectReason
from tamarin_dagster.settings import Lake, LoggedBucket, Settings
from tools.describe_commands import describe_commands
from tools.describe_settings import describe_settings
from tools.describe_tables import describe_tables

PROJECT = Path(__file__).parents[1]
WORDS_TO_AVOID = PROJECT / "tools/words_to_avoid.txt"
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def test_the_page_of_tables_is_current() -> None:
    """Renew it with: make docs-pages."""
    assert (PROJECT / "docs/reference/tables.md").read_text("utf-8") == describe_tables()


def test_the_pages_of_commands_and_settings_are_current() -> None:
    """Renew them with: make docs-pages."""
    assert (PROJECT / "docs/reference/cli.md").read_text("utf-8") == describe_commands()
    assert (PROJECT / "docs/reference/settings.md").read_text("utf-8") == describe_settings()


def test_the_page_of_settings_has_each_with_its_variable_type_default_and_meaning() -> None:
    rows = re.findall(r"^\| (`.*) \|$", describe_settings(), re.MULTILINE)
    assert len(rows) == len(Settings.model_fields) + len(LoggedBucket.model_fields) + len(Lake.model_fields)
    assert rows[3].startswith(
        "`pull_parse_interval` | `TAMARIN_PULL_PARSE_INTERVAL` | number above 0, to 1440 | `5` | "
    )
    assert not [row for row in rows if row.endswith("| ")]


def test_each_command_tells_what_it_does_with_examples_that_80_columns_hold() -> None:
    load_commands()
    shown = {name: reported for name, reported in COMMANDS.items() if name != "dev"}
    assert {name for name, reported in shown.items() if "\n\n" not in reported.text or not reported.examples} == set()
    lines = [f" {PROGRAM} {typed}" for reported in shown.values() for typed, _ in reported.examples]
    lines += [f" # {meaning}" for reported in shown.values() for _, meaning in reported.examples]
    assert [line for line in lines if len(line) > 79] == []


def test_the_list_of_commands_says_of_each_what_its_own_help_says_first() -> None:
    load_commands()
    assert {name: listed.summary for name, listed in LISTED.items()} == {
        name: reported.text.split("\n\n")[0] for name, reported in COMMANDS.items()
    }


def test_every_column_has_a_meaning() -> None:
    assert not re.findall(r"^\|.*\|  \|$", describe_tables(), re.MULTILINE)


def test_the_page_on_lines_has_every_reason_and_no_other() -> None:
    page = (PROJECT / "docs/reference/lines.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE) == [
        (reason.value, reason.description) for reason in RejectReason
    ]


def test_the_page_of_settings_names_every_setting_and_no_other() -> None:
    page = (PROJECT / "docs/reference/settings.md").read_text("utf-8")
    first_columns = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    named = [name for column in first_columns for name in re.findall(r"`(\w+)`", column)]

    assert set(named) == {*Settings.model_fields, *LoggedBucket.model_fields, *Lake.model_fields}


def test_the_readme_has_at_most_150_lines() -> None:
    assert len((PROJECT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_each_word_and_phrase_to_avoid_is_found(tmp_path) -> None:
    entries = [entry.split("->")[0] for entry in WORDS_TO_AVOID.read_text("utf-8").splitlines()]
    (tmp_path / "page.md").write_text("".join(f"This {entry} here.\n" for entry in entries))
    assert misspelt(tmp_path / "page.md") == entries


def test_code_and_links_may_have_words_to_avoid(tmp_path) -> None:
    (tmp_path / "page.md").write_text("Run `tamarin-dagster hogs`, see [it](hogs.md).\n\n```sh\nhogs\n```\n\nA hog.\n")
    assert misspelt(tmp_path / "page.md") == ["hog"]


def misspelt(page: Path) -> list[str]:
    """Return what `make lint` finds in a page."""
    command = [sys.executable, "-m", "codespell_lib", "--toml", PROJECT / "pyproject.toml", page]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return re.findall(r"^[^:]+:\d+: (.*) ==> ", done.stdout, re.MULTILINE)


def test_each_test_that_the_page_on_security_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (PROJECT / "docs/explanation/security.md").read_text("utf-8")))
    tests = "\n".join(file.read_text("utf-8") for file in (PROJECT / "tamarin_dagster_tests").rglob("test_*.py"))
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_each_page_is_linked_and_each_link_leads_somewhere() -> None:
    links = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    }
    assert {link for link in links if not link.exists()} == set()
    assert {page for page in PAGES if page.resolve() not in links} == {PROJECT / "README.md"}


def test_each_link_to_a_heading_finds_it() -> None:
    missing = [
        (page.name, link)
        for page in PAGES
        for link, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text("utf-8"))
        if heading not in _headings((page.parent / link) if link else page)
    ]
    assert missing == []


def _headings(page: Path) -> set[str]:
    """The anchors that GitHub and mkdocs make of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_menu_has_each_page_once() -> None:
    menu = yaml.safe_load((PROJECT / "mkdocs.yml").read_text("utf-8"))["nav"]
    assert sorted(_paths(menu)) == sorted(str(page.relative_to(PROJECT / "docs")) for page in PAGES[1:])


def _paths(menu: Any) -> Iterator[str]:
    if isinstance(menu, str):
        yield menu
    for entry in menu.values() if isinstance(menu, dict) else menu if isinstance(menu, list) else ():
        yield from _paths(entry)


def test_each_command_that_is_named_in_a_sentence_is_there() -> None:
    """`tamarin-dagster pull --from …`: the command, and its options; `make fuzz SECONDS=300`: the target."""
    commands = load_commands()
    targets = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE))
    missing = []
    for page in PAGES:
        text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for said in re.findall(r"`([^`\n]+)`", text):
            if found := re.search(r"\btamarin-dagster (?:--config \S+ )?([a-z-]+)(.*)", said):
                command = commands.get(found[1])
                options = {option for each in command.params for option in each.opts} if command else set()
                if command is None or set(re.findall(r"--[a-z-]+", found[2])) - options:
                    missing.append((page.name, said))
            elif found := re.fullmatch(r"make ([a-z-]+)(?: .*)?", said):
                missing += [(page.name, said)] if found[1] not in targets else []
    assert missing == []
