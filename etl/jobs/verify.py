"""Proof that published snapshots are complete: recomputed from the ledgers and the data files.

For each published slice, the newest ledger that published it must show three things. The chain of pages has no gap and
ends. Every stored body is what was received. The committed rows are, value for value, those that the pages become.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from etl.config import Settings
from etl.errors import EtlError, LedgerError, WarehouseError, first_line
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.load.catalog.packs import packs_of
from etl.load.delta.parquet import check_file
from etl.load.delta.tables import PARTITION, Tables
from etl.model import SliceFacts, Snapshot
from etl.pipeline.write import count_slice
from etl.sqltext import quoted
from etl.transform.schema import REJECTS, layout_of


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one published slice, or for an unreadable file or ledger. `problem` is None if all is well."""

    snapshot_date: dt.date | None
    what: str
    rows: int | None
    problem: str | None


class _Rows:
    """A `Sink` that keeps no row, but only the number of rows and the sum of their hashes.

    Two tables with the same rows in another order measure the same; a repeated row makes a difference.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> None:
        self._connection = connection
        struct = ", ".join(quoted(field.name) for field in schema if field.name != PARTITION)
        self._select = f"select count(*), coalesce(sum(hash(row({struct}))::hugeint), 0) from"
        self.measured = (0, 0)

    def write(self, batch: pa.RecordBatch) -> None:
        self._connection.register("some_rows", pa.Table.from_batches([batch]))
        rows, hashes = self.measure("some_rows", [])
        self.measured = (self.measured[0] + rows, self.measured[1] + hashes)

    def measure(self, relation: str, parameters: Sequence[object]) -> tuple[int, int]:
        ((rows, hashes),) = self._connection.execute(f"{self._select} {relation}", parameters).fetchall()
        return rows, hashes


def verify(settings: Settings, snapshot_date: dt.date | None = None) -> Iterator[Finding]:
    """Yield a finding for each published slice of one date, or of all dates, and for each file that is damaged."""
    tables = Tables(settings.warehouse.path)
    yield from _verify_files(tables, snapshot_date)
    newest: dict[tuple[dt.date, str], tuple[dt.datetime, Path]] = {}
    for path in ledger_paths(settings.state_dir):
        try:
            with Ledger.open(path) as ledger:
                run = ledger.run()
                if snapshot_date not in (None, run.snapshot_date):
                    continue
                for facts in ledger.slices():
                    if facts.published_at is not None:
                        # A later publication for the same date has replaced the rows of an earlier one.
                        place, candidate = (run.snapshot_date, facts.slice.slice_id), (facts.published_at, path)
                        newest[place] = max(newest.get(place, candidate), candidate)
        except LedgerError as exc:
            yield Finding(None, path.name, None, str(exc))
    for (_, slice_id), (_, path) in newest.items():
        with Ledger.open(path) as ledger:
            (facts,) = [facts for facts in ledger.slices() if facts.slice.slice_id == slice_id]
            yield _verify_slice(ledger, tables, facts, settings.privacy.secret)


def _verify_files(tables: Tables, snapshot_date: dt.date | None) -> Iterator[Finding]:
    """Read every committed data file and pack, and compare their checksums."""
    for name in tables.names():
        try:
            committed = tables.read(name, with_facts=True)
        except WarehouseError as exc:
            yield Finding(None, name, None, str(exc))
            continue
        for date, files in (committed.files if committed else {}).items():
            for file in files if snapshot_date in (None, date) else []:
                try:
                    check_file(file)
                except WarehouseError as exc:
                    yield Finding(date, name, None, str(exc))
        for pack in packs_of(tables.path, committed) if committed else ():
            dates = {date for date, _ in pack.members}
            if pack.path.exists() and snapshot_date in {None, *dates}:
                try:
                    check_file(str(pack.path))
                except WarehouseError as exc:
                    advice = "remove it: the next catalog makes a new one"
                    yield Finding(min(dates), name, None, f"{str(exc).partition('; run again')[0]}; {advice}")


def _verify_slice(ledger: Ledger, tables: Tables, facts: SliceFacts, secret: bytes | None) -> Finding:
    """Compare the rows that the pages of a slice become with the rows that are committed."""
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
            for name, rows in expected.items():
                _compare(tables, name, rows, run.snapshot_date, facts.slice.slice_id)
    except EtlError as exc:
        return Finding(run.snapshot_date, what, None, str(exc))
    return Finding(run.snapshot_date, what, counts.rows, None)


def _compare(tables: Tables, name: str, expected: _Rows, snapshot_date: dt.date, slice_id: str) -> None:
    """Refuse committed rows of a slice that differ from the expected rows."""
    committed = tables.read(name)
    files = committed.files.get(snapshot_date, []) if committed else []
    found, wanted = (0, 0), expected.measured
    if files:
        try:
            found = expected.measure("read_parquet(?, union_by_name = true) where slice_id = ?", [files, slice_id])
        except duckdb.Error as exc:
            why = first_line(exc)
            raise WarehouseError(f"table {name}, {snapshot_date}, slice {slice_id}: cannot be read: {why}") from exc
    if found != wanted:
        values = ", and values differ" if found[0] == wanted[0] else ""
        raise WarehouseError(
            f"table {name}, {snapshot_date}, slice {slice_id}: {found[0]} rows are committed, {wanted[0]} follow from "
            f"the ledger{values}; rewrite them with `nimble-etl replay --since {snapshot_date}`"
        )
