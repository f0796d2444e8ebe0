"""Proof that published snapshots are complete: recomputed from the ledgers, and read as readers read them.

For each published slice, four things are shown. The ledger that published it last has a chain of pages without a gap,
which ends. Every stored body is what was received. The rows that the catalog shows are, value for value, those that the
pages become. The changes that it shows are those between this snapshot and the one before. Besides, every data file is
read, with what the log and its own statistics say about it, and what tables, facts and ledgers have lost is named.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from etl.config import Settings
from etl.errors import EtlError, LedgerError, LockedError, WarehouseError, first_line, refused_by_system, unforeseen
from etl.jobs.warehouse import copies_of, store_of
from etl.ledger.directory import readable_ledgers
from etl.ledger.ledger import Ledger
from etl.load.catalog.packs import files_of, is_as_made, list_packs, packs_of
from etl.load.delta.atomic import freeze_whole
from etl.load.delta.parquet import check_file
from etl.load.delta.tables import PARTITION, Tables
from etl.load.snapshots import has_slices, newest_publications
from etl.model import CATALOG_NAME, SliceFacts, Snapshot
from etl.pipeline.losses import find_losses
from etl.pipeline.write import count_slice, find_changes, is_logged
from etl.read.query import open_catalog
from etl.sqltext import quoted
from etl.storage.scratch import Scratch
from etl.transform.schema import REJECTS, layout_of

Measure = tuple[int, int]
"""The number of rows and the sum of their hashes. Two tables with the same rows in another order measure the same."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one published slice, or for an unreadable file or ledger. `problem` is None if all is well."""

    snapshot_date: dt.date | None
    what: str
    rows: int | None
    problem: str | None


