"""Packs: one more Parquet file for each past month, with the rows of its many small data files.

Without packs, a view on the files of a thousand nights would open a thousand files for each query. Data files never
change, so a pack stays correct: its name contains a hash of the names of its data files. Delta tables know nothing of
packs. Removed packs are no loss, because the next catalog makes them again.
"""

import datetime as dt
import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from etl.errors import WarehouseError
from etl.load.delta.parquet import data_file, fill, read_batches
from etl.load.delta.tables import PARTITION, Committed, Tables
from etl.storage.disk import put_in_place, storage_errors
from etl.storage.store import Store

log = logging.getLogger(__name__)

_DIRECTORY = ".packs"
_PROOF = ".sha256"
_FEWEST_FILES = 8
_MOST_ROWS = 250_000
"""A month with more rows gets no pack: its files are large enough for queries, and the pack would cost more disk."""
_ROW_GROUP_ROWS = 32_768


@dataclass(frozen=True, slots=True)
class Pack:
    """A file with all rows of its members, which are data files of one table, in order and each with its date.

    `columns` are those that at least one member has.
    """

    path: Path
    members: tuple[tuple[dt.date, str], ...]
    columns: frozenset[str]
    rows: int

    @property
    def proof(self) -> Path:
        """Return the path of the file with the SHA-256 of the pack."""
        return self.path.with_suffix(_PROOF)


def packs_of(table: Committed) -> Iterator[Pack]:
    """Yield a pack for each past month whose data files are many and small, of a table that was read with facts.

    Only a disk has packs.
    """
    root = table.store.local
    if root is None:
        return
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
            yield Pack(path, members, frozenset[str]().union(*(known.nulls for known in facts)), rows)


def make_pack(pack: Pack, table: Committed) -> bool:
    """Make a pack unless it exists and is what was made. Return False if a damaged data file prevents that.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(pack.path):
        if is_whole(pack):
            pack.path.touch()  # readers may keep today's catalog open for `warehouse.vacuum_grace`
            return True
        pack.path.parent.mkdir(parents=True, exist_ok=True)
        draft = pack.path.with_suffix(".new")
        schema = pa.schema([f.remove_metadata() for f in table.schema if f.name in {PARTITION, *pack.columns}])
        try:
            with data_file(table.store, str(draft), schema) as file:
                file.write(pa.Table.from_batches(_rows(pack, table.store, schema), schema), _ROW_GROUP_ROWS)
        except WarehouseError as exc:
            log.warning("%s", exc)
            return False
        proof = draft.with_suffix(".sum")
        proof.write_text(_sha256(draft))
        put_in_place(draft, pack.path)
        put_in_place(proof, pack.proof)
        return True


def remove_old_packs(tables: Tables, grace: dt.timedelta) -> Mapping[str, int]:
    """Remove packs that no catalog of the last `grace` has used, and count them by table.

    Raises:
        StorageError: the disk refused.
    """
    before = (dt.datetime.now(dt.UTC) - grace).timestamp()
    removed = {}
    root = tables.store.local
    for directory in (root / _DIRECTORY).glob("*") if root else ():
        with storage_errors(directory):
            committed = tables.read(directory.name, with_facts=True)
            packs = packs_of(committed) if committed else ()
            kept = {path for pack in packs for path in (pack.path, pack.proof)}
            old = [file for file in directory.iterdir() if file not in kept and file.stat().st_mtime <= before]
            for file in old:
                file.unlink()
            removed[directory.name] = sum(file.suffix != _PROOF for file in old)
    return removed


def is_whole(pack: Pack) -> bool:
    """Tell whether a pack is there, byte by byte as it was made."""
    try:
        return pack.proof.read_text() == _sha256(pack.path)
    except (OSError, ValueError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rows(pack: Pack, store: Store, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for date, member in pack.members:
        for batch in read_batches(store, member, None):
            yield fill(batch, schema, {PARTITION: date})
