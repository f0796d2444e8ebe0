"""Files that are changed behind the job's back."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def flip_byte(file: Path | str, place: int, mask: int = 0xFF) -> None:
    """Flip bits of one byte of a file, all of them unless a mask says which."""
    Path(file).write_bytes(flipped(Path(file).read_bytes(), place, mask))


def flipped(content: bytes, place: int, mask: int = 0xFF) -> bytes:
    """Return a content with flipped bits of one byte."""
    changed = bytearray(content)
    changed[place] ^= mask
    return bytes(changed)


def change_rows(table: Path, change: Callable[[list[dict]], list[dict]]) -> None:
    """Write the only data file below the directory of a Delta table anew, with other rows."""
    (file,) = table.glob("*/*.parquet")
    before = pq.ParquetFile(file).read()
    pq.write_table(pa.Table.from_pylist(change(before.to_pylist()), schema=before.schema), file)


def change_ledger(path: Path, statement: str, parameters: Sequence[Any] = ()) -> None:
    """Execute a statement on the file of a ledger, as another program would."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, parameters)
    connection.close()
