"""The change log: what appeared, changed or vanished between two complete snapshots of a slice.

Each row is a whole record: its values from that date on or, if it vanished, its last values. So the change log alone
holds every version of every record, and daily partitions can be removed.
"""

import datetime as dt
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from etl.errors import WarehouseError, first_line
from etl.load.delta.parquet import fill, read_batches
from etl.load.delta.stage import Sink
from etl.load.delta.tables import Committed
from etl.model import HASHED, Rule
from etl.sqltext import literal, quoted

CHANGE = "change"
_BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Comparison:
    """The snapshots of one date, and for each slice id the date of the complete snapshot before it; None without one.

    `change_log` is the change log so far. It replaces data files that retention has removed. It does not know the date
    `published` yet, whose snapshots are new. `rejects` has the records that were listed and do not fit. `empty` has the
    (date, slice id) of snapshots of which no file has a row because they have none.
    """

    table: Committed
    change_log: Committed | None
    rejects: Committed | None
    published: dt.date
    snapshot_date: dt.date
    previous_dates: Mapping[str, dt.date | None]
    empty: Container[tuple[dt.date, str]] = ()


def logged_dataset(schema: pa.Schema) -> str | None:
    """Return the dataset of a change log; None for other tables."""
    return schema.field(CHANGE).metadata[b"dataset"].decode() if CHANGE in schema.names else None


