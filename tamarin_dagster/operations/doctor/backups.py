"""Findings on what is lost with this machine's disk, and on who may read the home."""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from tamarin_dagster.homes import is_demo_home
from tamarin_dagster.operations.doctor.finding import Finding, ok, warn
from tamarin_dagster.private_files import PASSABLE_FOLDER, PRIVATE_FOLDER
from tamarin_dagster.recordstore.schema.tables import s3_log_key, tamarin_database
from tamarin_dagster.settings import LoggedBucket, Settings

# An older backup lacks more than can be loaded again, where log keys are deleted each day.
MAX_BACKUP_DAYS = 7
_REMEDY = (
    "run tamarin-dagster backup FILE, and daily from cron, to another disk; or set archive; after a backup by another"
    " program: tamarin-dagster backup --elsewhere; see docs/how-to/backup.md"
)


def backup_findings(settings: Settings, engine: sa.Engine, now: datetime | None = None) -> Iterator[Finding]:
    """Yield what is said of backups: where log keys are purged, the embedded database has the only copy of records.

    The database has to be at the present schema revision.
    """
    alone = [bucket for bucket in settings.buckets if settings.should_purge(bucket) and not settings.archive_of(bucket)]
    if settings.database_url or not alone or is_demo_home(settings.home):
        return
    with engine.connect() as connection:
        last = connection.scalar(sa.select(tamarin_database.c.backed_up_at))
        purged = connection.scalar(sa.select(_purged_unarchived(alone)))
    days = None if last is None else ((now or datetime.now(UTC)) - last) // timedelta(days=1)
    if days is not None and days < MAX_BACKUP_DAYS:
        yield ok("backup", f"the last one is of {last:%Y-%m-%d}")
        return
    known = "no backup is known" if days is None else f"the last backup is {days} days old"
    names = ", ".join(bucket.name for bucket in alone)
    copies = "whose log keys were purged, are in no other place" if purged else "whose log keys a purge deletes"
    yield warn("backup", f"{known}, and there is no archive: records of {names}, {copies}", _REMEDY)


def home_findings(settings: Settings) -> Iterator[Finding]:
    """Yield what is said of the home's mode: an earlier version made it as open as the umask allowed."""
    home = settings.home
    if not home.is_dir():
        return
    mode = stat.S_IMODE(home.stat().st_mode)
    # Root's has to let the account of the embedded server pass, which takes no more than o+x.
    allowed = PASSABLE_FOLDER if os.geteuid() == 0 else PRIVATE_FOLDER
    if mode & 0o777 & ~allowed:
        yield warn(
            "home",
            f"{home} is open to others, with mode {mode:03o}; reports in it hold addresses",
            f"chmod {allowed:03o} {home}",
        )


def _purged_unarchived(buckets: list[LoggedBucket]) -> sa.Exists:
    return sa.exists().where(
        s3_log_key.c.bucket.in_([bucket.name for bucket in buckets]),
        s3_log_key.c.purged_at.is_not(None),
        s3_log_key.c.archived_at.is_(None),
    )
