"""The names of S3's resources, in policies and in the doctor."""

import re

# A doctor's probe object is named: log prefix, this text, 32 hexadecimal digits. No log key's name looks like that.
PROBE_NAME = ".tamarin-probe-"


def get_aws_partition(region: str | None) -> str:
    """Return the AWS partition of a region, as it occurs in ARNs."""
    if region and region.startswith("cn-"):
        return "aws-cn"
    if region and region.startswith("us-gov-"):
        return "aws-us-gov"
    return "aws"


def bucket_arn(bucket: str, region: str | None) -> str:
    """Return the ARN of a bucket."""
    return f"arn:{get_aws_partition(region)}:s3:::{bucket}"


def escape_literal(prefix: str) -> str:
    """Return the prefix as written in policies, where `*`, `?` and `$` need escaping (IAM user guide, "Policy
    variables").
    """
    return re.sub(r"[*?$]", r"${\g<0>}", prefix)
