"""The catalog: the DuckDB file that people connect to.

It is built under another name, closed, and put in the place of the old one. Readers that have the old file open keep
it, wait for nobody and never see half a night. Its views name the exact committed data files. They use no glob, because
a glob would also read staged and replaced files.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import pyarrow as pa

from etl.errors import StorageError, WarehouseError, first_line
from etl.events import reach
from etl.load.catalog.carried import Carried, former_catalog
from etl.load.catalog.checks import run_checks
from etl.load.catalog.dictionary import add_dictionary
from etl.load.catalog.flat import add_flat_views
from etl.load.catalog.packs import Packs
from etl.load.catalog.prices import PRICES
from etl.load.catalog.relations import add_files, add_macros, add_table, read_once
from etl.load.catalog.views import add_relation, add_versions
from etl.load.changes import logged_dataset
from etl.load.delta.tables import Committed, Tables
from etl.load.snapshots import has_slices
from etl.model import CATALOG_NAME, Dataset
from etl.outcome import CheckResult
from etl.sqltext import literal
from etl.storage.disk import storage_errors

log = logging.getLogger(__name__)

_NAME = "warehouse"
"""What the catalog is called for whoever opens its file, and so while it is built."""
_STORAGE = "v1.0.0"
"""DuckDB's format of the file. Every DuckDB since 1.0 reads it, and BI tools bundle old ones."""
_MODE = 0o444
"""Nobody writes into a catalog: what another program writes would be gone with the next night."""
_NEEDED = ("snapshots", "finished_snapshots", "complete_snapshots", "current_slices", "nights")
"""Views and marts that tell which snapshots exist. Every catalog has them, even one without other marts."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a catalog shows besides the committed tables.

    Attributes:
        known: name -> schema of the tables that readers see even if they have no commit yet.
        datasets: dataset definitions by name.
        pinned_tags: keys of tags that get a column of their own in the schema `bi`.
        prices: rows of the schema `PRICES`.
        with_marts: whether to add marts, checks, flat views and dictionary.
        checks: what was checked outside of the catalog; shown beside its own checks.
    """

    known: Mapping[str, pa.Schema]
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    pinned_tags: Sequence[str] = ()
    prices: pa.Table = field(default_factory=PRICES.empty_table)
    with_marts: bool = True
    checks: Sequence[CheckResult] = ()


def build_catalog(tables: Tables, content: Content, *, anew: bool = False) -> list[CheckResult]:
    """Build a catalog of the newest committed versions, swap it in, and return the results of its checks.

    The caller holds the lock of the warehouse, so no table holds half of a publication. With `anew`, nothing is carried
    on from the former catalog.

    Raises:
        StorageError: the disk refused; the old catalog stays.
        WarehouseError: a committed data file is missing or damaged; the old catalog stays.
    """
    store = tables.store
    path = store.at(CATALOG_NAME)
    with storage_errors(path):
        draft = store.draft(store.at(f".{CATALOG_NAME}.new"))
    try:
        with storage_errors(path):
            _remove(draft)
        former = None if anew or not content.with_marts else former_catalog(store)
        made_of = tables.versions()
        packs = Packs(store)
        found = _fill_as_far_as_possible(draft, tables, packs, content, former)
        with storage_errors(path):
            reach("catalog.built")
            draft.chmod(_MODE)
            if store.local:
                # DuckDB would replay a log that another program has left into the new file.
                Path(f"{path}.wal").unlink(missing_ok=True)
            store.swap(draft, path, made_of)
    except BaseException as exc:
        with suppress(OSError):  # the disk may refuse this too
            _remove(draft)
        if not isinstance(exc, duckdb.Error):
            raise
        reason = first_line(exc)  # the other lines repeat the statement
        refused = draft.name in reason or "Checkpoint failed" in reason
        if refused or isinstance(exc, duckdb.FatalException):  # fatal: a sync failed
            raise StorageError.at(path if store.local else draft, f"{reason}; the old one stays") from exc
        raise _unbuildable(path, reason) from exc
    reach("catalog.swapped")
    packs.note_unused()
    return found


