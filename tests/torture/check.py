"""Compares what a warehouse holds with what the model says, and names what is lost, doubled or mixed."""

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from support.job import connected

from etl.model import CATALOG_NAME
from etl.sqlfiles import sql_files
from torture.model import KEYS, STUDIOS, Content, Key, Model, Place, Row

PROVENANCE = frozenset(
    {"snapshot_date", "account_id", "region", "run_id", "slice_id", "page_number", "extracted_at"}
)  # fmt: skip
OF_SESSIONS = ("streaming_sessions", "streaming_session_tags")
OF_STUDIOS = ("studios", "studio_tags")
CHANGES = {"streaming_sessions": "streaming_session_changes", "studios": "studio_changes"}
ABOUT_CHANGES = frozenset({"change", "changed_columns", "old_values", "previous_date"})
FACTS = ("etl_runs", "etl_slices", "etl_pages", "etl_rejects")

Tables = Mapping[str, Sequence[Row]]
"""Table -> its rows, all dates."""


def read_delta(warehouse: Path) -> dict[str, list[Row]]:
    """Return the rows of the Delta tables of the datasets, as a reader without nimble-etl sees them."""
    return {table: list(delta_rows(warehouse / table)) for table in KEYS}


def delta_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield the rows of one table; none if it does not exist yet."""
    try:
        uris = DeltaTable(path).file_uris()
    except TableNotFoundError:
        return
    for uri in uris:
        partition, name = uri.rsplit("/", 2)[1:]
        date = dt.date.fromisoformat(partition.removeprefix("snapshot_date="))
        with pq.ParquetFile(path / partition / name) as file:
            for row in file.read(columns=columns and list(columns)).to_pylist():
                yield {"snapshot_date": date, **row}


def read_catalog(warehouse: Path) -> dict[str, list[Row]]:
    """Return the rows of the catalog, facts about runs included; nothing before it exists."""
    path = warehouse / CATALOG_NAME
    if not path.exists():
        return {}
    with connected(path) as connection:
        there = relations(connection)
        names = {table: table for table in (*FACTS, *CHANGES.values())} | {table: f"{table}_history" for table in KEYS}
        return {
            table: connection.sql(f"from {name}").to_arrow_table().to_pylist()
            for table, name in names.items()
            if name in there
        }


def read_marts(warehouse: Path) -> dict[str, list[tuple[str]]]:
    """Return the rows of each mart as texts, in order."""
    with connected(warehouse / CATALOG_NAME) as connection:
        return {
            name: connection.execute(f"select to_json(rows)::varchar from {name} as rows order by 1").fetchall()
            for name in sorted(relations(connection) & sql_files("marts").keys())
        }


def relations(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Return the names of tables and views. The catalog has none for a dataset that was never published."""
    return {name for (name,) in connection.execute("select table_name from information_schema.tables").fetchall()}


def place_of(table: str, row: Row) -> Place:
    """Return date and slice of a row."""
    return row["snapshot_date"], STUDIOS if table in OF_STUDIOS else row["studio_id"]


def by_place(tables: Tables) -> dict[Place, dict[str, list[Row]]]:
    """Group rows by the slice and date that they belong to."""
    found: dict[Place, dict[str, list[Row]]] = {}
    for table in KEYS:
        for row in tables.get(table, ()):
            found.setdefault(place_of(table, row), {}).setdefault(table, []).append(row)
    return found


