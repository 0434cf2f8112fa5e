"""How S3's things are named, in policies and by us."""

import re

# What the name of a doctor's probe object is, between the log prefix and 32 hexadecimal digits; no log key's name
# begins so.
PROBE_NAME = ".tamarin-probe-"


def partition(region: str | None) -> str:
    """The part of AWS that a region belongs to, as ARNs begin with it."""
    if region and region.startswith("cn-"):
        return "aws-cn"
    if region and region.startswith("us-gov-"):
        return "aws-us-gov"
    return "aws"


def bucket_arn(bucket: str, region: str | None) -> str:
    """The ARN of a bucket."""
    return f"arn:{partition(region)}:s3:::{bucket}"


def literal(prefix: str) -> str:
    """The prefix as policies write it: `*`, `?` and `$` mean themselves (IAM user guide, "Policy variables")."""
    return re.sub(r"[*?$]", r"${\g<0>}", prefix)
