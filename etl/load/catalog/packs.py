"""Packs: one file more that holds what the small data files of a past month do, for the views of the catalog.

A view on the files of a thousand nights opens a thousand files for each query. Data files never change, so what was
made of them stays true: a pack is named for those that it stands for. Delta tables know nothing of packs; whoever
removes them loses nothing, for the next catalog makes them anew.
"""

import datetime as dt
import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import WarehouseError
from etl.load.delta.parquet import DataFile, read_batches
from etl.load.delta.tables import PARTITION, Committed, Tables
from etl.storage.disk import put_in_place, storage_errors

log = logging.getLogger(__name__)

_DIRECTORY = ".packs"
_FEWEST_FILES = 8
_MOST_ROWS = 250_000
"""A month of more is left as it is: larger files cost a query less, and so do they once more on the disk."""
_ROW_GROUP_ROWS = 32_768


@dataclass(frozen=True, slots=True)
class Pack:
    """What stands for some data files of a table.

    Attributes:
        path: of its file.
        members: date and file, in the order of their rows.
        columns: that any of them has.
        rows: of all of them together.
    """

    path: Path
    members: tuple[tuple[dt.date, str], ...]
    columns: frozenset[str]
    rows: int


def packs_of(root: Path, table: Committed) -> Iterator[Pack]:
    """Yield the packs that a table may have: of months before its newest date whose files are many and small.

    Args:
        root: the warehouse.
        table: read with the facts of its files.
    """
    newest = max(table.files, default=dt.date.min).replace(day=1)
    dates = sorted(date for date in table.files if date < newest)
    for (year, month), days in groupby(dates, lambda date: (date.year, date.month)):
        members = tuple((date, file) for date in days for file in table.files[date])
        facts = [table.facts[file] for _, file in members]
        rows = sum(known.rows for known in facts)
        if len(members) >= _FEWEST_FILES and rows <= _MOST_ROWS and all(known.nulls for known in facts):
            names = "\n".join(file.rpartition("/")[2] for _, file in members)
            name = f"{year}-{month:02}-{hashlib.sha256(names.encode()).hexdigest()[:16]}.parquet"
            path = root / _DIRECTORY / table.name / name
            yield Pack(path, members, frozenset(name for known in facts for name in known.nulls), rows)


def make_pack(pack: Pack, table: Committed) -> bool:
    """Make a pack that is not there yet, and tell whether it is there now: what it stands for may be damaged.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(pack.path):
        if _is_whole(pack):
            pack.path.touch()  # whoever reads a catalog of today may have it for `warehouse.vacuum_grace`
            return True
        pack.path.parent.mkdir(parents=True, exist_ok=True)
        draft = pack.path.with_suffix(".new")
        schema = pa.schema([f.remove_metadata() for f in table.schema if f.name in {PARTITION, *pack.columns}])
        file = DataFile(draft, schema)
        try:
            file.write(pa.Table.from_batches(_rows(pack, table, schema), schema), _ROW_GROUP_ROWS)
            file.close()
        except WarehouseError as exc:
            file.abandon()
            log.warning("%s", exc)
            return False
        except BaseException:
            file.abandon()
            raise
        put_in_place(draft, pack.path)
        return True


def remove_old_packs(tables: Tables, grace: dt.timedelta) -> Mapping[str, int]:
    """Remove packs that the catalogs of the last `grace` did not have, and count them by table.

    Raises:
        StorageError: the disk refused.
    """
    before = (dt.datetime.now(dt.UTC) - grace).timestamp()
    removed = {}
    for directory in (tables.path / _DIRECTORY).glob("*"):
        with storage_errors(directory):
            committed = tables.read(directory.name, with_facts=True)
            kept = {pack.path for pack in packs_of(tables.path, committed)} if committed else set()
            old = [file for file in directory.iterdir() if file not in kept and file.stat().st_mtime <= before]
            for file in old:
                file.unlink()
            removed[directory.name] = len(old)
    return removed


def _is_whole(pack: Pack) -> bool:
    try:
        return bool(pq.read_metadata(pack.path).num_rows == pack.rows)
    except (OSError, pa.ArrowException):
        return False


def _rows(pack: Pack, table: Committed, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for date, member in pack.members:
        for batch in read_batches(member, list(table.facts[member].nulls)):
            found = dict(zip(batch.schema.names, batch.columns, strict=True))
            found[PARTITION] = pa.repeat(pa.scalar(date), batch.num_rows)
            columns = [
                found[field.name].cast(field.type) if field.name in found else pa.nulls(batch.num_rows, field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
