"""Which records fit the columns of a layout: these become rows, the others rejects."""

from collections.abc import Sequence
from typing import Any

from etl.errors import RecordError
from etl.model import Member
from etl.transform.arrays import array, spread
from etl.transform.records import Misfit, PageRecords, Reader
from etl.transform.schema import Layout

UNFIT = (ValueError, OverflowError, TypeError, RecordError)
"""What Arrow raises for a value that a type cannot hold: its own errors are ValueErrors and TypeErrors."""


class Sieve:
    """Tells records that fit from those that do not: all of a page at once, or else one by one.

    Attributes:
        reader: reads what is sifted.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.reader = Reader(layout.dataset, layout.operation)

    def sift(self, found: PageRecords) -> PageRecords:
        """Return the records of a page with those that do not fit as misfits, with the reason."""
        if self._why_unfit(found.values) is None:
            return found
        good, misfits = [], list(found.misfits)
        for position, value, extra in zip(found.positions, found.values, found.extras, strict=True):
            reason = self._why_unfit([value])
            if reason is None:
                good.append((position, value, extra))
            else:
                misfits.append(Misfit(position, reason, self.reader.raw(found.page)[position].decode()))
        positions, values, extras = zip(*good, strict=True) if good else ((), (), ())
        return PageRecords(found.page, positions, values, extras, misfits)

    def _why_unfit(self, records: Sequence[Any]) -> str | None:
        """Return why some records do not fit; of more than one, the reason does not tell which it is."""
        spread_out = spread(self._layout.operation.record, records)
        for column in self._layout.columns:
            values = spread_out[column.path]
            try:
                array(column.member, values)
            except UNFIT as exc:
                api_path = ".".join(column.path)
                if column.rule != "allow" or column.entry_rules or _is_private(column.member):
                    return f"{api_path} does not fit its type; its value is private"
                found = str(exc) if isinstance(exc, RecordError) else f"is {values[0]!r}; {exc}"
                return f"{api_path} {found}"
        return None


def _is_private(member: Member) -> bool:
    """Tell whether messages must not repeat a value: it is sensitive, or may be what users wrote into tags."""
    below = (*member.members, *([member.element] if member.element else []))
    return member.sensitive or member.kind == "map" or any(map(_is_private, below))