def check(
    tables: Tables, model: Model, due: Mapping[Place, Content], known: Collection[Place], *, apart: bool
) -> list[str]:
    """Return what is wrong: each line begins with lost, doubled or mixed.

    Args:
        tables: rows.
        model: what complete walks saw.
        due: what must be there, exactly.
        known: slices and dates that were published before: they must still be there.
        apart: each table may be of another complete walk: a Delta commit is of one table.
    """
    found = by_place(tables)
    problems = []
    for place in sorted({*found, *due, *known}, key=repr):
        wanted = [due[place]] if place in due else model.allowed(place)
        groups = [(name,) for name in _tables_of(place)] if apart else [_tables_of(place)]
        for group in groups:
            rows = {table: found.get(place, {}).get(table, []) for table in group}
            if not any(rows.values()) and place not in known and place not in due:
                continue  # not published yet
            answers = [list(_differences(place, rows, content)) for content in wanted]
            problems += min(answers, key=len, default=[f"mixed: {_name(place)}: no walk was ever complete"])
    return problems


def check_facts(tables: Tables) -> list[str]:
    """Return where the catalog's facts about runs and its rows do not say the same."""
    if not tables:
        return []
    facts = {(row["snapshot_date"], row["run_id"], _slice_of(row)): row for row in tables["etl_slices"]}
    slices = Counter((row["run_id"], row["slice_id"]) for row in tables["etl_slices"])
    problems = [f"doubled: etl_slices has slice {key} {count} times" for key, count in slices.items() if count > 1]
    runs = Counter(row["run_id"] for row in tables["etl_runs"])
    problems += [f"doubled: etl_runs has run {run} {count} times" for run, count in runs.items() if count > 1]
    pages = Counter((row["run_id"], row["slice_id"]) for row in tables["etl_pages"])
    rejects = Counter((row["run_id"], row["slice_id"]) for row in tables["etl_rejects"])
    for place, found in by_place(tables).items():
        main, _ = _tables_of(place)
        counts = Counter(row["run_id"] for row in found.get(main, ()))
        for run_id, count in counts.items():
            where = f"{_name(place)}, run {run_id}"
            fact = facts.get((place[0], run_id, place[1]))
            if fact is None or not fact["is_published"]:
                problems.append(f"mixed: {where}: {count} rows of {main}, and etl_slices does not say published")
                continue
            told = {
                "rows": (fact["rows"], count),
                "pages": (fact["pages"], pages[run_id, fact["slice_id"]]),
                "rejects": (fact["rejects"], rejects[run_id, fact["slice_id"]]),
                "records": (fact["records"], count + fact["rejects"] + fact["duplicates"]),
            }
            problems += [
                f"mixed: {where}: etl_slices says {said} {name}, there are {there}"
                for name, (said, there) in told.items()
                if said != there
            ]
    return problems


def check_changes(tables: Tables) -> list[str]:
    """Return where the change log is not what follows from one snapshot of a slice to its next.

    A record that was listed and rejected counts as it was before: it has not vanished, and does not appear again.
    """
    found, rejected = by_place(tables), rejected_keys(tables)
    problems = []
    for table, log in CHANGES.items():
        logged: dict[tuple[Place, Key], list[Row]] = {}
        for row in tables.get(log, ()):
            logged.setdefault((place_of(table, row), _key(table, row)), []).append(row)
        expected: dict[tuple[Place, Key], tuple[Any, ...]] = {}
        for slice_ in sorted({slice_ for _, slice_ in found if (slice_ == STUDIOS) == (table in OF_STUDIOS)}):
            dates = [None, *sorted(date for date, other in found if other == slice_)]
            old: dict[Key, Row] = {}
            for before, date in pairwise(dates):
                there = found[date, slice_].get(table, ())
                new = {_key(table, row): _values(table, row) for row in there}
                listed = rejected.get((table, date, slice_), set())
                new = {**{key: row for key, row in old.items() if key in listed}, **new}
                for key, change in _changes(old, new):
                    expected[(date, slice_), key] = (*change, before)
                old = new
        for (place, key), change in expected.items():
            rows = logged.pop((place, key), [])
            if not rows:
                problems.append(f"lost: {_name(place)}: {log} {key}: {change[0]}")
            elif len(rows) > 1:
                problems.append(f"doubled: {_name(place)}: {log} {key} is there {len(rows)} times")
            elif (said := _logged(table, rows[0])) != change:
                problems.append(f"mixed: {_name(place)}: {log} {key} says {said}, expected {change}")
        problems += [f"mixed: {_name(place)}: {log} {key}: nothing changed" for place, key in logged]
    return problems


