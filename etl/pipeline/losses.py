"""What the warehouse has lost: tables, facts and ledgers compared with each other.

A disk, a backup or a hand may take back what was published: a table, the newest entry of its log, all of the warehouse,
or a ledger. Each of them tells something about the others, so what one has lost is found in another.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from etl.errors import LedgerError, WarehouseError, refused_by_system
from etl.ledger.ledger import Ledger
from etl.load.changes import logged_dataset
from etl.load.delta.tables import Committed, Tables
from etl.load.published import Published, Slices, published
from etl.load.snapshots import has_slices

_REPLAY = "`nimble-etl replay --since {date}` writes it again if a ledger still has its pages"


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that was published and is not there any more, or is not what was published."""

    snapshot_date: dt.date
    what: str
    problem: str

    def __str__(self) -> str:
        """Return the message for the operator."""
        return f"{self.snapshot_date}: {self.what}: {self.problem}"


RECENT = 35
"""Dates that jobs compare: as many as there are ledgers by default, and some more. `verify` compares all."""


def find_losses(tables: Tables, ledgers: Iterable[Path], newest: int | None = RECENT) -> Iterator[Loss]:
    """Yield what is lost of the newest dates; None: of all. Reads logs of tables, etl_slices and ledgers, but no rows.

    What cannot be read is left out: `verify` names it.

    Raises:
        DeniedError: this user may not read a table.
    """
    found: dict[str, Committed] = {}
    for name in tables.names():
        try:
            if committed := tables.read(name, with_facts=True):
                found[name] = committed
        except WarehouseError as exc:
            if refused := refused_by_system(exc):  # it may be whole
                raise refused from exc
    counted = {name for name, table in found.items() if has_slices(table) or name == "etl_rejects"}
    dates = sorted({date for name in (*counted, "etl_slices") if name in found for date in found[name].files})
    since = dates[-newest] if newest and newest < len(dates) else dt.date.min
    yield from _compare_versions(tables, found, since)
    by_date: dict[dt.date, list[Path]] = {}
    for path in ledgers:
        with suppress(LedgerError), Ledger.open(path) as ledger:
            by_date.setdefault(ledger.run().snapshot_date, []).append(path)
    first: dict[str, dt.date] = {}
    of_ledgers: list[Loss] = []
    for some in published(tables, sorted(date for date in {*dates, *by_date} if date >= since)):
        first = {**some.first, **first}
        for date, there in some.by_date.items():
            if date in dates:
                yield from _compare_tables(found, counted, date, there)
            slices = there.slices() if date in by_date else {}
            for path in by_date.get(date, ()):
                with suppress(LedgerError), Ledger.open(path) as ledger:
                    of_ledgers += _compare_ledger(ledger, date, slices)
    yield from _compare_logs(found, first)
    yield from of_ledgers


def _compare_versions(tables: Tables, found: Mapping[str, Committed], since: dt.date) -> Iterator[Loss]:
    """Compare the versions of tables with those that runs have written down."""
    known: dict[str, tuple[int, dt.date]] = {}
    for date in (date for date in tables.dates("etl_runs") if date >= since):
        try:
            rows = tables.rows("etl_runs", date, ["table_versions"])
        except WarehouseError:
            continue
        for row in rows:
            for name, version in row.get("table_versions") or ():
                known[name] = max(known.get(name, (version, date)), (version, date))
    for name, (version, date) in sorted(known.items()):
        there = found[name].version if name in found else -1
        if there < version:
            problem = f"it is at version {there}, a run has left it at {version}: its newest commits are lost"
            yield Loss(date, f"table {name}", f"{problem}; {_REPLAY.format(date=date)}")


def _compare_logs(found: Mapping[str, Committed], first: Mapping[str, dt.date]) -> Iterator[Loss]:
    """Yield change logs that begin after the first complete snapshot: all of its records are in the log."""
    logs = {logged_dataset(table.schema): table for table in found.values()}
    for name, date in first.items():
        if not any(day <= date for day in (logs[name].files if name in logs else ())):
            problem = f"it begins after the snapshots of {date}"
            yield Loss(date, f"the change log of {name}", f"{problem}; {_REPLAY.format(date=date)}")


def _compare_tables(
    found: Mapping[str, Committed], counted: set[str], date: dt.date, published: Published
) -> Iterator[Loss]:
    """Compare the rows of a date that each table has with those that its slices' newest publications wrote."""
    there = Counter({name: sum(_rows(found[name], date)) for name in counted})
    if published.is_dropped:
        return
    if published.is_empty:
        names = ", ".join(sorted(name for name, rows in there.items() if rows))
        if names:
            yield Loss(date, "table etl_slices", f"it has no rows, and {names} has; {_REPLAY.format(date=date)}")
        return
    expected = Counter({"etl_rejects": 0, **published.rows})
    is_known = published.is_counted
    for name in sorted(expected.keys() | counted) if is_known else sorted(expected):
        if not is_known and not there[name]:
            continue  # a former version may have dropped the date
        if there[name] != expected[name]:
            problem = f"its log names {there[name]} rows, {expected[name]} were published"
            yield Loss(date, f"table {name}", f"{problem}; {_REPLAY.format(date=date)}")


def _rows(table: Committed, date: dt.date) -> Iterator[int]:
    return (table.facts[file].rows for file in table.files.get(date, ()))


def _compare_ledger(ledger: Ledger, date: dt.date, published: Slices) -> Iterator[Loss]:
    """Compare what a ledger says is published with what the warehouse says."""
    run_id = ledger.run().run_id
    left = {slice_id for ids in ledger.open_publications().values() for slice_id in ids}
    problems = {}
    for slice_id, sequence, pages_sha256 in ledger.published():
        row = published.get(slice_id)
        if slice_id in left:
            continue
        if row is None or row[1] < sequence:
            problems[slice_id] = (
                f"run {run_id} has published it, and the warehouse does not have it: is the warehouse a backup? "
                f"{_REPLAY.format(date=date)}"
            )
        elif row[0] == run_id and row[2] not in (None, pages_sha256):
            problems[slice_id] = (
                f"the ledger {ledger.path} has other pages than were published: is it a backup? Readers keep the "
                "published rows. Move the ledger away: it proves nothing any more"
            )
    for facts in ledger.slices() if problems else ():
        if problem := problems.get(facts.slice.slice_id):
            yield Loss(date, str(facts.slice), problem)
