"""The rules of `logformat` as machine code, made by numba. Nothing else imports numba.

Everything that is not named here is private to this package: spans, pointers, automata.
"""

from tamarin_dagster.logformat.compiled.line_ends import find_line_ends
from tamarin_dagster.logformat.compiled.packing import pack_addresses, pack_rows
from tamarin_dagster.logformat.compiled.pieces import CompiledReading, read_piece
from tamarin_dagster.logformat.compiled.redaction import redact_texts

__all__ = ["CompiledReading", "find_line_ends", "pack_addresses", "pack_rows", "read_piece", "redact_texts"]