def rejected_keys(tables: Tables) -> dict[tuple[str, dt.date, str], set[Key]]:
    """Return the keys of the rejects that have one, by table, date and slice."""
    found: dict[tuple[str, dt.date, str], set[Key]] = {}
    slices = {(row["run_id"], row["slice_id"]): _slice_of(row) for row in tables.get("etl_slices", ())}
    for row in tables.get("etl_rejects", ()):
        table, record = row["dataset"], json.loads(row["record"])
        if table not in CHANGES or not isinstance(record, dict):
            continue
        names = [re.sub(r"_(.)", lambda match: match[1].upper(), name) for name in KEYS[table]]
        key = tuple(record.get(name) for name in names)
        if all(isinstance(part, str) for part in key):
            place = table, row["snapshot_date"], slices[row["run_id"], row["slice_id"]]
            found.setdefault(place, set()).add(key)
    return found


def _changes(old: Mapping[Key, Row], new: Mapping[Key, Row]) -> Iterator[tuple[Key, tuple[Any, ...]]]:
    """Yield what is different: key, and (what happened, names of changed columns, the record)."""
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if before is None:
            yield key, ("appeared", None, after)
        elif after is None:
            yield key, ("vanished", None, before)
        elif before != after:
            names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
            yield key, ("changed", names, after)


def _logged(table: str, row: Row) -> tuple[Any, ...]:
    record = _values(table, {name: value for name, value in row.items() if name not in ABOUT_CHANGES})
    names = row["changed_columns"]
    return row["change"], None if names is None else set(names), record, row["previous_date"]


def _key(table: str, row: Row) -> Key:
    return tuple(row[name] for name in KEYS[table])


def _slice_of(row: Row) -> str:
    return dict(row["parents"]).get("studioId", STUDIOS)


def _tables_of(place: Place) -> tuple[str, str]:
    return OF_STUDIOS if place[1] == STUDIOS else OF_SESSIONS


def _differences(place: Place, found: Mapping[str, Sequence[Row]], content: Content) -> Iterator[str]:
    """Yield how the rows of one snapshot differ from one complete walk."""
    runs = {row["run_id"] for rows in found.values() for row in rows}
    if len(runs) > 1:
        yield f"mixed: {_name(place)}: rows of {len(runs)} runs: {', '.join(sorted(runs))}"
    for table, rows in found.items():
        expected = content.tables[table]
        counts = Counter(_key(table, row) for row in rows)
        for key in expected.keys() - counts.keys():
            yield f"lost: {_name(place)}: {table} {key}"
        for key, count in counts.items():
            if count > 1:
                yield f"doubled: {_name(place)}: {table} {key} is there {count} times"
            if key not in expected:
                yield f"mixed: {_name(place)}: {table} {key} is of no such walk"
        for row in rows:
            key = _key(table, row)
            values = _values(table, row)
            if key in expected and values != expected[key]:
                changed = sorted(
                    name for name in {*values, *expected[key]} if values.get(name) != expected[key].get(name)
                )
                yield f"mixed: {_name(place)}: {table} {key} has another {', '.join(changed)}"


def _values(table: str, row: Row) -> dict[str, Any]:
    """Return what a row says about the record, nulls apart."""
    hidden = PROVENANCE | ({"studio_id"} if table in OF_SESSIONS else frozenset())
    values = {name: value for name, value in row.items() if name not in hidden and value is not None}
    if "tags" in values:
        values["tags"] = dict(values["tags"])
    if "extra" in values:
        values["extra"] = json.loads(values["extra"])
    return values


def _name(place: Place) -> str:
    date, slice_ = place
    return f"{date} {slice_ or 'studios'}"
