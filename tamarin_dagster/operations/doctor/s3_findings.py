"""Findings on a log bucket in S3: it can be listed, read and purged, and S3 delivers to it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamarin_dagster.logformat import parse_key_name
from tamarin_dagster.logkey import make_printable
from tamarin_dagster.logstore import LogStore, LogStoreError, inspection
from tamarin_dagster.logstore.arns import PROBE_NAME
from tamarin_dagster.logstore.enabling import OTHER_MEANS
from tamarin_dagster.logstore.inspection import InspectionError, LoggingTarget, NotOfferedError, NotPermittedError
from tamarin_dagster.logstore.probing import Probe, probe
from tamarin_dagster.operations.doctor.database_findings import clock_finding
from tamarin_dagster.operations.doctor.finding import Finding, Status, fail, ok, warn
from tamarin_dagster.operations.doctor.key_findings import find_log_key, stray_finding
from tamarin_dagster.operations.doctor.log_loops import SELF_LOGGING, loop_findings, self_logging_remedy
from tamarin_dagster.operations.doctor.name_findings import NOTHING_KNOWN, Known, name_findings, nothing_to_read
from tamarin_dagster.pipeline.discover import survey
from tamarin_dagster.settings import LoggedBucket

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# S3 delivers within hours, and the sensor loads late keys for three days.
TOO_SHORT_DAYS = 3
# Time for somebody to notice that loading has stopped.
SHORT_DAYS = 14

# The region of a client that was given none.
_NO_REGION = "aws-global"


@dataclass(frozen=True, slots=True)
class Scene:
    """A bucket under examination: how to reach it, and what it is used for."""

    bucket: LoggedBucket
    store: LogStore
    client: "S3Client"
    purges: bool
    clock: Callable[[], float]
    known: Known = NOTHING_KNOWN

    @property
    def log_bucket(self) -> str:
        """The log bucket's name."""
        return self.bucket.log_bucket_name

    def subject(self, what: str) -> str:
        """Return the subject of a finding."""
        return f"{self.bucket.name}: {what}"


def examine_s3(scene: Scene) -> Iterator[Finding]:
    """Yield all findings on the bucket. Raises InspectionError if the log bucket cannot be reached."""
    yield from _check_reach(scene)
    try:
        inspection.check_listing(scene.client, scene.log_bucket, scene.bucket.log_prefix)
    except NotPermittedError as error:
        yield fail(scene.subject("list"), str(error), error.remedy)
    else:
        yield ok(scene.subject("list"), f"permitted under {scene.bucket.log_prefix!r}")
        yield from _run_check(scene, "get", _keys)
        yield from _run_check(scene, "archived", _archived)
    if scene.purges:
        yield from _run_check(scene, "delete", _deletion)
    for what, look in _LOOKS:
        yield from _run_check(scene, what, look)


