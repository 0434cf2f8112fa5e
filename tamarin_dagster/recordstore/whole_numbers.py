"""Sums that may exceed a bigint."""

from typing import Any

import sqlalchemy as sa


class WholeNumber(sa.TypeDecorator[int]):
    """NUMERIC in the database, and an int in Python. Two records alone may have the maximum that a bigint holds."""

    impl = sa.Numeric
    cache_ok = True

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> int | None:  # noqa: ARG002
        """See TypeDecorator."""
        return None if value is None else int(value)


def total(column: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Return the sum of a column: a bigint for counts, which sorts fast, and a number of any size for bytes."""
    whole: sa.ColumnElement[int] = sa.func.sum(column)
    if isinstance(column.type, WholeNumber):
        return sa.type_coerce(whole, WholeNumber())
    return sa.cast(whole, sa.BigInteger)
