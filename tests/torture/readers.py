"""Processes that read a warehouse while it is written, and hold it to its promises.

Whenever they look, each slice and date is one whole snapshot, of one run, and stays what it is until another run
replaces it; nothing that was seen vanishes, nothing that was replaced comes back, and no reader ever meets an error.
"""

import datetime as dt
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from etl.model import CATALOG_NAME
from torture.check import OF_SESSIONS, OF_STUDIOS, delta_rows, place_of, relations
from torture.model import KEYS, SHOWN, Place, Row, digest

PAUSE_S = 0.01
"""Between two glances at whether anything has changed."""

LOOKS_HELD = 3
"""How many changes a held connection is kept through before it is opened anew."""

_FORKS = multiprocessing.get_context("forkserver")

Digests = tuple[str | None, ...]


@dataclass
class Report:
    """What readers saw.

    Attributes:
        looks: how often each kind looked at something.
        seen: (tables, snapshot date, slice, run id, digests of the tables) of every snapshot.
        problems: broken promises; each begins with lost, doubled, mixed, back or error.
    """

    looks: dict[str, int] = field(default_factory=lambda: {"catalog": 0, "held": 0, "delta": 0})
    seen: set[tuple[tuple[str, ...], dt.date, str, str, Digests]] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        """Add what another reader saw."""
        self.looks = {kind: count + other.looks[kind] for kind, count in self.looks.items()}
        self.seen |= other.seen
        self.problems += other.problems


@dataclass
class _History:
    """What one reader has seen of some tables so far: snapshots only go forward."""

    tables: tuple[str, ...]
    report: Report
    current: dict[Place, str] = field(default_factory=dict)
    former: set[tuple[Place, str]] = field(default_factory=set)

    def note(self, rows: Mapping[str, list[Row]]) -> None:
        """Take note of all rows that the tables have at one moment."""
        grouped: dict[Place, dict[str, list[Row]]] = {}
        for table, found in rows.items():
            for row in found:
                grouped.setdefault(place_of(table, row), {}).setdefault(table, []).append(row)
        problems = self.report.problems
        for place, found in grouped.items():
            runs = sorted({row["run_id"] for rows_ in found.values() for row in rows_})
            if len(runs) > 1:
                problems.append(f"mixed: {self.tables} {place}: rows of runs {', '.join(runs)}")
                continue
            for table, rows_ in found.items():
                keys = [tuple(row[name] for name in KEYS[table]) for row in rows_]
                if len(set(keys)) < len(keys):
                    problems.append(f"doubled: {table} {place}: {len(keys)} rows, {len(set(keys))} keys")
            (run_id,) = runs
            if (place, run_id) in self.former:
                problems.append(f"back: {self.tables} {place}: run {run_id} was replaced and is there again")
            if self.current.get(place, run_id) != run_id:
                self.former.add((place, self.current[place]))
            self.current[place] = run_id
            digests = tuple(digest(table, found.get(table, ())) for table in self.tables)
            self.report.seen.add((self.tables, *place, run_id, digests))
        problems += [f"lost: {self.tables} {place} was there before" for place in self.current.keys() - grouped.keys()]


class CatalogReader:
    """Opens the catalog anew for every look, and also holds one connection for a while, as a BI tool does.

    Two of them are two processes: within one, an open connection would be shared.
    """

    def __init__(self, warehouse: Path, *, holds: bool = False) -> None:
        self.report = Report()
        self._path = warehouse / CATALOG_NAME
        self._holds = holds
        self._histories = [_History(tables, self.report) for tables in (OF_STUDIOS, OF_SESSIONS)]
        self._held: duckdb.DuckDBPyConnection | None = None
        self._looks_left = 0
        self._answer: dict[str, list[Row]] = {}

    def state(self) -> object:
        """Return something that differs when there is something new to see."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def look(self, *, at_all: bool = False) -> None:  # noqa: ARG002  a catalog is one file
        """Read everything once."""
        if self.state() is None:
            return
        if not self._holds:
            with duckdb.connect(self._path, read_only=True) as connection:
                self._note(_ask(connection))
            self.report.looks["catalog"] += 1
            return
        if self._held is None or not self._looks_left:
            self.close()
            self._held, self._looks_left = duckdb.connect(self._path, read_only=True), LOOKS_HELD
            self._answer = _ask(self._held)
            self._note(self._answer)
        else:
            self._looks_left -= 1
            if _ask(self._held) != self._answer:
                self.report.problems.append("mixed: a held connection to the catalog no longer answers the same")
        self.report.looks["held"] += 1

    def close(self) -> None:
        """Let the held connection go."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def _note(self, rows: dict[str, list[Row]]) -> None:
        for history in self._histories:
            history.note({table: rows[table] for table in history.tables})
        published = {(row["snapshot_date"], row["run_id"], row["slice"]): row["rows"] for row in rows["etl_slices"]}
        for table in (OF_STUDIOS[0], OF_SESSIONS[0]):
            counts: dict[tuple[dt.date, str, str], int] = {}
            for row in rows[table]:
                date, slice_ = place_of(table, row)
                counts[date, row["run_id"], slice_] = counts.get((date, row["run_id"], slice_), 0) + 1
            for key, count in counts.items():
                if published.get(key) != count:
                    said = published.get(key, "nothing")
                    self.report.problems.append(f"mixed: {table} {key}: {count} rows, etl_slices says {said}")