def _run_check(scene: Scene, what: str, look: Callable[[Scene, str], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of one check, or why it could not run; that stops no other check."""
    subject = scene.subject(what)
    try:
        yield from look(scene, subject)
    except NotOfferedError as error:
        yield ok(subject, str(error))
    except InspectionError as error:
        hint = "; `tamarin-dagster iam-policy --doctor` prints the policy to grant"
        permission = isinstance(error, NotPermittedError)
        yield warn(subject, f"could not be checked: {error}", error.remedy + hint * permission or "try again")
    except LogStoreError as error:
        yield warn(subject, f"could not be checked: {error}", "try again")


def _check_reach(scene: Scene) -> Iterator[Finding]:
    """Check that the log bucket answers. Raises InspectionError, also for a wrong region."""
    subject = scene.subject("log bucket")
    found = inspection.reach(scene.client, scene.log_bucket, scene.clock)
    ours = scene.client.meta.region_name or _NO_REGION
    # A compatible store may accept any region. Obstore, which sends the GETs, does not follow S3's redirects.
    if found.region and inspection.is_aws(scene.client) and found.region != ours.replace(_NO_REGION, "us-east-1"):
        raise InspectionError(f"is in {found.region}, but was requested in {ours}", f"set its region: {found.region}")
    yield ok(subject, f"answers, in {found.region}" if found.region else "answers")
    if found.clock_seconds is not None:
        yield clock_finding(subject, found.clock_seconds)


def _keys(scene: Scene, subject: str) -> Iterator[Finding]:
    seen = survey(scene.store, scene.bucket)
    item = find_log_key(scene.store, scene.bucket, seen.roots)
    if item is None:
        yield nothing_to_read(subject, scene.bucket, scene.store, scene.known)
    else:
        try:
            inspection.check_reading(scene.client, scene.log_bucket, item)
        except InspectionError as error:
            yield fail(subject, f"{item.key!r}: {error}", error.remedy or "see the error")
        else:
            yield ok(subject, "a log key was read")
    yield from name_findings(
        scene.subject("name"), scene.bucket, scene.store, seen.roots, scene.known, has_keys=item is not None
    )
    yield stray_finding(scene.subject("strays"), seen)


def _archived(scene: Scene, subject: str) -> Iterator[Finding]:
    """Find log keys that must be restored before they can be read; those that are loaded need not be."""
    found, is_complete = inspection.find_archived_objects(scene.client, scene.log_bucket, scene.bucket.log_prefix)
    log_keys = [item for item in found if parse_key_name(item.key, scene.bucket.log_prefix)]
    unseen = scene.known.unseen(scene.bucket, log_keys)
    if not unseen:
        yield ok(subject, "no log key that is not loaded is archived" + " among the first" * (not is_complete))
        return
    count = "at least " * (not is_complete) + f"{len(unseen):,} log key" + "s" * (len(unseen) > 1)
    verb = "is" if len(unseen) == 1 and is_complete else "are"
    yield warn(
        subject,
        f"{count} that {verb} not loaded {verb} in GLACIER or DEEP_ARCHIVE, for example"
        f" '{make_printable(unseen[0].key)}'",
        "restore the keys to load (aws s3api restore-object), and exclude the log prefix from the lifecycle rule",
    )


def _deletion(scene: Scene, subject: str) -> Iterator[Finding]:
    """Try a probe object; not where an object lock might keep it, so that nobody could delete it."""
    if locked := _may_be_locked(scene):
        yield warn(subject, f"was not tried: {locked}", "rely on the purge's own report")
        return
    tried = probe(scene.client, scene.log_bucket, scene.bucket.log_prefix)
    if tried.not_written:
        yield warn(
            subject,
            f"could not be tried: no s3:PutObject for a probe object ({tried.not_written})",
            f"grant it for {scene.bucket.log_prefix + PROBE_NAME + '*'!r}, or rely on the purge's own report",
        )
        return
    yield from _report_probe(scene, subject, tried)


def _may_be_locked(scene: Scene) -> str:
    """Return why a probe object might be locked; empty if it cannot be. Locks need versions."""
    try:
        on = inspection.has_object_lock(scene.client, scene.log_bucket)
    except NotOfferedError:
        return ""
    except NotPermittedError:
        if inspection.get_versioning(scene.client, scene.log_bucket):
            return "the bucket is versioned, and its object lock could not be checked"
        return ""
    return "object lock is on, and might keep the probe object" if on else ""


def _report_probe(scene: Scene, subject: str, tried: Probe) -> Iterator[Finding]:
    if tried.not_read:
        yield fail(
            scene.subject("get"), f"the probe object: {tried.not_read}", tried.not_read.remedy or "see the error"
        )
    if tried.not_deleted:
        remedy = tried.not_deleted.remedy or "see the error"
        yield fail(subject, str(tried.not_deleted), f"{remedy}, or set purge_parsed_keys: false")
    else:
        yield ok(subject, "a probe object was written and deleted")
    if tried.left:
        yield warn(scene.subject("probe object"), f"{tried.key!r} was not deleted", "delete it")
    if tried.wrong_pin_refused:
        yield ok(scene.subject("pinned delete"), "the store refuses to delete a generation other than the given one")
    elif tried.wrong_pin_refused is False:
        yield warn(
            scene.subject("pinned delete"),
            "the store ignores If-Match, so it may delete a generation that was not loaded",
            "make sure that nothing overwrites log keys; the purge checks each key with HEAD just before it deletes",
        )


def _versioning(scene: Scene, subject: str) -> Iterator[Finding]:
    status = inspection.get_versioning(scene.client, scene.log_bucket)
    if status == "Suspended":
        yield warn(
            subject,
            "suspended: older versions stay, and a deletion leaves a marker",
            "enable it, or add a lifecycle rule that expires old versions and markers",
        )
    else:
        yield ok(subject, "on: a purge deletes the version that was loaded" if status else "off")


def _object_lock(scene: Scene, subject: str) -> Iterator[Finding]:
    if not inspection.has_object_lock(scene.client, scene.log_bucket):
        yield ok(subject, "off")
    elif scene.purges:
        remedy = "set purge_parsed_keys: false, or expect the purge to report such keys until their locks end"
        yield warn(subject, "on: locked log keys cannot be deleted", remedy)
    else:
        yield ok(subject, "on; nothing is purged")


def _requester_pays(scene: Scene, subject: str) -> Iterator[Finding]:
    if inspection.has_requester_pays(scene.client, scene.log_bucket):
        yield warn(subject, "on: requests of other accounts are refused", "turn it off, or use the owner's credentials")
    else:
        yield ok(subject, "off")


def _lifecycle(scene: Scene, subject: str) -> Iterator[Finding]:
    found: list[Finding] = []
    for rule in inspection.get_lifecycle_rules(scene.client, scene.log_bucket, scene.bucket.log_prefix):
        name = f"rule {rule.name!r}"
        if (days := rule.expires_after_days) is not None:
            text = f"{name} deletes log keys after {days} days"
            if days < TOO_SHORT_DAYS:
                remedy = f"let it wait at least {SHORT_DAYS} days"
                found.append(fail(subject, f"{text}: it would delete logs before they are read", remedy))
            elif days < SHORT_DAYS:
                remedy = f"let it wait {SHORT_DAYS} days: what is not loaded by then is lost"
                found.append(warn(subject, text, remedy))
            else:
                found.append(ok(subject, text))
        if (days := rule.archives_after_days) is not None and days < SHORT_DAYS:
            text = f"{name} archives log keys after {days} days, and archived keys cannot be read"
            found.append(warn(subject, text, f"let it wait at least {SHORT_DAYS} days"))
    yield from found or [ok(subject, "no rule deletes or archives log keys too early")]


def _own_logging(scene: Scene, subject: str) -> Iterator[Finding]:
    target = inspection.get_logging_target(scene.client, scene.log_bucket)
    if target is None or target.bucket != scene.log_bucket:
        yield ok(subject, "it does not log into itself")
        return
    if scene.bucket.logs_into_itself:
        text = f"it logs into itself, under {target.prefix!r}: {SELF_LOGGING}"
        yield warn(subject, text, self_logging_remedy(target.prefix))
        return
    prefix = scene.bucket.log_prefix
    meets = target.prefix.startswith(prefix) or prefix.startswith(target.prefix)
    yield Finding(
        subject,
        Status.fail if meets else Status.warn,
        f"it logs into itself, under {target.prefix!r}: each delivery is logged again, without end",
        f"let {scene.log_bucket} log to another bucket, or not at all",
    )


def _loops(scene: Scene, subject: str) -> Iterator[Finding]:
    def target_of(bucket: str) -> str | None:
        target = inspection.get_logging_target(scene.client, bucket)
        return target.bucket if target else None

    yield from loop_findings(subject, scene.log_bucket, target_of)


def _logging(scene: Scene, subject: str) -> Iterator[Finding]:
    name = scene.bucket.name
    wanted = LoggingTarget(scene.log_bucket, scene.bucket.log_prefix)
    is_aws = inspection.is_aws(scene.client)
    try:
        target = inspection.get_logging_target(scene.client, name)
    except NotOfferedError as error:
        yield ok(subject, f"cannot be checked, and enable-logging cannot switch it on: {error}")
        return
    if target is None and not is_aws:
        yield warn(
            subject,
            "the store says that it is not switched on; some stores say so because they have no access logging",
            f"{OTHER_MEANS}; `tamarin-dagster enable-logging {name}` tries S3's way, and reports if the store has none",
        )
    elif target is None:
        yield fail(subject, "not switched on: nothing is delivered", f"tamarin-dagster enable-logging {name}")
    elif target != wanted:
        yield fail(
            subject,
            f"delivers to {target.bucket!r} under {target.prefix!r};"
            f" the settings say {wanted.bucket!r} under {wanted.prefix!r}",
            f"correct log_bucket_name and log_prefix, or: tamarin-dagster enable-logging {name} --replace",
        )
    else:
        yield ok(subject, "switched on, as configured in the settings")


_LOOKS = (
    ("versioning", _versioning),
    ("object lock", _object_lock),
    ("requester pays", _requester_pays),
    ("lifecycle", _lifecycle),
    ("log bucket's own logging", _own_logging),
    ("log loop", _loops),
    ("logging", _logging),
)
