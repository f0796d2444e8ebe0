"""Parquet files: written with checksums and synced, read with their checksums proven."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import WarehouseError
from etl.storage.disk import remove_files, sync_file

OPTIONS: Mapping[str, Any] = {
    "compression": "zstd", "write_page_checksum": True, "store_schema": False, "version": "2.6"
}  # fmt: skip
"""Of every data file."""


class DataFile:
    """A data file while it is written.

    Args:
        path: of the file, which must not be there yet.
        schema: of its rows.

    Attributes:
        path: see there.
        rows: how many are written.
        nulls: how many of them are null, by column.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, **OPTIONS)
        self.path = path
        self.rows = 0
        self.nulls = dict.fromkeys(schema.names, 0)

    def write(self, rows: pa.RecordBatch | pa.Table, row_group_rows: int | None = None) -> None:
        """Append rows, as row groups of so many; None for one."""
        self._writer.write(rows, row_group_size=row_group_rows or rows.num_rows)
        self.rows += rows.num_rows
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            self.nulls[name] += column.null_count

    def close(self) -> None:
        """Return when the file is whole and on the disk."""
        self._writer.close()
        sync_file(self.path)

    def abandon(self) -> None:
        """Remove what there is of the file."""
        with suppress(OSError, pa.ArrowException):  # a full disk also refuses the end of a file
            self._writer.close()
        remove_files([self.path])


def check_file(file: str) -> None:
    """Read a whole data file, its checksums proven.

    Raises:
        WarehouseError: it is missing or damaged.
    """
    for _ in read_batches(file, None):
        pass


def read_file(file: str, columns: Sequence[str] | None) -> pa.Table:
    """Return some columns of a data file, or all, its checksums proven.

    Raises:
        WarehouseError: it is missing or damaged.
    """
    try:
        return pq.ParquetFile(file, page_checksum_verification=True).read(
            columns=columns and list(columns), use_threads=False
        )
    except (OSError, pa.ArrowException) as exc:
        raise WarehouseError(f"{file}: cannot be read: {exc}; run again: it publishes anew") from exc


def read_batches(file: str, columns: Sequence[str] | None, batch_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a data file, or all, its checksums proven, some thousand rows at a time.

    Raises:
        WarehouseError: it is missing or damaged.
    """
    try:
        # Ahead of what is asked for, pyarrow would read the whole file, and keep it to the end.
        with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as parquet:
            yield from parquet.iter_batches(batch_rows, columns=columns and list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as exc:
        raise WarehouseError(f"{file}: cannot be read: {exc}; run again: it publishes anew") from exc
