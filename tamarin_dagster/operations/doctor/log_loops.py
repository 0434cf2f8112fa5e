"""Findings on log buckets that log into each other: each delivery is logged, and causes another delivery, forever."""

from collections.abc import Callable, Iterator, Sequence

from tamarin_dagster.logstore.inspection import InspectionError
from tamarin_dagster.operations.doctor.finding import Finding, fail, warn
from tamarin_dagster.settings import LoggedBucket

# A longer chain of log buckets is intended, not a mistake.
MAX_HOPS = 10

_REMEDY = (
    "let one of them log to a bucket that is not logged, or not at all:"
    " aws s3api put-bucket-logging --bucket {} --bucket-logging-status '{{}}'"
)


# For a bucket that logs into itself under a prefix, which S3 allows and somebody may want.
SELF_LOGGING = (
    "each delivery of a log key is a PUT that is logged in turn, and so are the requests of each pull and purge; there"
    " is always something new to load, and a part of the records is about the log itself"
)


def self_logging_remedy(prefix: str) -> str:
    """Return what to do about a bucket that logs into itself under that prefix."""
    quoted = prefix.replace("'", "''")
    return (
        "if you do not want that, let it log to another bucket; otherwise exclude the log's own requests from queries:"
        f" WHERE starts_with(key, '{quoted}') IS NOT TRUE"
    )


def configured_loops(buckets: Sequence[LoggedBucket]) -> Iterator[Finding]:
    """Yield each loop in the settings: a bucket whose log bucket is logged and, in the end, logs into it."""
    for each in buckets:
        if each.logs_into_itself:
            text = f"{each.name} logs into itself, under {each.log_prefix!r}: {SELF_LOGGING}"
            yield warn("settings: log loop", text, self_logging_remedy(each.log_prefix))
    target = {each.name: each.log_bucket_name for each in buckets if each.log_folder is None}
    seen: set[frozenset[str]] = set()
    for name in target:
        loop = _loop(name, target.get)
        if len(loop) > 1 and frozenset(loop) not in seen:
            seen.add(frozenset(loop))
            yield fail("settings: log loop", _text(loop), _REMEDY.format(loop[-1]))


def loop_findings(subject: str, log_bucket: str, target_of: Callable[[str], str | None]) -> Iterator[Finding]:
    """Yield the loop of two or more buckets that a log bucket is part of, or leads to.

    Args:
        subject: the subject of the finding.
        log_bucket: the start of the chain. A bucket that logs into itself is a finding of its own.
        target_of: returns the bucket that S3 logs a bucket's requests to. May raise InspectionError.
    """

    def find_target(bucket: str) -> str | None:
        try:
            return target_of(bucket)
        except InspectionError:
            if bucket == log_bucket:
                raise
            return None  # a bucket of another account: we cannot follow it further

    loop = _loop(log_bucket, find_target)
    if loop == [log_bucket] or not loop:
        return
    if log_bucket in loop:
        yield fail(subject, _text(loop), _REMEDY.format(loop[-1]))
    else:
        yield warn(subject, f"it leads to a loop: {_text(loop)}", _REMEDY.format(loop[-1]))


def _loop(first: str, target_of: Callable[[str], str | None]) -> list[str]:
    """Return the buckets of the loop at the end of the chain from this bucket; none if the chain ends."""
    chain = [first]
    while len(chain) <= MAX_HOPS and (following := target_of(chain[-1])) is not None:
        if following in chain:
            return chain[chain.index(following) :]
        chain.append(following)
    return []


def _text(loop: Sequence[str]) -> str:
    return f"{' logs into '.join([*loop, loop[0]])}: each delivery is logged again, without end"
