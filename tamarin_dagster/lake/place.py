"""The lake as a place of archives. Light: it is opened, with its packages, only when something is read or written."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tamarin_dagster.extras import needing
from tamarin_dagster.logstore.archiving import ArchiveError
from tamarin_dagster.settings import Lake, Settings, SettingsError

if TYPE_CHECKING:
    from tamarin_dagster.lake.tables import LakeTables


class LakeError(ArchiveError):
    """The lake cannot be read or written, or a day must not be replaced. The text names the cause and the remedy."""


@dataclass(frozen=True, slots=True)
class LakePlace:
    """The lake that the settings name."""

    settings: Lake

    @property
    def url(self) -> str:
        """The lake's URL, as `Settings.archive_of` returns it."""
        return self.settings.url

    @property
    def name(self) -> str:
        """The comparable name of this place; see `logstore.archiving.place_name`."""
        return self.settings.url

    def open(self, engine: sa.Engine) -> "LakeTables":
        """Return the lake's tables; create them if they do not exist. Raises LakeError and MissingExtraError."""
        with needing("lake", "A lake"):
            from tamarin_dagster.lake.tables import open_tables  # noqa: PLC0415 - pyiceberg takes half a second
        return open_tables(self.settings, engine)


def lake_of(settings: Settings) -> LakePlace:
    """Return the configured lake. Raises SettingsError if there is none."""
    if settings.lake is None:
        raise SettingsError("no lake is configured; set lake: with a warehouse, a folder or an s3:// URL")
    return LakePlace(settings.lake)
