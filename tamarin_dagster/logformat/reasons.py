"""Why a line is no record: a closed list, each with a sentence for a person."""

import enum


class RejectReason(enum.StrEnum):
    """Why a line is no record. The value is what `s3_rejected_line.reason` holds."""

    NOT_A_RECORD = "not_a_record"
    TOO_FEW_FIELDS = "too_few_fields"
    SPLICED = "spliced"
    BAD_TIME = "bad_time"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    BAD_ADDRESS = "bad_address"
    BAD_REQUESTER = "bad_requester"
    BAD_OPERATION = "bad_operation"
    BAD_STATUS = "bad_status"
    BAD_ERROR_CODE = "bad_error_code"
    BAD_NUMBER = "bad_number"
    BAD_TAIL = "bad_tail"
    TORN = "torn"
    OVERSIZED = "oversized"

    @property
    def description(self) -> str:
        """One sentence for a person."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    RejectReason.NOT_A_RECORD: "The line does not begin with a bucket owner, a bucket and a [time]: another format.",
    RejectReason.TOO_FEW_FIELDS: "The line begins like a record but is torn: fewer than 17 fields, or an open quote.",
    RejectReason.SPLICED: "Parts of two records stand in one line, so that the fields do not fit.",
    RejectReason.BAD_TIME: "The request time is none (it must look like [06/Feb/2019:00:00:38 +0000] and exist).",
    RejectReason.TIME_OUT_OF_RANGE: "The request time is before 2006, or more than a day ahead of now.",
    RejectReason.BAD_ADDRESS: "The remote address is neither an IPv4 or IPv6 address nor '-'.",
    RejectReason.BAD_REQUESTER: "The requester or the request id cannot be one.",
    RejectReason.BAD_OPERATION: "The operation is not one of S3's (REST.GET.OBJECT, BATCH.DELETE.OBJECT, ...).",
    RejectReason.BAD_STATUS: "The HTTP status is neither three digits nor '-'.",
    RejectReason.BAD_ERROR_CODE: "The error code is neither a name nor '-'.",
    RejectReason.BAD_NUMBER: "A size or a time is no whole number from 0 to 9223372036854775807.",
    RejectReason.BAD_TAIL: "What follows the user agent is not S3's columns in their documented shapes.",
    RejectReason.TORN: "The last line of the log key, without its LF, is cut: S3 ends every line with LF.",
    RejectReason.OVERSIZED: "The line is longer than 1 MiB; only its first 64 KiB are kept.",
}
