"""The blocks of a page of documentation: text to type, to write into a file, or only to read."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(str(page.relative_to(PROJECT)) for page in (PROJECT / "docs").rglob("*.md")))

LANGUAGES = {"sh", "sql", "yaml", "python", "crontab", "text"}
"""The languages of code fences. `text` is for text that is only read: a picture, the output of a program."""

_FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?(?P<rest>.*)")
_NOT_RUN = re.compile(r"\s*<!-- not run: (?P<reason>\S.*?) -->\s*")
_LIST_ITEM = re.compile(r"(?:[-*]|\d+\.) ")


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        line: where it begins, from 1.
        language: one of LANGUAGES; an indented block is `sh`.
        title: the file that a reader writes it to, if it says one: ```yaml title="tamarin.yaml".
        not_run: why it cannot be run in a test, from a comment above it: <!-- not run: … -->.
    """

    page: str
    line: int
    language: str
    title: str | None
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        """Return its place in the form that editors accept."""
        return f"{self.page}:{self.line}"


def blocks_of(page: str, text: str | None = None) -> list[Block]:
    """All blocks of a page, in order. Raises ValueError for a fence that says no language, or none that is known."""
    lines = (text if text is not None else (PROJECT / page).read_text("utf-8")).splitlines()
    found: list[Block] = []
    reason: str | None = None
    in_list = False
    number = 0
    while number < len(lines):
        line, begin = lines[number], number + 1
        number += 1
        if fence := _FENCE.fullmatch(line):
            if fence["language"] not in LANGUAGES or fence["rest"].strip():
                raise ValueError(f"{page}:{begin}: a fence must say one of {', '.join(sorted(LANGUAGES))}: {line}")
            end = lines.index(f"{fence['indent']}```", number)
            body = textwrap.dedent("\n".join(lines[number:end])) + "\n"
            found.append(Block(page, begin, fence["language"], fence["title"], body, reason))
            number, reason = end + 1, None
        elif line.startswith("    ") and not in_list and not lines[number - 2].strip():
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            body = textwrap.dedent("\n".join(lines[number - 1 : end])).rstrip() + "\n"
            found.append(Block(page, begin, "sh", None, body, reason))
            number, reason = end, None
        elif line.strip():
            comment = _NOT_RUN.fullmatch(line)
            reason = comment["reason"] if comment else None
            if not line.startswith(" "):
                in_list = bool(_LIST_ITEM.match(line))
    return found
