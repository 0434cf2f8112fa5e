"""Find truncated lines: the last line of a log object, if it has no LF."""

import numpy as np

from tamarin_dagster.logformat import regex_reader
from tamarin_dagster.logformat.lines import Piece
from tamarin_dagster.logformat.reading import RECORD, Outcomes, get_outcome
from tamarin_dagster.logformat.reasons import RejectReason

_NEIGHBOURS = 20
"""How many records before a last line without LF its number of columns is compared with."""
_BAD_TAIL, _TORN = get_outcome(RejectReason.BAD_TAIL), get_outcome(RejectReason.TORN)


class TornLines:
    """Finds torn lines: S3 ends every line with LF, so a last line without one may be truncated.

    It is torn if it has fewer columns than the records before it in its log object, or would be a record without its
    truncated last column. Without such neighbours, a line whose columns all have their shapes counts as whole.
    """

    def __init__(self) -> None:
        self._log_index = -1
        self._record = ""
        """The last record of the earlier pieces, in that log object."""

    def judge(self, piece: Piece, outcomes: Outcomes) -> None:
        """Find the torn lines of a piece among its records and lines with a bad tail, and set their outcomes."""
        for row in piece.unended.tolist():
            text = piece.text(row)
            if outcomes[row] == RECORD:
                is_torn = regex_reader.count_tail_columns(text) < self._fewest_columns_before(piece, outcomes, row)
            else:
                is_torn = outcomes[row] == _BAD_TAIL and regex_reader.is_cut_in_last_column(text)
            if is_torn:
                outcomes[row] = _TORN
        records = np.flatnonzero(outcomes == RECORD)
        if len(records):
            self._log_index = int(piece.log_index[records[-1]])
            self._record = piece.text(records[-1])

    def _fewest_columns_before(self, piece: Piece, outcomes: Outcomes, row: int) -> int:
        """Return the minimum number of columns of the records before the row in its log object; 0 without any."""
        alike = (outcomes[:row] == RECORD) & (piece.log_index[:row] == piece.log_index[row])
        neighbours = [piece.text(other) for other in np.flatnonzero(alike)[-_NEIGHBOURS:]]
        if not neighbours and self._log_index == piece.log_index[row]:
            neighbours = [self._record]
        return min(map(regex_reader.count_tail_columns, neighbours), default=0)
