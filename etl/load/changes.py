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

from etl.errors import WarehouseError
from etl.load.tables import Committed, Stage, read_batches

CHANGE = "change"
_BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Comparison:
    """Slices of one date, each with the date of its complete snapshot before; None for the first."""

    table: Committed
    snapshot_date: dt.date
    previous_dates: Mapping[str, dt.date | None]


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
                _add_rows(connection, "now_rows", comparison.table, comparison.snapshot_date, slice_ids)
                _add_rows(connection, "then_rows", comparison.table, previous_date, slice_ids)
                statement = _statement(schema, keys, columns)
                dates = {"snapshot_date": comparison.snapshot_date, "previous_date": previous_date}
                for batch in connection.sql(statement, params=dates).to_arrow_reader(_BATCH_ROWS):
                    stage.write(pa.RecordBatch.from_arrays(_cast(batch, schema), schema=schema))
            except duckdb.Error as exc:
                raise WarehouseError(
                    f"table {comparison.table.name}: changes since {previous_date} cannot be told: {exc}"
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


def _add_rows(
    connection: duckdb.DuckDBPyConnection, view: str, table: Committed, date: dt.date, slice_ids: Iterable[str]
) -> None:
    """Add the rows that some slices have on a date, under a name of their own."""
    files = table.files.get(date, [])
    names = [name for name in table.schema.names if name != "snapshot_date"]
    if not files:
        connection.register(f"no_{view}", pa.table(table.schema.empty_table()).select(names))
        connection.execute(f"create view {view} as from no_{view}")
        return
    connection.register(f"empty_{view}", pa.table(table.schema.empty_table()).select(names))
    # Older files lack younger columns.
    connection.execute(f"create table {view}_types as from empty_{view}")
    kept = ", ".join(f"'{slice_id}'" for slice_id in slice_ids)  # hexadecimal digits
    paths = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    connection.execute(
        f"create view {view} as from {view}_types union all by name"  # noqa: S608  quoted above
        f" select * from read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
        f" where slice_id in ({kept})"
    )


def _statement(schema: pa.Schema, keys: Sequence[str], columns: Sequence[str]) -> str:
    """Return the query for one row per change, in the order of the schema."""
    kinds = {field.name: field.type for field in schema}

    def comparable(side: str, name: str) -> str:
        # The entries of a map have no order; the service may give them in another one every night.
        value = f"{side}.{_quoted(name)}"
        return f"list_sort(map_entries({value}))" if pa.types.is_map(kinds[name]) else value

    differs = {
        name: f"{comparable('now_rows', name)} is distinct from {comparable('then_rows', name)}" for name in columns
    }
    both = " and ".join(f"now_rows.{_quoted(key)} = then_rows.{_quoted(key)}" for key in ("slice_id", *keys))
    changed = ", ".join(f"case when {test} then '{name}' end" for name, test in differs.items())
    old = ", ".join(
        f"case when {test} then {{key: '{name}', value: to_json(then_rows.{_quoted(name)})::varchar}} end"
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
        special.get(name, f"if({is_gone}, then_rows.{_quoted(name)}, now_rows.{_quoted(name)})")
        + f" as {_quoted(name)}"
        for name in schema.names
    )
    any_change = " or ".join([is_new, is_gone, *differs.values()])
    return f"select {selected} from now_rows full outer join then_rows on {both} where {any_change}"  # noqa: S608


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> list[pa.Array]:
    return [batch.column(field.name).cast(field.type) for field in schema]


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
