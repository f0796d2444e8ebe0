"""Tells which records fit the columns of a layout. These become rows, the others become rejects."""

from collections.abc import Sequence
from typing import Any

from etl.errors import RecordError
from etl.model import Member
from etl.transform.arrays import array, as_maps, spread
from etl.transform.records import Misfit, PageRecords, Reader
from etl.transform.schema import Layout

UNFIT = (ValueError, OverflowError, TypeError, RecordError)
"""Errors for a value that a type cannot hold. Arrow's own errors are ValueErrors and TypeErrors too."""


class Sieve:
    """Separates records that fit from those that do not: all records of a page at once or, if one fails, one by one.

    Attributes:
        reader: reads the pages.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.reader = Reader(layout.dataset, layout.operation)

    def sift(self, found: PageRecords) -> PageRecords:
        """Return the records of a page; those that do not fit the columns have become misfits."""
        if self._why_unfit(found.values) is None:
            return found
        good, misfits = [], list(found.misfits)
        for position, value, extra in zip(found.positions, found.values, found.extras, strict=True):
            reason = self._why_unfit([value])
            if reason is None:
                good.append((position, value, extra))
            else:
                misfits.append(Misfit(position, reason, self.reader.raw(found.page)[position].decode()))
        return PageRecords.of(found.page, good, misfits)

    def _why_unfit(self, records: Sequence[Any]) -> str | None:
        """Return the reason if some records do not fit. It tells the value only if there is one record."""
        spread_out = spread(self._layout.operation.record, records)
        for column in self._layout.columns:
            values = spread_out[column.path]
            try:
                array(column.member, as_maps(values, column.entry))
            except UNFIT as exc:
                api_path = ".".join(column.path)
                if column.rule != "allow" or column.entry_rules or _is_private(column.member):
                    return f"{api_path} does not fit its type; its value is private"
                found = str(exc) if isinstance(exc, RecordError) else f"is {values[0]!r}; {exc}"
                return f"{api_path} {found}"
        return None


def _is_private(member: Member) -> bool:
    """Tell whether messages must not repeat a value: it is sensitive, or a map, which may hold the tags of users."""
    below = (*member.members, *([member.element] if member.element else []))
    return member.sensitive or member.kind == "map" or any(map(_is_private, below))
