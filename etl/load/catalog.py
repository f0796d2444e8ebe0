"""The catalog: the DuckDB file that people connect to.

It is built aside, closed, synced and renamed over the old one. Readers that hold the old file keep it; nobody waits
for anybody, and nobody sees half a night. Its views name the exact committed data files, never a glob: a glob would
also read files that are staged or superseded.
"""

import fcntl
import json
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import pyarrow as pa

from etl.errors import StorageError, WarehouseError
from etl.failpoints import reach
from etl.load.changes import CHANGE, logged_dataset
from etl.load.checks import run_checks
from etl.load.dictionary import add_dictionary
from etl.load.files import storage_errors, sync_directory, sync_file
from etl.load.flat import add_flat_views
from etl.load.packs import Pack, make_pack, packs_of
from etl.load.prices import PRICES
from etl.load.relations import add_files, add_macros, comment_on, descriptions, literal, quoted
from etl.load.tables import PARTITION, Committed, Tables
from etl.model import CATALOG_NAME, CheckResult, Dataset

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
                sync_file(draft)
                reach("catalog.built")
                # A log left behind by another program would be replayed into the new file.
                Path(f"{path}.wal").unlink(missing_ok=True)
                draft.replace(path)
                sync_directory(tables.path)
        except BaseException as exc:
            with suppress(OSError):  # the disk that has just refused
                _remove(draft)
            if not isinstance(exc, duckdb.Error):
                raise
            reason = str(exc).splitlines()[0]  # below it, DuckDB repeats the statement
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
        reason = str(exc).splitlines()[0]
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
            _add_relation(connection, name, table.schema, _alike(table, files, packs))
        add_macros(connection)
        _add_prices(connection, content.prices)
        add_files(connection, ("views", "marts"), _NEEDED)
        dates = connection.execute("select distinct snapshot_date from current_slices order by all").fetchall()
        for table in found:
            if has_slices(table):
                files = [file for (date,) in dates for file in table.files.get(date, ())]
                newest = "semi join current_slices using (slice_id, snapshot_date)"
                _add_relation(connection, table.name, table.schema, _alike(table, files), newest)
            elif dataset := logged_dataset(table.schema):
                _add_versions(connection, dataset, table)
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


@dataclass(frozen=True, slots=True)
class _Alike:
    """Files that have the same columns; none: nobody knows which. Packs have the snapshot date in their rows."""

    files: Sequence[str]
    columns: Collection[str]
    are_packs: bool


def _alike(table: Committed, files: Iterable[str], packs: Iterable[Pack] = ()) -> list[_Alike]:
    """Return data files of a table, and packs that stand for others, by the columns that they have.

    A table that was widened has columns that older files lack. Where the log says which, no file is opened to find
    out, neither now nor each time that somebody queries a view.
    """
    found: dict[tuple[frozenset[str], bool], list[str]] = {}
    for pack in packs:
        found.setdefault((pack.columns, True), []).append(str(pack.path))
    for file in files:
        found.setdefault((frozenset(table.facts[file].nulls), False), []).append(file)
    return [_Alike(some, columns, are_packs) for (columns, are_packs), some in found.items()]


def _add_relation(
    connection: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema, sources: Sequence[_Alike], only: str = ""
) -> None:
    """Add a view on files, or an empty table where there are none."""
    connection.register("empty_table", pa.table(schema.empty_table()))
    if sources:
        types = {column: kind for column, kind, *_ in connection.execute("describe empty_table").fetchall()}
        parts = (f"{_select(connection, types, source)} {only}" for source in sources)
        connection.execute(f"create view {quoted(name)} as {' union all '.join(parts)}")
    else:
        connection.execute(f"create table {quoted(name)} as from empty_table")
    connection.unregister("empty_table")
    comment_on(connection, quoted(name), descriptions(schema))