def key_of_log(schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns of a change log that identify a record within its slice."""
    return tuple(field.name for field in schema if b"key" in (field.metadata or {}))


@dataclass(frozen=True, slots=True)
class Compared:
    """A column whose values are compared: what privacy says now about it, and about entries of it if it is a map."""

    name: str
    rule: Rule = "allow"
    entry_rules: Mapping[str, Rule] = field(default_factory=dict)


def compared_in(schema: pa.Schema) -> list[Compared]:
    """Return the columns of a change log whose values are compared, without the rules for entries of maps.

    What these rules do not allow was never written.
    """
    own = [field for field in schema if field.name == "extra" or b"api_path" in (field.metadata or {})]
    rules: Mapping[bytes, Rule] = {b"hash": "hash", b"drop": "drop"}
    return [
        Compared(field.name, rules.get((field.metadata or {}).get(b"privacy", b""), "allow"))
        for field in own
        if field.name not in key_of_log(schema)
    ]


def write_changes(
    comparison: Comparison, schema: pa.Schema, keys: Sequence[str], columns: Sequence[Compared], sink: Sink
) -> None:
    """Write the changes of some slices to a sink, in the `schema` of the change log.

    The columns `keys` identify a record within its slice. The values of `columns` are compared. A snapshot that was
    written under former rules of privacy brings no value into the log that the present rules do not allow. A record
    that was listed and rejected counts as it was before: it has not vanished, and it does not appear again.

    Raises:
        WarehouseError: a data file is missing or damaged.
    """
    by_date: dict[dt.date | None, list[str]] = {}
    for slice_id, date in comparison.previous_dates.items():
        by_date.setdefault(date, []).append(slice_id)
    if comparison.snapshot_date in {comparison.published, *comparison.table.files}:  # else the log itself is read
        for batch in _appeared(comparison, schema, by_date.pop(None, [])):
            sink.write(batch)
    for previous_date, slice_ids in by_date.items():
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            comparison.table.store.connect(connection)
            try:
                # The empty table brings the columns that older files lack.
                empty = comparison.table.schema.empty_table().drop_columns("snapshot_date")
                connection.from_arrow(empty).create("empty_rows")
                for view in _views(comparison, schema, previous_date, slice_ids, keys):
                    connection.execute(f"create view {view}")
                statement = _statement(schema, keys, columns)
                dates = {"snapshot_date": comparison.snapshot_date, "previous_date": previous_date}
                for batch in connection.sql(statement, params=dates).to_arrow_reader(_BATCH_ROWS):
                    sink.write(batch.cast(schema))
            except duckdb.Error as exc:
                reason, since = first_line(exc), previous_date or comparison.snapshot_date  # other lines repeat the SQL
                raise WarehouseError(
                    f"table {comparison.table.name}: cannot find the changes since {since}: {reason}; "
                    f"`nimble-etl replay --since {since}` writes a damaged file again from its ledger"
                ) from exc


def _appeared(comparison: Comparison, schema: pa.Schema, slice_ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield all rows of slices without an earlier snapshot, as records that appeared."""
    import pyarrow.compute as pc  # noqa: PLC0415  so that `status` is quick

    constants = {"snapshot_date": comparison.snapshot_date, CHANGE: "appeared"}
    for file in comparison.table.files.get(comparison.snapshot_date, []) if slice_ids else []:
        for batch in read_batches(comparison.table.store, file, schema.names, _BATCH_ROWS, encoded=True):
            wanted = pc.is_in(batch["slice_id"], pa.array(slice_ids, pa.string()))
            yield fill(batch if pc.all(wanted).as_py() else batch.filter(wanted), schema, constants)


def _views(
    comparison: Comparison,
    schema: pa.Schema,
    previous_date: dt.date | None,
    slice_ids: Sequence[str],
    keys: Sequence[str],
) -> Iterator[str]:
    """Yield the SQL of the views `then_rows` and `now_rows`, each after those that it needs."""
    kept = _of(slice_ids)
    plain = [key for key in keys if b"api_path" in schema.field(key).metadata]  # and not the digest of the record
    plain = [key for key in plain if not pa.types.is_nested(schema.field(key).type)]
    names = ", ".join(
        f"json_extract_string(record, {literal(_json_path(schema.field(key)))}) as {quoted(key)}" for key in plain
    )
    before = _last_versions(comparison, previous_date - dt.timedelta(days=1), kept, keys) if previous_date else None
    for side, date, former in (("then", previous_date, before), ("now", comparison.snapshot_date, "from then_rows")):
        found = f"from empty_rows {_rows(comparison, date, slice_ids, keys) if date else ''}"
        files = comparison.rejects.files.get(date) if comparison.rejects and date else None
        if files and former and plain:
            rejected = f"select slice_id, {names} from {_parquet(files)} where {kept} and json_valid(record)"  # noqa: S608  quoted
            listed = _is_same("former", "rejected", plain, "::varchar")
            yield f"{side}_found as {found}"
            yield f"{side}_listed as from ({former}) as former semi join ({rejected}) as rejected on {listed}"
            same = _is_same("listed", "found", keys)
            listed = f"from {side}_listed as listed anti join {side}_found as found on {same}"
            found = f"from {side}_found union all by name {listed}"
        yield f"{side}_rows as {found}"


def _rows(comparison: Comparison, date: dt.date, slice_ids: Sequence[str], keys: Sequence[str]) -> str:
    """Return the SQL that adds the rows of some slices on a date to an empty table; nothing if there are none."""
    if files := comparison.table.files.get(date, []):
        return f"union all by name select * from {_parquet(files)} where {_of(slice_ids)}"  # noqa: S608  quoted
    removed = [name for name in slice_ids if date != comparison.published and (date, name) not in comparison.empty]
    versions = _last_versions(comparison, date, _of(removed), keys) if removed else None
    return f"union all by name {versions}" if versions else ""


def _of(slice_ids: Sequence[str]) -> str:
    """Return the test whether a row is of one of some slices."""
    return f"slice_id in ({', '.join(map(literal, slice_ids))})"


def _last_versions(comparison: Comparison, until: dt.date, kept: str, keys: Sequence[str]) -> str | None:
    """Return the SQL of the last version of each record up to a date, in the columns of the change log.

    None if the change log does not reach back so far.
    """
    change_log = comparison.change_log.files if comparison.change_log else {}
    logged = [file for day, files in change_log.items() if day <= until for file in files]
    if not logged:
        return None
    return (
        f"select * from (from {_parquet(logged)} where {kept}"  # noqa: S608  quoted
        f" qualify row_number() over (partition by {', '.join(_record(keys))} order by snapshot_date desc) = 1)"
        f" where {CHANGE} <> 'vanished'"
    )


def _record(keys: Sequence[str]) -> list[str]:
    """Return the columns that identify a record, as SQL writes them."""
    return [quoted(name) for name in ("slice_id", *keys)]


def _is_same(one: str, other: str, keys: Sequence[str], cast: str = "") -> str:
    """Return the test whether two rows are of the same record. Of a key of several columns, some may be null."""
    equal = "=" if len(keys) == 1 else "is not distinct from"
    parts = (f"{one}.{quoted(key)}{cast} {equal} {other}.{quoted(key)}" for key in keys)
    return " and ".join([f"{one}.slice_id = {other}.slice_id", *parts])


def _json_path(column: pa.Field) -> str:
    """Return where the value of a column stands in the JSON text of a record."""
    path = column.metadata[b"api_path"].decode().rpartition("[].")[2]
    return "$" + "".join(f'."{name}"' for name in path.split("."))


def _parquet(files: Iterable[str]) -> str:
    options = "union_by_name = true, hive_partitioning = true, hive_types = {'snapshot_date': date}"
    return f"read_parquet([{', '.join(map(literal, files))}], {options})"


def _statement(schema: pa.Schema, keys: Sequence[str], columns: Sequence[Compared]) -> str:
    """Return the query for the change log: one row per change, columns in the order of the schema."""

    def comparable(side: str, column: Compared) -> str:
        # The entries of a map have no order: the service may return them in another order every night.
        value = _allowed(side, column)
        return f"list_sort(map_entries({value}))" if pa.types.is_map(schema.field(column.name).type) else value

    def sides(column: Compared) -> Sequence[str]:
        # A value that was written before it was to be hashed is no change.
        return ("now_rows", "then_rows") if column.rule == "hash" else ()

    differs = {
        column.name: f"{comparable('now_rows', column)} is distinct from {comparable('then_rows', column)}"
        + "".join(f" and {_is_allowed(side, column)}" for side in sides(column))
        for column in columns
    }
    both = _is_same("now_rows", "then_rows", keys)
    changed = ", ".join(f"case when {test} then '{name}' end" for name, test in differs.items())
    by_name = {column.name: column for column in columns}
    old = ", ".join(
        f"case when {test} then {{key: '{name}', value: to_json({_allowed('then_rows', by_name[name])})::varchar}} end"
        for name, test in differs.items()
    )
    is_new, is_gone = "then_rows.slice_id is null", "now_rows.slice_id is null"
    if_both = f"case when not {is_new} and not {is_gone} then"
    special = {
        "snapshot_date": "$snapshot_date",
        "previous_date": "$previous_date::date",
        CHANGE: f"case when {is_new} then 'appeared' when {is_gone} then 'vanished' else 'changed' end",
        "changed_columns": f"{if_both} list_filter([{changed}], lambda name: name is not null) end",
        "old_values": f"{if_both} map_from_entries(list_filter([{old}], lambda entry: entry is not null)) end",
    }

    def shown(name: str) -> str:
        column = by_name.get(name, Compared(name))
        return f"if({is_gone}, {_allowed('then_rows', column)}, {_allowed('now_rows', column)})"

    selected = ", ".join(f"{special.get(name) or shown(name)} as {quoted(name)}" for name in schema.names)
    any_change = " or ".join([is_new, is_gone, *(f"({test})" for test in differs.values())])
    return f"select {selected} from now_rows full outer join then_rows on {both} where {any_change}"  # noqa: S608


def _allowed(side: str, column: Compared) -> str:
    """Return the value of a column as the present rules allow it: null where it is dropped, or should be hashed."""
    value = f"{side}.{quoted(column.name)}"
    if column.rule == "drop":
        return f"if(false, {value}, null)"  # null of its type
    if column.rule == "hash":
        return f"case when {_is_allowed(side, column)} then {value} end"
    if not column.entry_rules:
        return value
    by_rule = {
        rule: ", ".join(literal(key) for key, found in column.entry_rules.items() if found == rule) or "null"
        for rule in ("drop", "hash")
    }
    is_hashed = f"entry.value is null or regexp_full_match(entry.value, '{HASHED}')"
    dropped, hashed = (f"coalesce(entry.key in ({by_rule[rule]}), false)" for rule in ("drop", "hash"))
    kept = f"not {dropped} and (not {hashed} or {is_hashed})"
    return f"map_from_entries(list_filter(map_entries({value}), lambda entry: {kept}))"


def _is_allowed(side: str, column: Compared) -> str:
    """Return the test whether a value of a column that is to be hashed is null or hashed."""
    value = f"{side}.{quoted(column.name)}::varchar"
    return f"coalesce(regexp_full_match({value}, '{HASHED}'), true)"
