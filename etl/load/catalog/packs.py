"""Packs: one more Parquet file for each past month, with the rows of its many small data files.

Without packs, a view on the files of a thousand nights would open a thousand files for each query. Data files never
change, so a pack stays correct. Its name has a hash of the names of its data files, its size, and a hash of its
content. So the name alone tells what a pack holds, and whether it is what was made. Two jobs that make a pack at once
give one name to the same bytes, so neither does harm. Delta tables know nothing of packs. Removed packs are no loss,
because the next catalog makes them again.

Readers may keep a catalog open for `warehouse.vacuum_grace` after another one has taken its place. So a pack goes when
that time has passed since a catalog took the place of the last one that names it. That moment is noted beside the pack,
and the note is removed if a catalog names the pack again. Most nights note nothing.
"""

import datetime as dt
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import WarehouseError
from etl.load.delta.parquet import OPTIONS, fill, read_batches
from etl.load.delta.tables import PARTITION, Committed
from etl.storage.disk import storage_errors
from etl.storage.store import Store

log = logging.getLogger(__name__)

_FOLDER = ".packs"
_NAME = re.compile(r"-(\d+)-([0-9a-f]{32})\.parquet$")
"""How the name of a pack ends: with its size in bytes and the digest of its content."""
_UNUSED = ".unused-since-"
"""Between the name of a pack and the moment since which no catalog names it."""
_MOMENT = "%Y%m%dT%H%M%SZ"
"""Later moments are greater as texts, too."""
_FEWEST_FILES = 8
_MOST_ROWS = 250_000
"""A month with more rows gets no pack: its files are large enough for queries, and the pack would cost more disk."""
_ROW_GROUP_ROWS = 32_768


@dataclass(frozen=True, slots=True)
class Pack:
    """All rows of its members, which are data files of one table, in order and each with its date.

    The name of its file begins with `stem`. `columns` are those that at least one member has.
    """

    stem: str
    members: tuple[tuple[dt.date, str], ...]
    columns: frozenset[str]


class Packs:
    """The packs that a new catalog names, and those that it does not. Looks once what is there.

    Raises:
        StorageError: the store refused.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listed = list_packs(store)
        self._named: set[str] = set()

    def of(self, table: Committed) -> dict[str, Pack]:
        """Return the packs of a table, which was read with facts, by file. Make those that are not there and whole.

        A month with a damaged data file has none.

        Raises:
            StorageError: the store refused.
        """
        found = {}
        for pack in packs_of(table):
            with storage_errors(pack.stem):
                whole = (file for file in files_of(pack, self._listed) if self._is_whole(file))
                if file := next(whole, None) or self._make(pack, table):
                    self._take(file)
                    found[file] = pack
        return found

    def note_unused(self) -> None:
        """Note the time for each file that the catalog does not name, which is in its place now.

        Before that, readers would still open the catalog that names them. Failures are ignored: the next one notes it.
        """
        noted = {file.rpartition(_UNUSED)[0] for file in self._listed}
        for file in self._listed:
            if _UNUSED not in file and file not in self._named | noted:
                note = f"{file}{_UNUSED}{dt.datetime.now(dt.UTC):{_MOMENT}}"
                with suppress(OSError):
                    draft = self._store.draft(note)
                    draft.touch()
                    self._store.keep(draft, note)

    def _take(self, file: str) -> None:
        """Name a file in the catalog. It is removed no more for what was noted before."""
        self._named.add(file)
        for note in [one for one in self._listed if one.startswith(f"{file}{_UNUSED}")]:
            self._store.remove(note)
            del self._listed[note]

    def _is_whole(self, file: str) -> bool:
        """Tell whether a pack is what was made. On a disk, bytes change by themselves, so they are all read."""
        return self._listed[file] == _told(file)[0] and (self._store.local is None or is_as_made(self._store, file))

    def _make(self, pack: Pack, table: Committed) -> str | None:
        """Make a pack and return its file; None if a data file is damaged."""
        schema = pa.schema([f.remove_metadata() for f in table.schema if f.name in {PARTITION, *pack.columns}])
        draft = self._store.draft(f"{pack.stem}.new")
        try:
            rows = pa.Table.from_batches(_rows(pack, self._store, schema), schema)
            pq.write_table(rows, draft, row_group_size=_ROW_GROUP_ROWS, **OPTIONS)
            content = draft.read_bytes()
            file = f"{pack.stem}-{len(content)}-{_digest(content)}.parquet"
            self._store.swap(draft, file, {})
        except WarehouseError as exc:
            log.warning("%s", exc)
            return None
        finally:
            draft.unlink(missing_ok=True)
        self._listed[file] = len(content)
        return file


def packs_of(table: Committed) -> Iterator[Pack]:
    """Yield a pack for each past month whose data files are many and small, of a table that was read with facts."""
    newest = max(table.files, default=dt.date.min).replace(day=1)
    dates = sorted(date for date in table.files if date < newest)
    for (year, month), days in groupby(dates, lambda date: (date.year, date.month)):
        members = tuple((date, file) for date in days for file in table.files[date])
        facts = [table.facts[file] for _, file in members]
        rows = sum(known.rows for known in facts)
        if len(members) >= _FEWEST_FILES and rows <= _MOST_ROWS and all(known.nulls for known in facts):
            names = "\n".join(file.rpartition("/")[2] for _, file in members)
            stem = f"{year}-{month:02}-{hashlib.sha256(names.encode()).hexdigest()[:16]}"
            columns = frozenset[str]().union(*(known.nulls for known in facts))
            yield Pack(table.store.at(_FOLDER, table.name, stem), members, columns)


def list_packs(store: Store) -> dict[str, int]:
    """Return all that lies where packs do, with sizes in bytes.

    Raises:
        StorageError: the store refused.
    """
    with storage_errors(store.at(_FOLDER)):
        return store.listed(store.at(_FOLDER))


def files_of(pack: Pack, listed: Iterable[str]) -> list[str]:
    """Return those of the listed files that hold a pack, sorted. Another version of pyarrow makes another file."""
    return sorted(file for file in listed if file.startswith(f"{pack.stem}-") and _NAME.search(file))


def is_as_made(store: Store, file: str) -> bool:
    """Tell whether a pack has, byte by byte, the content that its name tells of."""
    return _digest(store.read(file) or b"") == _told(file)[1]


def remove_old_packs(store: Store, grace: dt.timedelta) -> Mapping[str, int]:
    """Remove packs that no catalog of the last `grace` has named, and count them by table.

    The caller holds the lock and has just built a catalog, which has noted what is not named any more.

    Raises:
        StorageError: the store refused.
    """
    before = f"{dt.datetime.now(dt.UTC) - grace:{_MOMENT}}"
    removed: Counter[str] = Counter()
    listed = list_packs(store)
    for note in listed:
        file, is_note, since = note.rpartition(_UNUSED)
        if is_note and since <= before:
            with storage_errors(file):
                store.remove(file)
                store.remove(note)
            removed[Path(file).parent.name] += file in listed
    return removed


def _told(file: str) -> tuple[int, str]:
    """Return what the name of a pack tells: its size in bytes and the digest of its content."""
    found = _NAME.search(file)
    assert found, file
    return int(found[1]), found[2]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _rows(pack: Pack, store: Store, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for date, member in pack.members:
        for batch in read_batches(store, member, None):
            yield fill(batch, schema, {PARTITION: date})