def _unbuildable(path: str, reason: str) -> WarehouseError:
    return WarehouseError(f"{path}: the catalog cannot be built: {reason}; the old one stays. Run `nimble-etl verify`")


def _check_files(path: str, table: Committed) -> None:
    """Raise a WarehouseError if a data file is missing or has another size than in the log.

    DuckDB itself would notice most of them only when somebody queries them.
    """
    for file, size in table.store.sizes(table.facts):
        if size != table.facts[file].size:
            found = "no file" if size is None else f"{size} bytes"
            raise _unbuildable(path, f"{file}: expected {table.facts[file].size} bytes, found {found}")


def _fill_as_far_as_possible(
    draft: Path, tables: Tables, packs: Packs, content: Content, former: Path | None
) -> list[CheckResult]:
    """Fill a new DuckDB file. Leave out the marts and what needs them if they cannot be computed from the data.

    For instance, a column that privacy rules have hashed is a text where a mart needs a number.
    """
    try:
        return _fill(draft, tables, packs, content, former)
    except (duckdb.ProgrammingError, duckdb.DataError) as exc:
        reason = first_line(exc)
        log.error("%s: marts, checks, flat views and dictionary are left out: %s", draft.name, reason)  # noqa: TRY400
        _remove(draft)
        _fill(draft, tables, packs, replace(content, with_marts=False), with_views=False)
        meaning = "Marts, checks and flat views can be computed; `marts: {build: false}` does without them."
        found = CheckResult("marts_are_built", "error", meaning, 1, json.dumps(reason))
        return [*content.checks, found] if content.with_marts else [*content.checks]


def _fill(  # noqa: PLR0913  one file, and what it is made of
    draft: Path,
    tables: Tables,
    packs: Packs,
    content: Content,
    former: Path | None = None,
    *,
    with_views: bool = True,
) -> list[CheckResult]:
    """Fill a new DuckDB file and close it. It has no write-ahead log then.

    `former` is the former catalog, from which marts are carried on.
    """
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        tables.store.connect(connection)
        connection.execute(f"attach {literal(str(draft))} as {_NAME} (storage_version '{_STORAGE}')")
        connection.execute(f"use {_NAME}")
        found = []
        for name in sorted({*tables.names(), *content.known}):
            if committed := tables.read(name, with_facts=True):
                _check_files(tables.store.at(CATALOG_NAME), committed)
                found.append(committed)
            elif name in content.known:  # other tables without a version: their first commit was killed
                found.append(Committed(tables.store, name, -1, content.known[name], {}))
        carried = Carried(connection, former, {table.name: table for table in found})
        connection.begin()  # one transaction: DuckDB syncs its log with each
        for table in found:
            made = packs.of(table)
            packed = {file for pack in made.values() for _, file in pack.members}
            files = [file for names in table.files.values() for file in names if file not in packed]
            name = f"{table.name}_history" if has_slices(table) else table.name
            add_relation(connection, name, table, files, made.items())
        add_macros(connection)
        add_table(connection, "prices", content.prices)
        add_files(connection, ("views", "marts"), _NEEDED)
        dates = connection.execute("select distinct snapshot_date from current_slices order by all").fetchall()
        for table in found:
            if has_slices(table):
                files = [file for (date,) in dates for file in table.files.get(date, ())]
                newest = "semi join current_slices using (slice_id, snapshot_date)"
                add_relation(connection, table.name, table, files, only=newest)
            elif dataset := logged_dataset(table.schema):
                add_versions(connection, dataset, table)
        results = [*content.checks]
        if content.with_marts:
            add_files(connection, ("views", "marts"), query=carried.query)
            carried.note()
            add_flat_views(connection, content.datasets, content.pinned_tags)
            results = run_checks(connection, content.checks)
            read_once(connection)
            add_dictionary(connection, {table.name: table for table in found})
        elif with_views:
            add_files(connection, ["views"])
        connection.commit()
        # Closing would do this too, but without an error if the disk refuses. The file would then be empty.
        connection.execute(f"checkpoint {_NAME}")
    return results


def _remove(draft: Path) -> None:
    for leftover in (draft, Path(f"{draft}.wal")):
        leftover.unlink(missing_ok=True)
