"""The catalog: the DuckDB file that people connect to.

It is built aside, closed, synced and renamed over the old one. Readers that hold the old file keep it; nobody waits
for anybody, and nobody sees half a night. Its views name the exact committed data files, never a glob: a glob would
also read files that are staged or superseded.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import pyarrow as pa

from etl.errors import StorageError, WarehouseError, first_line
from etl.events import reach
from etl.load.catalog.checks import run_checks
from etl.load.catalog.dictionary import add_dictionary
from etl.load.catalog.flat import add_flat_views
from etl.load.catalog.packs import make_pack, packs_of
from etl.load.catalog.prices import PRICES
from etl.load.catalog.relations import add_files, add_macros, add_table
from etl.load.catalog.views import add_relation, add_versions, alike, has_slices
from etl.load.changes import logged_dataset
from etl.load.delta.tables import Committed, Tables
from etl.model import CATALOG_NAME, Dataset
from etl.outcome import CheckResult
from etl.storage.disk import put_in_place, storage_errors

log = logging.getLogger(__name__)

_NEEDED = ("snapshots", "finished_snapshots", "complete_snapshots", "current_slices", "nights")
"""Views and marts that say which snapshots there are: a catalog without other marts has them too."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a catalog shows besides what is committed.

    Attributes:
        known: tables that exist for readers even before anything was committed to them.
        datasets: what is known of the datasets, by name.
        pinned_tags: tags that have a column of their own in the schema `bi`.
        prices: as `PRICES` says.
        with_marts: and with checks, flat views and dictionary; without, what is committed, and views.
    """

    known: Mapping[str, pa.Schema]
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    pinned_tags: Sequence[str] = ()
    prices: pa.Table = field(default_factory=PRICES.empty_table)
    with_marts: bool = True


def build_catalog(tables: Tables, content: Content) -> list[CheckResult]:
    """Build the catalog of what is committed now, swap it in, and return what the checks say of it.

    Raises:
        StorageError: the disk refused; the old catalog stays.
        WarehouseError: a committed data file is missing or damaged; the old catalog stays.
    """
    path = tables.path / CATALOG_NAME
    draft = path.with_name(f".{CATALOG_NAME}.new")
    with storage_errors(path):
        tables.path.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        try:
            with storage_errors(path):
                _remove(draft)
            found = _fill_as_far_as_possible(draft, tables, content)
            with storage_errors(path):
                reach("catalog.built")
                # A log left behind by another program would be replayed into the new file.
                Path(f"{path}.wal").unlink(missing_ok=True)
                put_in_place(draft, path)
        except BaseException as exc:
            with suppress(OSError):  # the disk that has just refused
                _remove(draft)
            if not isinstance(exc, duckdb.Error):
                raise
            reason = first_line(exc)  # below it, DuckDB repeats the statement
            if draft.name in reason or isinstance(exc, duckdb.FatalException):  # the latter: a sync failed
                raise StorageError.at(path, f"{reason}; the old one stays") from exc
            raise _unbuildable(path, reason) from exc
    reach("catalog.swapped")
    return found


def _unbuildable(path: Path, reason: str) -> WarehouseError:
    return WarehouseError(f"{path}: the catalog cannot be built: {reason}; the old one stays. Run `verify`")


def _check_files(path: Path, table: Committed) -> None:
    """Look whether the data files are there, whole: DuckDB opens most of them only when somebody asks.

    Raises:
        WarehouseError: one is missing, or not as long as the log of the table says.
    """
    for file, facts in table.facts.items():
        try:
            found = f"{os.stat(file).st_size} bytes"  # noqa: PTH116  a path would cost more than the look
        except FileNotFoundError:
            found = "no file"
        if found != f"{facts.size} bytes":
            raise _unbuildable(path, f"{file}: expected {facts.size} bytes, found {found}")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other job builds this catalog: the later one sees what the earlier one has committed."""
    with storage_errors(path), path.with_name(f".{CATALOG_NAME}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fill_as_far_as_possible(draft: Path, tables: Tables, content: Content) -> list[CheckResult]:
    """Make a new DuckDB file; without marts where the data are such that they cannot be computed.

    A column that privacy has made a text of, for instance, is no number any more. A night does not wait for that.
    """
    try:
        return _fill(draft, tables, content)
    except (duckdb.ProgrammingError, duckdb.DataError) as exc:
        reason = first_line(exc)
        log.error("%s: marts, checks, flat views and dictionary are left out: %s", draft.name, reason)  # noqa: TRY400
        _remove(draft)
        _fill(draft, tables, replace(content, with_marts=False), with_views=False)
        meaning = "Marts, checks and flat views can be computed; `marts: {build: false}` does without them."
        found = CheckResult("marts_are_built", "error", meaning, 1, json.dumps(reason))
        return [found] if content.with_marts else []


def _fill(draft: Path, tables: Tables, content: Content, *, with_views: bool = True) -> list[CheckResult]:
    """Make a new DuckDB file, closed and without a log of its own."""
    with duckdb.connect(draft) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.begin()  # DuckDB syncs its log with every transaction
        found = []
        for name in sorted({*tables.names(), *content.known}):
            committed = tables.read(name, with_facts=True)
            if committed:
                _check_files(tables.path / CATALOG_NAME, committed)
            if committed or name in content.known:  # neither: its first commit was killed half-way
                found.append(committed or Committed(name, -1, content.known[name], {}))
        for table in found:
            packs = [pack for pack in packs_of(tables.path, table) if make_pack(pack, table)]
            packed = {file for pack in packs for _, file in pack.members}
            files = [file for names in table.files.values() for file in names if file not in packed]
            name = _history(table.name) if has_slices(table) else table.name
            add_relation(connection, name, table.schema, alike(table, files, packs))
        add_macros(connection)
        add_table(connection, "prices", content.prices)
        add_files(connection, ("views", "marts"), _NEEDED)
        dates = connection.execute("select distinct snapshot_date from current_slices order by all").fetchall()
        for table in found:
            if has_slices(table):
                files = [file for (date,) in dates for file in table.files.get(date, ())]
                newest = "semi join current_slices using (slice_id, snapshot_date)"
                add_relation(connection, table.name, table.schema, alike(table, files), newest)
            elif dataset := logged_dataset(table.schema):
                add_versions(connection, dataset, table)
        results = []
        if content.with_marts:
            # Files say what they read; one that reads what there is not is left out.
            add_files(connection, ("views", "marts"))
            add_flat_views(connection, content.datasets, content.pinned_tags)
            results = run_checks(connection)
            add_dictionary(connection, {table.name: table for table in found})
        elif with_views:
            add_files(connection, ["views"])
        connection.commit()
        # Closing does the same, but is silent where the disk refuses: then nothing would be in the file.
        connection.execute("checkpoint")
    return results


def _history(name: str) -> str:
    return f"{name}_history"


def _remove(draft: Path) -> None:
    for leftover in (draft, Path(f"{draft}.wal")):
        leftover.unlink(missing_ok=True)