class _Rows:
    """A `Sink` that keeps no row, but only the measure of each slice."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> None:
        self._connection = connection
        self._select = f"select slice_id, {_measure(schema)} from some_rows group by all"  # noqa: S608  quoted
        self._measured: dict[str, Measure] = {}

    def write(self, batch: pa.RecordBatch) -> None:
        self._connection.register("some_rows", pa.Table.from_batches([batch]))
        for slice_id, rows, hashes in self._connection.execute(self._select).fetchall():
            before = self.of(slice_id)
            self._measured[slice_id] = (before[0] + rows, before[1] + hashes)

    def of(self, slice_id: str) -> Measure:
        """Return the measure of the rows of a slice."""
        return self._measured.get(slice_id, (0, 0))


def _measure(schema: pa.Schema) -> str:
    struct = ", ".join(quoted(field.name) for field in schema if field.name != PARTITION)
    return f"count(*) as rows, coalesce(sum(hash(row({struct}))::hugeint), 0) as hashes"


@dataclass(frozen=True, slots=True)
class _Shown:
    """What readers see: the rows of each slice, measured once for all snapshots of a table.

    `connection` is the catalog; None if there is none, and then the data files are read.
    """

    tables: Tables
    connection: duckdb.DuckDBPyConnection | None
    _known: dict[tuple[str, str, dt.date | None], Mapping[tuple[dt.date, str], Measure]] = field(default_factory=dict)

    def in_catalog(self, name: str, schema: pa.Schema, date: dt.date, slice_id: str) -> Measure:
        """Return the measure of a slice as the catalog shows it."""
        if self.connection is None:
            return self.in_files(name, schema, date, slice_id)
        committed = self.tables.read(name)
        relation = quoted(f"{name}_history" if committed and has_slices(committed) else name)
        found = self._measured(self.connection, name, schema, None, relation)
        return found.get((date, slice_id), (0, 0))

    def in_files(self, name: str, schema: pa.Schema, date: dt.date, slice_id: str) -> Measure:
        """Return the measure of a slice in the committed data files."""
        files = self.tables.files(name, date)
        if not files:
            return (0, 0)
        options = f"union_by_name = true, hive_partitioning = true, hive_types = {{'{PARTITION}': date}}"
        with duckdb.connect() as connection:
            self.tables.store.connect(connection)
            found = self._measured(connection, name, schema, date, f"read_parquet(?, {options})", files)
        return found.get((date, slice_id), (0, 0))

    def _measured(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        schema: pa.Schema,
        date: dt.date | None,
        relation: str,
        *parameters: object,
    ) -> Mapping[tuple[dt.date, str], Measure]:
        measure = _measure(schema)
        key = (name, measure, date)
        if key not in self._known:
            statement = f"select {PARTITION}, slice_id, {measure} from {relation} group by all"  # noqa: S608  quoted
            try:
                rows = connection.execute(statement, list(parameters)).fetchall()
            except duckdb.Error as exc:
                raise WarehouseError(f"table {name}: cannot be read: {first_line(exc)}") from exc
            self._known[key] = {(row[0], row[1]): (row[2], row[3]) for row in rows}
        return self._known[key]


def verify(settings: Settings, snapshot_date: dt.date | None = None) -> Iterator[Finding]:
    """Yield a finding for each published slice of one date, or of all dates, and for whatever is damaged or lost.

    Raises:
        LockedError: a job publishes at this moment, or has died while it did.
        DeniedError: this user may not read the catalog or a table.
    """
    store = store_of(settings)
    tables = Tables(store)
    if not freeze_whole(tables):
        raise LockedError(
            f"{store.uri}: a job publishes at this moment, or has died while it did; verify again when "
            "it has ended. `nimble-etl catalog` puts back what a dead one has left"
        )
    yield from _verify_files(tables, snapshot_date)
    ledgers, _ = readable_ledgers(settings.state_dir)
    with ExitStack() as opened:
        if copies := copies_of(settings):
            ledgers, failures = copies.present(ledgers, opened.enter_context(Scratch()))
            yield from (Finding(None, "copy of a ledger", None, str(failure)) for failure in failures)
        yield from _verify_ledgers(settings, tables, ledgers, snapshot_date)


def _verify_ledgers(
    settings: Settings, tables: Tables, ledgers: Sequence[Path], snapshot_date: dt.date | None
) -> Iterator[Finding]:
    """Name what was lost, and compare what the ledgers have published with what readers see."""
    store = tables.store
    losses = [loss for loss in find_losses(tables, ledgers, None) if snapshot_date in (None, loss.snapshot_date)]
    yield from (Finding(loss.snapshot_date, loss.what, None, loss.problem) for loss in losses)
    lost = {(loss.snapshot_date, loss.what) for loss in losses}
    with ExitStack() as opened:
        connection = None
        if store.exists(store.at(CATALOG_NAME)):
            try:
                connection = opened.enter_context(open_catalog(store)).connection
            except EtlError as exc:
                _raise_if_refused(exc)
                yield Finding(None, CATALOG_NAME, None, str(exc))
        shown = _Shown(tables, connection)
        for path in ledgers:
            try:
                with Ledger.open(path) as ledger:
                    run = ledger.run()
                    if snapshot_date in (None, run.snapshot_date):
                        published = [
                            facts
                            for facts in _published(tables, ledger)
                            if (run.snapshot_date, str(facts.slice)) not in lost
                        ]
                        for facts in published:
                            yield _verify_slice(ledger, shown, facts, settings.privacy.secret)
                        yield from _verify_changes(ledger, shown, published, settings.privacy.secret)
            except LedgerError as exc:
                yield Finding(None, path.name, None, str(exc))
            except Exception as exc:  # noqa: BLE001  it costs this ledger
                yield Finding(None, path.name, None, str(unforeseen(path, exc)))


def _raise_if_refused(exc: EtlError) -> None:
    """Raise the error for what this user may not read, or the machine refuses: whatever it is of, it may be whole."""
    if refused := refused_by_system(exc):
        raise refused from exc


def unread(settings: Settings) -> str | None:
    """Return what `verify` cannot compare because of the rights of this user; None if it compares all."""
    _, denied = readable_ledgers(settings.state_dir)
    which = "these ledgers"
    if settings.run.keep_ledgers_at:
        which = f"those that have no copy at {settings.run.keep_ledgers_at}"
    return denied and f"{denied}. Rows are not compared with the pages in {which}"


def _published(tables: Tables, ledger: Ledger) -> Iterator[SliceFacts]:
    """Yield the slices of a ledger whose rows readers see: no later publication has replaced them."""
    run = ledger.run()
    current: Mapping[str, Mapping[str, Any]] | None
    try:
        current = newest_publications(tables, run.snapshot_date)
    except WarehouseError:
        current = None  # its files are damaged, and named; the ledger itself says what it has published
    for facts in ledger.slices():
        row = current.get(facts.slice.slice_id) if current is not None else None
        if facts.publication is not None and (current is None or (row and row["run_id"] == run.run_id)):
            yield facts


def _verify_files(tables: Tables, snapshot_date: dt.date | None) -> Iterator[Finding]:
    """Read every committed data file and pack, and compare them with what is said about them."""
    listed = list_packs(tables.store)
    for name in tables.names():
        try:
            committed = tables.read(name, with_facts=True)
        except WarehouseError as exc:
            _raise_if_refused(exc)
            yield Finding(None, name, None, str(exc))
            continue
        if committed is None:
            continue
        for date, files in committed.files.items():
            for file in files if snapshot_date in (None, date) else []:
                told = committed.facts[file]
                try:
                    check_file(tables.store, file, told.rows, told.nulls)
                except WarehouseError as exc:
                    _raise_if_refused(exc)
                    yield Finding(date, name, None, str(exc))
        for pack in packs_of(committed):
            dates = {date for date, _ in pack.members}
            for file in files_of(pack, listed) if snapshot_date in {None, *dates} else []:
                if not is_as_made(tables.store, file):
                    advice = "remove it: the next catalog makes it again"
                    yield Finding(min(dates), name, None, f"{file}: it is not what was written; {advice}")


def _verify_slice(ledger: Ledger, shown: _Shown, facts: SliceFacts, secret: bytes | None) -> Finding:
    """Compare the rows that the pages of a slice become with the rows that readers see."""
    run = ledger.run()
    what = str(facts.slice)
    try:
        dataset, operation = ledger.datasets()[facts.slice.dataset]
        layout = layout_of(dataset, operation, secret)
        if facts.starting_token is not None and not facts.partial:
            raise WarehouseError(f"{what}: published as complete, but a starting token is left")
        snapshot = Snapshot(run.run_id, run.snapshot_date, dataset, operation)
        with duckdb.connect() as connection:
            schemas = {"etl_rejects": REJECTS, **layout.schemas}
            expected = {name: _Rows(connection, schema) for name, schema in schemas.items()}
            counts = count_slice(ledger, layout, snapshot, facts, expected)
        for name, schema in schemas.items():
            _compare(
                shown, name, schema, expected[name].of(facts.slice.slice_id), run.snapshot_date, facts.slice.slice_id
            )
    except EtlError as exc:
        return Finding(run.snapshot_date, what, None, str(exc))
    return Finding(run.snapshot_date, what, counts.rows, None)


def _verify_changes(
    ledger: Ledger, shown: _Shown, published: Sequence[SliceFacts], secret: bytes | None
) -> Iterator[Finding]:
    """Compare what the change log says of a date with what follows from its snapshot and the one before it."""
    date = ledger.run().snapshot_date
    for name, (dataset, operation) in ledger.datasets().items():
        slices = [facts.slice for facts in published if facts.slice.dataset == name and is_logged(facts)]
        layout = layout_of(dataset, operation, secret)
        with duckdb.connect() as connection:
            expected = _Rows(connection, layout.changes)
            try:
                find_changes(shown.tables, layout, date, [one.slice_id for one in slices], expected)
                for one in slices:
                    wanted = expected.of(one.slice_id)
                    _compare(shown, layout.changes_table, layout.changes, wanted, date, one.slice_id)
            except EtlError as exc:
                yield Finding(date, f"changes of {name}", None, str(exc))


def _compare(  # noqa: PLR0913, PLR0917  what is compared, and where it is
    shown: _Shown, name: str, schema: pa.Schema, wanted: Measure, date: dt.date, slice_id: str
) -> None:
    """Refuse rows of a slice that differ from the expected rows."""
    if shown.in_catalog(name, schema, date, slice_id) == wanted:
        return
    place = f"table {name}, {date}, slice {slice_id}"
    found = shown.in_files(name, schema, date, slice_id)
    if found == wanted:
        raise WarehouseError(
            f"{place}: the catalog shows other rows than the table has; `nimble-etl catalog` builds it"
        )
    values = ", and values differ" if found[0] == wanted[0] else ""
    raise WarehouseError(
        f"{place}: {found[0]} rows are committed, {wanted[0]} follow from the ledger{values}; rewrite them with "
        f"`nimble-etl replay --since {date}`"
    )
