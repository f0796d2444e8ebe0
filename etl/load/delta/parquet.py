"""Parquet files: written with checksums and synced, read with their checksums verified."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import WarehouseError
from etl.storage.store import Store

OPTIONS: Mapping[str, Any] = {
    "compression": "zstd", "write_page_checksum": True, "store_schema": False, "version": "2.6"
}  # fmt: skip
"""How every data file is written."""


@dataclass(frozen=True, slots=True)
class Written:
    """A whole data file: its absolute name, its size in bytes, its rows, and the number of nulls in each column."""

    name: str
    size: int
    rows: int
    nulls: Mapping[str, int]


class DataFile:
    """A data file while it is written. Its rows have the schema `schema`. The file `name` must not exist before."""

    def __init__(self, store: Store, name: str, schema: pa.Schema, unique: Collection[str] = ()) -> None:
        """Create a file. Values of the columns `unique` hardly repeat: a dictionary would only cost time and room.

        Of instants that hardly repeat, the differences are packed, which takes less room and less time than zstd alone.
        BYTE_STREAM_SPLIT would take 2.6 bytes a session less, but for integers it is as young as Parquet 2.11 (2024).
        """
        repeating = [leaf for field in schema if field.name not in unique for leaf in _leaves(field.name, field.type)]
        packed = {f.name: "DELTA_BINARY_PACKED" for f in schema if f.name in unique and pa.types.is_timestamp(f.type)}
        self._store = store
        self._draft = store.draft(name)
        self._writer = pq.ParquetWriter(
            self._draft, schema, use_dictionary=repeating, column_encoding=packed or None, **OPTIONS
        )
        self.name = name
        self.schema = schema
        self._rows = 0
        self._nulls = dict.fromkeys(schema.names, 0)

    def write(self, rows: pa.RecordBatch | pa.Table, row_group_rows: int | None = None) -> None:
        """Append rows, in row groups of at most `row_group_rows`; None makes one row group."""
        self._writer.write(rows, row_group_size=row_group_rows or rows.num_rows)
        self._rows += rows.num_rows
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            self._nulls[name] += column.null_count

    def size_so_far(self) -> int:
        """Return how many bytes are written."""
        return self._draft.stat().st_size

    def close(self) -> Written:
        """Finish the file. It is whole and durable when this returns; on a disk, its name is not."""
        self._writer.close()
        size = self.size_so_far()
        self._store.keep(self._draft, self.name)
        return Written(self.name, size, self._rows, self._nulls)

    def abandon(self) -> None:
        """Remove the unfinished file."""
        with suppress(OSError, pa.ArrowException):  # a full disk also refuses the end of a file
            self._writer.close()
        self._draft.unlink(missing_ok=True)


def _leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    """Yield the paths of the columns that Parquet makes of a column."""
    if pa.types.is_struct(kind):
        for inner in kind:
            yield from _leaves(f"{path}.{inner.name}", inner.type)
    elif pa.types.is_map(kind):
        yield from _leaves(f"{path}.key_value.key", kind.key_type)
        yield from _leaves(f"{path}.key_value.value", kind.item_type)
    elif pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path


def write_file(
    store: Store, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], row_group_rows: int
) -> Written:
    """Write a data file, in row groups of at most `row_group_rows` rows. If that fails, nothing is left of it."""
    file = DataFile(store, name, schema)
    try:
        for batch in batches:
            file.write(batch, row_group_rows)
        return file.close()
    except BaseException:
        file.abandon()
        raise


def check_file(store: Store, file: str, rows: int | None = None, nulls: Mapping[str, int] | None = None) -> None:
    """Read a whole data file; verify its checksums, its statistics, and what a log says about it.

    Readers skip row groups by their statistics, which have no checksum. `rows` and `nulls` (column -> nulls in it) are
    what the log says; None or empty: it does not say.

    Raises:
        WarehouseError: the file is missing or damaged, or differs from what is said about it.
    """
    found: Counter[str] = Counter()
    with _opened(store, file) as parquet:
        for number in range(parquet.num_row_groups):
            group = parquet.read_row_group(number, use_threads=False)
            _check_statistics(file, parquet.metadata.row_group(number), group)
            found.update({name: column.null_count for name, column in zip(group.column_names, group, strict=True)})
        count, names = parquet.metadata.num_rows, parquet.schema_arrow.names
    if rows not in (None, count) or (nulls and nulls != {name: found[name] for name in names}):
        raise WarehouseError(
            f"{file}: it has other rows, columns or nulls than the log of its table says; {_then(file)}"
        )


def _check_statistics(file: str, said: pq.RowGroupMetaData, group: pa.Table) -> None:
    """Refuse statistics of a row group that would hide some of its rows from a reader with a filter."""
    import pyarrow.compute as pc  # noqa: PLC0415  so that `status` is quick

    for index in range(said.num_columns):
        column = said.column(index)
        name, statistics = column.path_in_schema, column.statistics
        if statistics is None or name not in group.column_names or pa.types.is_nested(group.schema.field(name).type):
            continue
        values = group[name]
        hidden = statistics.has_null_count and statistics.null_count != values.null_count
        if statistics.has_min_max and values.null_count < len(values):
            kind = _RAW.get(statistics.physical_type, values.type)
            least, most = (pc.min_max(values.cast(kind))[end].as_py() for end in ("min", "max"))
            raw = (statistics.min_raw, statistics.max_raw)
            if isinstance(least, str):
                least, most = least.encode(), most.encode()
            hidden = hidden or raw[0] > least or raw[1] < most
        if hidden:
            raise WarehouseError(f"{file}: its statistics of column {name} would hide rows from readers; {_then(file)}")


_RAW = {"INT32": pa.int32(), "INT64": pa.int64()}
"""Types of the numbers that dates and instants are stored as."""


def read_batches(
    store: Store, file: str, columns: Sequence[str] | None, batch_rows: int = 65_536, *, encoded: bool = False
) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a data file, or all, in batches of at most `batch_rows` rows, and verify their checksums.

    Columns that the file does not have are left out. With `encoded`, texts that the file has as dictionaries stay
    dictionaries: whoever writes them again need not look at each.

    Raises:
        WarehouseError: the file is missing or damaged.
    """
    with _opened(store, file, _dictionaries(store, file) if encoded else ()) as parquet:
        rows = 0
        for batch in parquet.iter_batches(batch_rows, columns=columns and list(columns), use_threads=False):
            rows += batch.num_rows
            yield batch
        if rows != parquet.metadata.num_rows:  # the header of a page has no checksum
            raise WarehouseError(f"{file}: {rows} of {parquet.metadata.num_rows} rows can be read; {_then(file)}")


