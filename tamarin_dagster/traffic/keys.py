"""Give each object key one spelling, because S3 logs a key in two spellings.

Public log lines and one project's experience are the only evidence; the S3 user guide says only that keys are
URL-encoded. REST, WEBSITE and SOAP operations log a key encoded twice (`date_%253D2021/a+b.txt`). S3's own actions
(`S3.EXPIRE.OBJECT`) and batch operations (`BATCH.DELETE.OBJECT`) log it encoded once (`date_%3D2021/a+b.txt`). The
second encoding changes percent signs and nothing else. Records keep the logged spelling; where keys are compared, all
of them have the spelling of REST operations.
"""

import pyarrow as pa
import pyarrow.compute as pc

from tamarin_dagster.traffic.operations import ENCODED_ONCE


def rest_spelling(keys: pa.StringArray, operations: pa.StringArray) -> pa.StringArray:
    """Return the keys as REST operations spell them.

    Args:
        keys: as logged; null for operations on the bucket. Arrays and chunked arrays of strings are accepted.
        operations: of the same rows; null counts as a REST operation.
    """
    # There are few different operations, and most records have a REST operation.
    names = pc.unique(operations)
    once = [name for name in names.to_pylist() if name is not None and name.startswith(ENCODED_ONCE)]
    if not once:
        return keys
    is_once = pc.is_in(operations, pa.array(once, operations.type))
    return pc.if_else(is_once, pc.replace_substring(keys, "%", "%25"), keys)
