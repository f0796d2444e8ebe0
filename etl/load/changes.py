"""The change log: what appeared, changed or vanished between two complete snapshots of a slice.

Each row is the whole record: as it is from that date on or, of one that vanished, as it was last. So the log alone
holds every version, and daily partitions can go.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import WarehouseError, first_line
from etl.load.delta.parquet import read_batches
from etl.load.delta.stage import Stage
from etl.load.delta.tables import Committed
from etl.sqltext import literal, quoted

CHANGE = "change"
_BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Comparison:
    """Slices of one date, each with the date of its complete snapshot before; None for the first.

    `change_log` is the change log so far: it says what a date was like whose data files retention has removed; all but
    `published`, the date that is new.
    """

    table: Committed
    change_log: Committed | None
    published: dt.date
    snapshot_date: dt.date
    previous_dates: Mapping[str, dt.date | None]


def logged_dataset(schema: pa.Schema) -> str | None:
    """Return the dataset whose changes a table logs; None if it logs none."""
    return schema.field(CHANGE).metadata[b"dataset"].decode() if CHANGE in schema.names else None


def write_changes(
    comparison: Comparison, schema: pa.Schema, keys: Sequence[str], columns: Sequence[str], stage: Stage
) -> None:
    """Stage the changes of some slices.

    Args:
        comparison: what is compared; rows are read from the committed data files.
        schema: of the change log.
        keys: columns that identify a record within its slice.
        columns: those whose values count as a change.
        stage: of the change log.

    Raises:
        WarehouseError: a data file is missing or damaged.
    """
    first: list[str] = []
    by_date: dict[dt.date, list[str]] = {}
    for slice_id, date in comparison.previous_dates.items():
        (by_date.setdefault(date, []) if date else first).append(slice_id)
    for batch in _appeared(comparison, schema, first):
        stage.write(batch)
    for previous_date, slice_ids in by_date.items():
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            try:
                _add_rows(connection, "now_rows", comparison, comparison.snapshot_date, slice_ids, keys)
                _add_rows(connection, "then_rows", comparison, previous_date, slice_ids, keys)
                statement = _statement(schema, keys, columns)
                dates = {"snapshot_date": comparison.snapshot_date, "previous_date": previous_date}
                for batch in connection.sql(statement, params=dates).to_arrow_reader(_BATCH_ROWS):
                    stage.write(pa.RecordBatch.from_arrays(_cast(batch, schema), schema=schema))
            except duckdb.Error as exc:
                reason = first_line(exc)  # below it, DuckDB repeats the statement
                raise WarehouseError(
                    f"table {comparison.table.name}: changes since {previous_date} cannot be told: {reason}; "
                    f"`nimble-etl replay --since {previous_date}` writes a damaged file anew from its ledger"
                ) from exc


def _appeared(comparison: Comparison, schema: pa.Schema, slice_ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of slices that had no snapshot before, as changes: there is nothing to compare them with."""
    for file in comparison.table.files.get(comparison.snapshot_date, []) if slice_ids else []:
        for batch in read_batches(file, schema.names, _BATCH_ROWS):
            rows = batch.filter(pc.is_in(batch["slice_id"], pa.array(slice_ids, pa.string())))
            found = dict(zip(rows.schema.names, rows.columns, strict=True)) | {
                "snapshot_date": pa.repeat(pa.scalar(comparison.snapshot_date), rows.num_rows),
                CHANGE: pa.repeat("appeared", rows.num_rows),
            }
            columns = [
                found[field.name].cast(field.type) if field.name in found else pa.nulls(rows.num_rows, field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _add_rows(  # noqa: PLR0913, PLR0917  what rows of which slices, and under which name
    connection: duckdb.DuckDBPyConnection,
    view: str,
    comparison: Comparison,
    date: dt.date,
    slice_ids: Iterable[str],
    keys: Sequence[str],
) -> None:
    """Add the rows that some slices have on a date, under a name of their own."""
    schema = comparison.table.schema
    connection.register(f"empty_{view}", pa.table(schema.empty_table()).drop_columns("snapshot_date"))
    # Older files lack younger columns.
    connection.execute(f"create table {view}_types as from empty_{view}")
    kept = f"slice_id in ({', '.join(map(literal, slice_ids))})"
    source = f"{view}_types"
    if files := comparison.table.files.get(date, []):
        source += f" union all by name select * from {_parquet(files)} where {kept}"  # noqa: S608  quoted
    elif date != comparison.published and (files := _until(comparison.change_log, date)):
        record = ", ".join(map(quoted, ("slice_id", *keys)))
        source += (
            f" union all by name select * from (from {_parquet(files)} where {kept}"  # noqa: S608
            f" qualify row_number() over (partition by {record} order by snapshot_date desc) = 1)"
            f" where {CHANGE} <> 'vanished'"
        )
    connection.execute(f"create view {view} as from {source}")


def _until(change_log: Committed | None, date: dt.date) -> list[str]:
    return [file for day, files in change_log.files.items() if day <= date for file in files] if change_log else []


def _parquet(files: Iterable[str]) -> str:
    options = "union_by_name = true, hive_partitioning = true, hive_types = {'snapshot_date': date}"
    return f"read_parquet([{', '.join(map(literal, files))}], {options})"


def _statement(schema: pa.Schema, keys: Sequence[str], columns: Sequence[str]) -> str:
    """Return the query for one row per change, in the order of the schema."""
    kinds = {field.name: field.type for field in schema}

    def comparable(side: str, name: str) -> str:
        # The entries of a map have no order; the service may give them in another one every night.
        value = f"{side}.{quoted(name)}"
        return f"list_sort(map_entries({value}))" if pa.types.is_map(kinds[name]) else value

    differs = {
        name: f"{comparable('now_rows', name)} is distinct from {comparable('then_rows', name)}" for name in columns
    }
    both = " and ".join(f"now_rows.{quoted(key)} = then_rows.{quoted(key)}" for key in ("slice_id", *keys))
    changed = ", ".join(f"case when {test} then '{name}' end" for name, test in differs.items())
    old = ", ".join(
        f"case when {test} then {{key: '{name}', value: to_json(then_rows.{quoted(name)})::varchar}} end"
        for name, test in differs.items()
    )
    is_new, is_gone = "then_rows.slice_id is null", "now_rows.slice_id is null"
    special = {
        "snapshot_date": "$snapshot_date",
        "previous_date": "$previous_date::date",
        CHANGE: f"case when {is_new} then 'appeared' when {is_gone} then 'vanished' else 'changed' end",
        "changed_columns": f"case when not {is_new} and not {is_gone} then"
        f" list_filter([{changed}], lambda name: name is not null) end",
        "old_values": f"case when not {is_new} and not {is_gone} then"
        f" map_from_entries(list_filter([{old}], lambda entry: entry is not null)) end",
    }
    selected = ", ".join(
        special.get(name, f"if({is_gone}, then_rows.{quoted(name)}, now_rows.{quoted(name)})") + f" as {quoted(name)}"
        for name in schema.names
    )
    any_change = " or ".join([is_new, is_gone, *differs.values()])
    return f"select {selected} from now_rows full outer join then_rows on {both} where {any_change}"  # noqa: S608


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> list[pa.Array]:
    return [batch.column(field.name).cast(field.type) for field in schema]
