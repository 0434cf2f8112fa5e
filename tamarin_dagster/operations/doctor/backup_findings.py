"""Findings on what the loss of this machine's disk would destroy, and on who may read the home."""

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

# Where log keys are deleted each day, a database older than this lacks records that cannot be loaded again.
MAX_BACKUP_DAYS = 7
_REMEDY = (
    "run tamarin-dagster backup FILE to another disk, daily from cron; or set archive; after a backup by another"
    " program, run tamarin-dagster backup --elsewhere; see docs/how-to/backup.md"
)


def backup_findings(settings: Settings, engine: sa.Engine, now: datetime | None = None) -> Iterator[Finding]:
    """Yield findings on backups: where log keys are purged, the embedded database has the only copy of records.

    The database must be at the current schema revision.
    """
    alone = [bucket for bucket in settings.buckets if settings.should_purge(bucket) and not settings.archive_of(bucket)]
    if settings.database_url or not alone or is_demo_home(settings.home):
        return
    with engine.connect() as connection:
        last = connection.scalar(sa.select(tamarin_database.c.backed_up_at))
        purged = connection.scalar(sa.select(_list_purged_unarchived(alone)))
    days = None if last is None else ((now or datetime.now(UTC)) - last) // timedelta(days=1)
    if days is not None and days < MAX_BACKUP_DAYS:
        yield ok("backup", f"the last backup is from {last:%Y-%m-%d}")
        return
    age = "1 day" if days == 1 else f"{days} days"
    known = "no backup is known" if days is None else f"the last backup is {age} old"
    names = ", ".join(bucket.name for bucket in alone)
    copies = "whose log keys were purged, exist nowhere else" if purged else "whose log keys a purge deletes"
    yield warn("backup", f"{known}, and there is no archive: records of {names}, {copies}", _REMEDY)


def home_findings(settings: Settings) -> Iterator[Finding]:
    """Yield a finding if others may enter the home: an earlier version created it as open as the umask allowed."""
    home = settings.home
    if not home.is_dir():
        return
    mode = stat.S_IMODE(home.stat().st_mode)
    # With root, the account of the embedded server must pass through the home, which needs only o+x.
    allowed = PASSABLE_FOLDER if os.geteuid() == 0 else PRIVATE_FOLDER
    if mode & 0o777 & ~allowed:
        yield warn(
            "home",
            f"{home} is open to other users (mode {mode:03o}); reports in it contain addresses",
            f"chmod {allowed:03o} {home}",
        )


def _list_purged_unarchived(buckets: list[LoggedBucket]) -> sa.Exists:
    return sa.exists().where(
        s3_log_key.c.bucket.in_([bucket.name for bucket in buckets]),
        s3_log_key.c.purged_at.is_not(None),
        s3_log_key.c.archived_at.is_(None),
    )