class DeltaReader:
    """Reads the Delta tables directly: each of them is whole, whatever the others are."""

    def __init__(self, warehouse: Path) -> None:
        self.report = Report()
        self._warehouse = warehouse
        self._histories = {table: _History((table,), self.report) for table in KEYS}
        self._versions: dict[str, int] = {}
        self._states: dict[str, int] = {}

    def state(self) -> dict[str, int]:
        """Return something that differs when there is something new to see."""
        logs = {table: self._warehouse / table / "_delta_log" for table in KEYS}
        return {table: log.stat().st_mtime_ns for table, log in logs.items() if log.exists()}

    def look(self, *, at_all: bool = False) -> None:
        """Read the tables that have changed since the last look, or all."""
        states = self.state()
        changed = [table for table in states if at_all or states[table] != self._states.get(table)]
        self._states = states
        for table in changed:
            history = self._histories[table]
            path = self._warehouse / table
            try:
                version = DeltaTable(path).version()
            except TableNotFoundError:
                continue
            if version < self._versions.get(table, 0):
                self.report.problems.append(
                    f"back: {table} is at version {version}, and was at {self._versions[table]}"
                )
            self._versions[table] = version
            columns = {*SHOWN[table], "run_id", "studio_id"}
            history.note({table: list(delta_rows(path, sorted(columns)))})
            self.report.looks["delta"] += 1

    def close(self) -> None:
        """Nothing is held."""


def _ask(connection: duckdb.DuckDBPyConnection) -> dict[str, list[Row]]:
    there = relations(connection)
    columns = {table: ", ".join({"studio_id", "run_id", "snapshot_date", *SHOWN[table]}) for table in KEYS}
    statements = {
        table: f"select {columns[table]} from {table}_history order by all"
        for table in KEYS
        if f"{table}_history" in there
    }
    statements["etl_slices"] = (
        "select snapshot_date, run_id, coalesce(parents['studioId'], '') as slice, rows from etl_slices"
        " where is_published order by all"
    )
    answers = {table: connection.sql(text).to_arrow_table().to_pylist() for table, text in statements.items()}
    return {**{table: [] for table in KEYS}, **answers}


READERS: Mapping[str, Callable[[Path], CatalogReader | DeltaReader]] = {
    "catalog": CatalogReader,
    "held": lambda warehouse: CatalogReader(warehouse, holds=True),
    "delta": DeltaReader,
}


@contextmanager
def reading(warehouse: Path, groups: tuple[tuple[str, ...], ...]) -> Iterator[Report]:
    """Read the warehouse, in one process for each group of readers, until the end of the block; then fill the report.

    Args:
        warehouse: the directory; may not exist yet.
        groups: kinds of readers, of READERS.
    """
    report = Report()
    readers = []
    for kinds in groups:
        ours, theirs = _FORKS.Pipe()
        process = _FORKS.Process(target=_read, args=(warehouse, kinds, theirs), daemon=True)
        process.start()
        theirs.close()
        readers.append((process, ours))
    try:
        yield report
    finally:
        for _, ours in readers:
            ours.send("stop")
        for process, ours in readers:
            try:
                report.add(ours.recv())
            except EOFError:
                report.problems.append("error: a reader died")
            process.join()


def _read(warehouse: Path, kinds: tuple[str, ...], told: Connection) -> None:
    report = Report()
    readers = [READERS[kind](warehouse) for kind in kinds]
    states: list[object] = [None] * len(readers)
    is_over = False
    while not is_over:
        is_over = told.poll(PAUSE_S)  # and one last look after the end
        for number, reader in enumerate(readers):
            state = reader.state()
            if state != states[number] or is_over:
                states[number] = state
                try:
                    reader.look(at_all=is_over)
                except Exception as exc:  # noqa: BLE001  whatever a reader meets is a broken promise
                    reader.report.problems.append(f"error: {kinds[number]}: {type(exc).__name__}: {exc}")
    for reader in readers:
        reader.close()
        report.add(reader.report)
    told.send(report)


def judge(report: Report, allowed: Callable[[Place], list[dict[str, str | None]]]) -> list[str]:
    """Return the promises that were broken; among them snapshots that no complete walk has seen.

    Args:
        report: of readers.
        allowed: gives, for a slice and date, the digests by table of each complete walk.
    """
    problems = list(dict.fromkeys(report.problems))
    for tables, date, slice_, run_id, digests in sorted(report.seen, key=repr):
        walks = [tuple(walk[table] for table in tables) for walk in allowed((date, slice_))]
        if digests not in walks:
            where = f"{' and '.join(tables)}, {date}, {slice_ or 'studios'}, run {run_id}"
            problems.append(f"mixed: a reader saw {where}: not what one of {len(walks)} complete walks saw")
    return problems