def _select(connection: duckdb.DuckDBPyConnection, types: Mapping[str, str], source: _Alike) -> str:
    """Return the query for all rows of some files, with the columns of their table."""
    options = "hive_partitioning = false"
    if not source.are_packs:
        options = f"hive_partitioning = true, hive_types = {{'{PARTITION}': date}}"
    listed = f"[{', '.join(map(literal, source.files))}]"
    relation, present = f"read_parquet({listed}, {options})", {PARTITION, *source.columns}
    if not source.columns:
        relation = f"read_parquet({listed}, {options}, union_by_name = true)"
        present = {column for column, *_ in connection.execute(f"describe from {relation}").fetchall()}
    columns = ", ".join(
        f"{quoted(column) if column in present else 'null'}::{kind} as {quoted(column)}"
        for column, kind in types.items()
    )
    return f"select {columns} from {relation}"  # noqa: S608  quoted


def _add_prices(connection: duckdb.DuckDBPyConnection, prices: pa.Table) -> None:
    connection.register("given_prices", prices)
    connection.execute("create table prices as from given_prices")
    connection.unregister("given_prices")
    comment_on(connection, "prices", descriptions(PRICES))


def _utc_date(name: str) -> str:
    """Return the expression for the UTC date of a macro's parameter, whatever the time zone of who asks.

    A date, a text or a TIMESTAMP would be cast to TIMESTAMPTZ as in that time zone.
    """
    zoned = f"typeof({name}) = 'TIMESTAMP WITH TIME ZONE'"
    return f"if({zoned}, {name}::timestamptz at time zone 'UTC', {name}::timestamp)::date"


def _add_versions(connection: duckdb.DuckDBPyConnection, dataset: str, table: Committed) -> None:
    """Add what follows from a change log: every version of every record, and macros for dates past."""
    log = table.name
    keys = ", ".join(quoted(field.name) for field in table.schema if b"key" in (field.metadata or {}))
    about_changes = (CHANGE, "changed_columns", "old_values", "previous_date")
    versions, next_date = quoted(f"{dataset}_versions"), "next_date"
    # A record that vanished and appeared again has a gap between two versions.
    connection.execute(
        f"create view {versions} as"  # noqa: S608  quoted above
        f" select versions.* exclude ({PARTITION}, {', '.join(about_changes)}, {next_date}, last_date),"
        f" versions.{PARTITION} as valid_from, {next_date} as valid_to,"
        f" coalesce(last_date, newest.{PARTITION}) as seen_until, {next_date} is null as is_current"
        f" from (select *, lead({PARTITION}) over record as {next_date}, lead(previous_date) over record as last_date"
        f" from {quoted(log)} window record as (partition by slice_id, {keys} order by {PARTITION})) as versions"
        f" left join current_slices as newest using (slice_id)"
        f" where {CHANGE} <> 'vanished'"
    )
    connection.execute(
        f"create macro {quoted(f'{dataset}_as_of')}(instant) as table"  # noqa: S608
        f" select * from {versions} where valid_from <= {_utc_date('instant')}"
        f" and (valid_to is null or valid_to > {_utc_date('instant')})"
    )
    connection.execute(
        f"create macro {quoted(f'{log}_between')}(from_date, to_date) as table"  # noqa: S608
        f" select * from {quoted(log)} where {PARTITION} between {_utc_date('from_date')} and {_utc_date('to_date')}"
    )
    comments = {
        **{name: text for name, text in descriptions(table.schema).items() if name not in about_changes},
        "valid_from": "snapshot date from which the record was like this",
        "valid_to": "snapshot date from which it was different or gone; null if it still is like this",
        "seen_until": "newest complete snapshot that shows the record like this",
        "is_current": "whether the newest complete snapshot has the record like this",
    }
    del comments[PARTITION]
    comment_on(connection, versions, comments)


def has_slices(table: Committed) -> bool:
    """Tell whether it is a table of a dataset: its rows belong to a snapshot, which may be the newest of its slice."""
    names = table.schema.names
    return not table.name.startswith("etl_") and "slice_id" in names and CHANGE not in names


def _history(name: str) -> str:
    return f"{name}_history"


def _remove(draft: Path) -> None:
    for leftover in (draft, Path(f"{draft}.wal")):
        leftover.unlink(missing_ok=True)