def _dictionaries(store: Store, file: str) -> Sequence[str]:
    """Return the columns of texts that a data file has as dictionaries."""
    with _opened(store, file) as parquet:
        groups = [parquet.metadata.row_group(0)] if parquet.metadata.num_row_groups else []
    leaves = [group.column(number) for group in groups for number in range(group.num_columns)]
    texts = [leaf for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and "." not in leaf.path_in_schema]
    return [leaf.path_in_schema for leaf in texts if "RLE_DICTIONARY" in leaf.encodings]


def read_columns(store: Store, file: str) -> list[str]:
    """Return the names of the columns of a data file.

    Raises:
        WarehouseError: the file is missing or damaged.
    """
    with _opened(store, file) as parquet:
        return list(parquet.schema_arrow.names)


def count_rows(store: Store, file: str) -> int:
    """Return how many rows a data file says it has.

    Raises:
        WarehouseError: the file is missing or damaged.
    """
    with _opened(store, file) as parquet:
        return int(parquet.metadata.num_rows)


def read_footer(store: Store, file: str) -> pq.FileMetaData:
    """Return what the end of a data file says: its columns, row groups and statistics.

    Raises:
        WarehouseError: the file is missing or damaged.
    """
    with _opened(store, file) as parquet:
        return parquet.metadata


@contextmanager
def _opened(store: Store, file: str, dictionaries: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """Yield a data file, some columns as dictionaries. Whatever cannot be read of it becomes a WarehouseError."""
    try:
        # With its read-ahead buffer, pyarrow would read the whole file at once and keep it in memory.
        options: dict[str, Any] = {"page_checksum_verification": True, "pre_buffer": False}
        with pq.ParquetFile(store.opened(file), read_dictionary=list(dictionaries), **options) as parquet:
            yield parquet
    except (OSError, ValueError, pa.ArrowException) as exc:  # ValueError: a name in it is no text any more
        raise WarehouseError(f"{file}: cannot be read: {exc}; {_then(file)}") from exc


def _then(file: str) -> str:
    """Return what to do about a damaged file."""
    date = Path(file).parent.name.partition("=")[2]
    return f"`nimble-etl replay --since {date}` writes it again from the ledgers"


def fill(rows: pa.RecordBatch, schema: pa.Schema, constants: Mapping[str, Any]) -> pa.RecordBatch:
    """Return n rows in the columns and types of a schema. Texts that are dictionaries stay dictionaries.

    A column has its constant if there is one, otherwise the values of the column of that name, otherwise null.
    """
    n = rows.num_rows
    found = dict(zip(rows.schema.names, rows.columns, strict=True))
    found |= {name: pa.repeat(value, n) for name, value in constants.items()}
    columns = [_cast(found[f.name], f.type) if f.name in found else pa.nulls(n, f.type) for f in schema]
    fields = [field.with_type(column.type) for field, column in zip(schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, schema.metadata))


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    is_dictionary = pa.types.is_dictionary(column.type) and column.type.value_type == kind
    # A cast of nothing would load pyarrow.compute.
    return column if is_dictionary or column.type == kind else column.cast(kind)
