"""Define a month of UTC days, the period of a report."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Self

_WRITTEN = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """A month, written as `2026-03`."""

    year: int
    number: int

    @classmethod
    def of(cls, day: date) -> Self:
        """Return the month of the day."""
        return cls(day.year, day.month)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the month that is written like `2026-03`. Raises ValueError."""
        found = _WRITTEN.fullmatch(text)
        if found is None or found[1] == "0000":
            raise ValueError(f"{text!r} is not a month; write it like 2026-03")
        return cls(int(found[1]), int(found[2]))

    @property
    def first(self) -> date:
        """Return its first day."""
        return date(self.year, self.number, 1)

    @property
    def last(self) -> date:
        """Return its last day."""
        return (self.first + timedelta(days=31)).replace(day=1) - timedelta(days=1)

    @property
    def start(self) -> datetime:
        """Return its first moment (UTC)."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """Return the first moment (UTC) after it."""
        return datetime.combine(self.last, datetime.min.time(), UTC) + timedelta(days=1)

    @property
    def before(self) -> Self:
        """Return the month before."""
        return type(self).of(self.first - timedelta(days=1))

    @property
    def name(self) -> str:
        """Return it in words: `March 2026`."""
        return f"{self.first:%B} {self.year}"

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"
