"""Parquet files: written with checksums and synced, read with their checksums verified."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import WarehouseError
from etl.storage.disk import remove_files, sync_file

OPTIONS: Mapping[str, Any] = {
    "compression": "zstd", "write_page_checksum": True, "store_schema": False, "version": "2.6"
}  # fmt: skip
"""How every data file is written."""


class DataFile:
    """A data file while it is written.

    Attributes:
        path: the file. It must not exist before.
        schema: schema of its rows.
        rows: rows written so far.
        nulls: column -> how many of these rows have null in it.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, **OPTIONS)
        self.path = path
        self.schema = schema
        self.rows = 0
        self.nulls = dict.fromkeys(schema.names, 0)

    def write(self, rows: pa.RecordBatch | pa.Table, row_group_rows: int | None = None) -> None:
        """Append rows, in row groups of at most `row_group_rows`; None makes one row group."""
        self._writer.write(rows, row_group_size=row_group_rows or rows.num_rows)
        self.rows += rows.num_rows
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            self.nulls[name] += column.null_count

    def close(self) -> None:
        """Finish the file. It is whole and on the disk when this returns."""
        self._writer.close()
        sync_file(self.path)

    def abandon(self) -> None:
        """Remove the unfinished file."""
        with suppress(OSError, pa.ArrowException):  # a full disk also refuses the end of a file
            self._writer.close()
        remove_files([self.path])


@contextmanager
def data_file(path: Path, schema: pa.Schema) -> Iterator[DataFile]:
    """Yield a data file to write. It is closed after the block, or removed if the block or the closing fails."""
    file = DataFile(path, schema)
    try:
        yield file
        file.close()
    except BaseException:
        file.abandon()
        raise


def check_file(file: str) -> None:
    """Read a whole data file and verify its checksums.

    Raises:
        WarehouseError: the file is missing or damaged.
    """
    for _ in read_batches(file, None):
        pass


def read_batches(file: str, columns: Sequence[str] | None, batch_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a data file, or all, in batches of at most `batch_rows` rows, and verify their checksums.

    Columns that the file does not have are left out.

    Raises:
        WarehouseError: the file is missing or damaged.
    """
    try:
        # With its read-ahead buffer, pyarrow would read the whole file at once and keep it in memory.
        with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as parquet:
            yield from parquet.iter_batches(batch_rows, columns=columns and list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as exc:
        raise WarehouseError(f"{file}: cannot be read: {exc}; run again: it publishes anew") from exc


def fill(rows: pa.RecordBatch, schema: pa.Schema, constants: Mapping[str, Any]) -> pa.RecordBatch:
    """Return n rows in the columns and types of a schema.

    A column has its constant if there is one, otherwise the values of the column of that name, otherwise null.
    """
    n = rows.num_rows
    found = dict(zip(rows.schema.names, rows.columns, strict=True))
    found |= {name: pa.repeat(value, n) for name, value in constants.items()}
    columns = [found[f.name].cast(f.type) if f.name in found else pa.nulls(n, f.type) for f in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
