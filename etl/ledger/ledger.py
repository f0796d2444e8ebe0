"""The durable record of one run: every page received, and the starting token that follows it.

There is one SQLite file per run. One synced transaction stores a page and moves the starting token: that is the
checkpoint. A ledger also keeps the dataset definitions and API shapes of its run, so it can be published without
another request.
"""

import datetime as dt
import hashlib
import json
import sqlite3
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

from etl.errors import LedgerError
from etl.events import reach
from etl.ledger import rows
from etl.ledger.database import Database, sqlite_errors
from etl.ledger.format import FORMAT, SCHEMA, UPGRADES
from etl.model import (
    WHOLE,
    Checkpoint,
    Dataset,
    Operation,
    Page,
    RunFacts,
    RunState,
    Shard,
    Slice,
    SliceFacts,
    SliceState,
)

_INSERT_RUN = (
    "insert into run (run_id, snapshot_date, started_at, request, state, worked_until, shard)"
    " values (?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class Publication:
    """One intent to publish slices of a dataset. Numbers rise within a run."""

    number: int
    dataset: str
    slice_ids: tuple[str, ...]


@dataclass(slots=True)
class _Arrived:
    """A page that waits to be stored: the parameters of the two statements, and what became of them."""

    page: tuple[object, ...]
    progress: tuple[object, ...]
    is_stored: bool = False
    error: Exception | None = None


class Ledger:
    """One run's ledger. Safe to use from several threads. `database` is its file."""

    def __init__(self, database: Database) -> None:
        self.path = database.path
        self.database = database
        self._storing = threading.Lock()
        self._arrived: deque[_Arrived] = deque()

    @classmethod
    def create(  # noqa: PLR0913, PLR0917  what a run is
        cls,
        path: Path,
        run_id: str,
        snapshot_date: dt.date,
        request: str,
        state: RunState = RunState.OPEN,
        shard: Shard = WHOLE,
    ) -> "Ledger":
        """Make a new ledger for a UTC date and a shard, which never change; the file must not exist.

        `request` is the digest of what was asked for: only the same request continues this ledger.

        Raises:
            StorageError: the file cannot be written.
        """
        values = _run_values(run_id, snapshot_date, request, state, shard)
        Database.create(path, FORMAT, SCHEMA, _INSERT_RUN, *values)
        reach("ledger.created")
        return cls.open(path)

    @classmethod
    def temporary(cls, run_id: str, snapshot_date: dt.date, shard: Shard = WHOLE) -> "Ledger":
        """Return a new ledger that ends with this process: for pages that are read twice and never resumed.

        Raises:
            StorageError: there is no room for temporary files.
        """
        path = Path(tempfile.gettempdir()) / f"{run_id}.sqlite"  # only messages name it
        values = _run_values(run_id, snapshot_date, "", RunState.OPEN, shard)
        return cls(Database.temporary(path, SCHEMA, _INSERT_RUN, *values))

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Open a ledger that exists, and upgrade it if its format is older.

        Raises:
            LedgerError: the file is no ledger, is damaged, or was written by a newer version.
        """
        return cls(Database.open(path, FORMAT, UPGRADES))

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self) -> RunFacts:
        """Return the facts about the run."""
        with sqlite_errors(self.path):
            return rows.run_facts(self.database.rows("select * from run")[0])

    def set_account(self, account_id: str) -> None:
        """Note whose resources the run lists."""
        self.database.write("update run set account_id = ?", account_id)

    def close_run(self, state: RunState) -> None:
        """End the run: no later invocation continues it."""
        self.database.write("update run set state = ?", state)

    def add_time(self, seconds: float) -> None:
        """Add the working time of one invocation."""
        self.database.write(
            "update run set seconds = seconds + ?, invocations = invocations + 1, worked_until = ?", seconds, _now()
        )

    def add_dataset(self, dataset: Dataset, operation: Operation, *, published: bool) -> None:
        """Store a definition and the API shape of its records, in place of earlier ones.

        A dataset with `published=False` is walked only because its records are the parents of other slices.
        """
        self.database.write(
            "insert into dataset values (?1, ?2, ?3, ?4) on conflict do update set definition = ?2, operation = ?3",
            dataset.name, dataset.model_dump_json(), operation.model_dump_json(), published,
        )  # fmt: skip

    def datasets(self) -> dict[str, tuple[Dataset, Operation]]:
        """Return the definitions and shapes of all datasets by name, parents first."""
        found = self.database.rows("select name, definition, operation from dataset order by rowid")
        with sqlite_errors(self.path):
            return {
                name: (Dataset.model_validate_json(definition), Operation.model_validate_json(operation))
                for name, definition, operation in found
            }

    def add_slice(self, slice_: Slice, starting_token: str | None = None) -> None:
        """Plan the walk of a slice. A slice that is already planned stays as it is."""
        self.add_slices([(slice_, starting_token)])

    def add_slices(self, planned: Iterable[tuple[Slice, str | None]]) -> None:
        """Plan the walks of slices, each from a starting token on, in one transaction; as `add_slice`."""
        with self.database.transaction() as connection:
            # Counting would read all slices each time that some come from a parent.
            last = connection.execute(
                "select position from slice where rowid = (select max(rowid) from slice)"
            ).fetchone()
            connection.executemany(
                "insert or ignore into slice (slice_id, position, dataset, account_id, region, parents, filters, state,"
                " first_starting_token, starting_token) values (?, ?, ?, ?, ?, ?, ?, 'walking', ?, ?)",
                (
                    (slice_.slice_id, position, slice_.dataset, slice_.account_id, slice_.region,
                     json.dumps(dict(slice_.parents)), json.dumps(dict(slice_.filters)), token, token)
                    for position, (slice_, token) in enumerate(planned, last["position"] + 1 if last else 0)
                ),
            )  # fmt: skip

    def slices(self, dataset: str | None = None) -> list[SliceFacts]:
        """Return the slices of the run, or of one dataset, in the order of planning."""
        hashes = self._page_hashes(dataset)
        found = self.database.each(
            "select slice.*, count(page.number) as pages, coalesce(sum(stop - first), 0) as records,"
            " coalesce(sum(retries), 0) as retries, min(received_at) as observed_from,"
            " max(received_at) as observed_until, publication.published_at, publication.sequence,"
            " exists (select 1 from slice where (account_id, region) <> (select account_id, region from slice limit 1))"
            " as is_of_many,"
            " (select published from dataset where name = slice.dataset) as is_of_wanted,"
            " (select shard from run) as shard"
            " from slice left join page on page.slice_id = slice.slice_id and page.attempt = slice.attempt"
            " left join publication on publication.number = slice.publication"
            " where ?1 is null or slice.dataset = ?1 group by slice.rowid order by position",
            dataset,
        )
        with sqlite_errors(self.path):
            return [rows.slice_facts(row, hashes.get(row["slice_id"])) for row in found]

    def published(self) -> Iterator[tuple[str, int, str | None]]:
        """Yield the id of each slice that is published, the number of the publication, and the digest of its pages."""
        hashes = self._page_hashes(None)
        for slice_id, sequence in self.database.each(
            "select slice_id, sequence from slice join publication on publication.number = slice.publication"
            " where sequence is not null"
        ):
            yield slice_id, sequence, hashes.get(slice_id)

    def is_complete(self, slice_: Slice) -> bool:
        """Tell whether the walk of a slice has come to its end."""
        statement = "select 1 from slice where slice_id = ? and state = ?"
        return bool(self.database.rows(statement, slice_.slice_id, SliceState.COMPLETE))

    def _page_hashes(self, dataset: str | None) -> dict[str, str]:
        """Return a digest of the hashes of the page bodies of each slice, in the order of the walk, by slice id."""
        found = self.database.each(  # `cross join`: slices in the order of their rows, and the pages of each
            "select slice_id, body_sha256 from slice cross join page using (slice_id, attempt)"
            " where ?1 is null or dataset = ?1 order by slice.rowid, number",
            dataset,
        )
        with sqlite_errors(self.path):
            return {
                slice_id: hashlib.sha256("".join(sha256 for _, sha256 in pages).encode()).hexdigest()
                for slice_id, pages in groupby(found, itemgetter(0))
            }

    def checkpoint(self, slice_: Slice) -> Checkpoint:
        """Return where the walk of a slice continues."""
        starting_token, facts = self._chain(slice_)
        return Checkpoint(
            starting_token=starting_token,
            pages=len(facts),
            seen=frozenset(fact["next_starting_token"] for fact in facts if fact["next_starting_token"] is not None),
        )

    def store_page(self, slice_: Slice, page: Page) -> None:
        """Store a page and the starting token that follows it durably: the checkpoint.

        Several threads call this at once, and one sync serves all their pages: each queues its page *before* it waits
        for the lock, and the holder of the lock stores all queued pages. The invariant: this returns only after the
        transaction with this page and its token was committed. If it returned earlier, the walk would go on, and a
        crash would lose pages that a later checkpoint counts as durable.

        Raises:
            StorageError: the page is not durable; the walk must not go on.
        """
        body = rows.zstd().compress(page.body, asbytes=True)
        state = SliceState.WALKING if page.next_starting_token else SliceState.COMPLETE
        arrived = _Arrived(
            (page.number, len(page.body), hashlib.sha256(page.body).hexdigest(), page.records, page.first, page.stop,
             page.next_starting_token, page.request_id, page.retries, page.received_at.isoformat(), body,
             slice_.slice_id),
            (page.next_starting_token, state, slice_.slice_id),
        )  # fmt: skip
        self._arrived.append(arrived)
        with self._storing:
            if not arrived.is_stored and not arrived.error:
                self._store_arrived(arrived)
        if arrived.error:
            raise arrived.error

    def _store_arrived(self, first: _Arrived) -> None:
        """Store a page and all queued ones; if that fails, each alone, so that a bad page does not fail the others."""
        several = [first]  # it may be missing in the queue, if an interrupted holder of the lock took it out
        while self._arrived:
            arrived = self._arrived.popleft()
            if arrived is not first:
                several.append(arrived)
        try:
            self._store(several)
        except Exception:  # noqa: BLE001  tried again below
            for arrived in several:
                try:
                    self._store([arrived])
                except Exception as exc:  # noqa: BLE001  `store_page` raises it in the thread of this page
                    arrived.error = exc

    def _store(self, several: Sequence[_Arrived]) -> None:
        with self.database.transaction() as connection:
            connection.executemany(
                "insert into page (slice_id, attempt, number, size_bytes, body_sha256, records, first, stop,"
                " next_starting_token, request_id, retries, received_at, body)"
                " select slice_id, attempt, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? from slice where slice_id = ?",
                [arrived.page for arrived in several],
            )
            connection.executemany(
                "update slice set starting_token = ?, state = ?, error = null, resumable = 0 where slice_id = ?",
                [arrived.progress for arrived in several],
            )
        for arrived in several:
            arrived.is_stored = True

    def fail_slice(self, slice_: Slice, state: SliceState, error: str, *, resumable: bool) -> None:
        """Note why a walk ended early. The next run continues a resumable one at its checkpoint."""
        self.database.write(
            "update slice set state = ?, error = ?, resumable = ? where slice_id = ?",
            SliceState.WALKING if resumable else state, error, resumable, slice_.slice_id,
        )  # fmt: skip

    def hold_back(self, slice_: Slice, reason: str) -> None:
        """Note why a complete walk is not published."""
        self.database.write("update slice set error = ? where slice_id = ?", reason, slice_.slice_id)

    def restart_slice(self, slice_: Slice) -> None:
        """Begin a new attempt at a slice without its pages so far: two listings cannot be combined."""
        with self.database.transaction() as connection:
            connection.execute("delete from page where slice_id = ?", (slice_.slice_id,))
            connection.execute(
                "update slice set attempt = attempt + 1, starting_token = null, first_starting_token = null,"
                " state = 'walking' where slice_id = ?",
                (slice_.slice_id,),
            )

    def pages(self, slice_: Slice) -> Iterator[Page]:
        """Yield the stored pages of a slice in the order of the walk, their bodies proven unchanged.

        Raises:
            LedgerError: a page is missing, or its body is not what was received.
        """
        _, facts = self._chain(slice_)
        for fact in facts:
            found = self.database.rows("select * from page where rowid = ?", fact["place"])
            with sqlite_errors(self.path):
                page = rows.page(found[0], f"{self.path}: {slice_}")
            yield page

    def _chain(self, slice_: Slice) -> tuple[str | None, list[sqlite3.Row]]:
        """Return the starting token of a slice, and a row per page that led there; a missing page is an error."""
        found = self.database.rows(
            "select page.rowid as place, number, next_starting_token, starting_token, first_starting_token, state"
            " from slice left join page on page.slice_id = slice.slice_id and page.attempt = slice.attempt"
            " where slice.slice_id = ? order by number",
            slice_.slice_id,
        )
        pages = [row for row in found if row["number"] is not None]
        for expected, page in enumerate(pages, start=1):
            if page["number"] != expected:
                raise LedgerError(f"{self.path}: {slice_}: page {expected} is missing; run with --fresh")
        with sqlite_errors(self.path):
            stands = found[0]["starting_token"]
        led = pages[-1]["next_starting_token"] if pages else found[0]["first_starting_token"]
        if led != stands or (found[0]["state"] == SliceState.COMPLETE and not pages):
            raise LedgerError(f"{self.path}: {slice_}: page {len(pages) + 1} is missing; run with --fresh")
        return stands, pages

    def page_facts(self) -> Iterator[sqlite3.Row]:
        """Yield a row per page of the current attempts: number, sizes, hash and times, but no body."""
        return self.database.each(
            "select page.slice_id, dataset, account_id, region, page.attempt, number, size_bytes, body_sha256,"
            " records, stop - first as kept, next_starting_token, request_id, retries, received_at"
            " from page join slice on slice.slice_id = page.slice_id and slice.attempt = page.attempt"
            " order by position, number"
        )

    def plan_publication(self, dataset: str, slice_ids: Sequence[str]) -> Publication:
        """Store the intent to publish slices, or return the same intent if it is still open."""
        wanted = sorted(slice_ids)
        values = (dataset, json.dumps(wanted))
        with self.database.transaction() as connection:
            row = connection.execute(
                "select number from publication where dataset = ? and slices = ? and not is_whole", values
            ).fetchone()
            if row is None:
                row = connection.execute(
                    "insert into publication (dataset, slices) values (?, ?) returning number", values
                ).fetchone()
        return Publication(row["number"], dataset, tuple(wanted))

    def mark_published(
        self, publication: Publication, sequence: int, outcomes: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Say *published* after the commits became durable and were read back. It holds once `confirm` was called.

        `sequence` is the number of the publication in the warehouse. `outcomes` holds for each slice id: rows, rejects,
        duplicates, partial, drift, table_rows.
        """
        with self.database.transaction() as connection:
            statement = "update publication set published_at = ?, sequence = ? where number = ?"
            connection.execute(statement, (_now(), sequence, publication.number))
            for slice_id, outcome in outcomes.items():
                connection.execute(
                    "update slice set publication = ?, rows = ?, rejects = ?, duplicates = ?, partial = ?, drift = ?,"
                    " table_rows = ?, error = iif(state = 'complete', null, error) where slice_id = ?",
                    (publication.number, outcome["rows"], outcome["rejects"], outcome["duplicates"],
                     outcome["partial"], json.dumps(sorted(outcome["drift"])), json.dumps(outcome["table_rows"]),
                     slice_id),
                )  # fmt: skip

    def confirm(self) -> None:
        """Note that everything marked as published is whole: facts and all tables count."""
        self.database.write("update publication set is_whole = 1 where published_at is not null and not is_whole")

    def is_marked(self) -> bool:
        """Tell whether each publication that is not known to be whole was marked as published."""
        return not self.database.rows("select 1 from publication where not is_whole and published_at is null")

    def open_publications(self) -> dict[str, set[str]]:
        """Return the ids of the slices whose publication is not known to be whole, by dataset."""
        found: dict[str, set[str]] = {}
        with sqlite_errors(self.path):
            for row in self.database.rows("select dataset, slices from publication where not is_whole"):
                found.setdefault(row["dataset"], set()).update(json.loads(row["slices"]))
        return found


def _run_values(
    run_id: str, snapshot_date: dt.date, request: str, state: RunState, shard: Shard
) -> tuple[str | None, ...]:
    now = _now()
    return run_id, snapshot_date.isoformat(), now, request, state, now, shard.text


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()
