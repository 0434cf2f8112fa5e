"""Findings on log buckets that log into each other: each delivery is logged, which makes another delivery, for ever."""

from collections.abc import Callable, Iterator, Sequence

from tamarin_dagster.logstore.inspection import InspectionError
from tamarin_dagster.operations.doctor.finding import Finding, fail, warn
from tamarin_dagster.settings import LoggedBucket

# A chain of log buckets that is longer is not a mistake but a plan.
MAX_HOPS = 10

_REMEDY = (
    "let one of them log to a bucket that is not logged, or not at all:"
    " aws s3api put-bucket-logging --bucket {} --bucket-logging-status '{{}}'"
)


# Of a bucket that logs into itself under a prefix, which S3 allows and somebody may want.
SELF_LOGGING = (
    "each delivery of a log key is a PUT that is logged in turn, and so are the requests of each pull and purge; there"
    " will always be something new to load, and part of the records are about the log itself"
)


def self_logging_remedy(prefix: str) -> str:
    """Return what to do about a bucket that logs into itself under that prefix."""
    quoted = prefix.replace("'", "''")
    return (
        "if you do not want that, let it log to another bucket; otherwise leave the log's own requests out of queries:"
        f" WHERE starts_with(key, '{quoted}') IS NOT TRUE"
    )


def configured_loops(buckets: Sequence[LoggedBucket]) -> Iterator[Finding]:
    """Yield each loop that the settings alone show: a bucket whose log bucket is logged, in the end into itself."""
    for each in buckets:
        if each.logs_into_itself:
            text = f"{each.name} logs into itself, under {each.log_prefix!r}: {SELF_LOGGING}"
            yield warn("settings: log loop", text, self_logging_remedy(each.log_prefix))
    target = {each.name: each.log_bucket_name for each in buckets if each.log_folder is None}
    told: set[frozenset[str]] = set()
    for name in target:
        loop = _loop(name, target.get)
        if len(loop) > 1 and frozenset(loop) not in told:
            told.add(frozenset(loop))
            yield fail("settings: log loop", _text(loop), _REMEDY.format(loop[-1]))


def loop_findings(subject: str, log_bucket: str, target_of: Callable[[str], str | None]) -> Iterator[Finding]:
    """Yield the loop of two or more buckets that a log bucket is in, or logs into.

    Args:
        subject: what the finding is about.
        log_bucket: where the chain begins. One that logs into itself is a finding of its own.
        target_of: where S3 says that a bucket's requests are logged to. May raise InspectionError.
    """

    def asked(bucket: str) -> str | None:
        try:
            return target_of(bucket)
        except InspectionError:
            if bucket == log_bucket:
                raise
            return None  # another account's: nobody can follow it any further

    loop = _loop(log_bucket, asked)
    if loop == [log_bucket] or not loop:
        return
    if log_bucket in loop:
        yield fail(subject, _text(loop), _REMEDY.format(loop[-1]))
    else:
        yield warn(subject, f"it logs into a loop: {_text(loop)}", _REMEDY.format(loop[-1]))


def _loop(first: str, target_of: Callable[[str], str | None]) -> list[str]:
    """The buckets of the loop that the chain from this bucket ends in; none if it ends."""
    chain = [first]
    while len(chain) <= MAX_HOPS and (following := target_of(chain[-1])) is not None:
        if following in chain:
            return chain[chain.index(following) :]
        chain.append(following)
    return []


def _text(loop: Sequence[str]) -> str:
    return f"{' logs into '.join([*loop, loop[0]])}: each delivery is logged again, without end"
