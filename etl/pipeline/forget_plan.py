"""What is to be forgotten: a selection, the plan that it comes to, and which rows and records a plan means."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from etl.errors import ConfigError
from etl.ledger.ledger import Ledger
from etl.load.changes import key_of_log, logged_dataset
from etl.load.delta.tables import Committed, Tables
from etl.model import Frozen, Operation, Page, Slice, Snapshot
from etl.pipeline.rewrite import read_rows
from etl.transform.batches import flatten
from etl.transform.facts import RUN_TABLES
from etl.transform.matching import Key, Matcher, Wanted
from etl.transform.records import Reader
from etl.transform.schema import layout_of


class Selection(Frozen):
    """What is to be forgotten: the slices for which all of this holds; with `values`, only some of their records.

    `parents` are parameters that the slices were listed with. `since` and `until` limit it to some dates.
    """

    dataset: str | None = None
    account_id: str | None = None
    slice_id: str | None = None
    parents: Mapping[str, str] = {}
    since: dt.date | None = None
    until: dt.date | None = None
    values: tuple[Wanted, ...] = ()

    @classmethod
    def parse(cls, *, where: Sequence[str], **chosen: Any) -> "Selection":
        """Return a selection. `where` has texts such as `owned_by=alice`.

        Raises:
            ConfigError: it selects nothing, or contradicts itself.
        """
        selection = cls(values=tuple(map(Wanted.parse, where)), **chosen)
        if selection == cls():
            raise ConfigError("forget: say what: --dataset, --account-id, --studio-id, --slice-id, --since or --where")
        if selection.values and (selection.since or selection.until):
            raise ConfigError("--where: a record is forgotten on all dates; leave --since and --until out")
        if selection.since and selection.until and selection.since > selection.until:
            raise ConfigError(f"--since: {selection.since} is after --until {selection.until}")
        return selection


class Plan(Frozen):
    """What a selection comes to.

    Attributes:
        slices: ids of the slices that go as a whole, on the dates from `since` to `until`.
        searched: ids of the slices in which `values` are searched -> the dataset.
        keys: dataset -> the columns of its key.
        records: id of a slice -> keys of the records that go. A record goes from all dates.
        ledgers: id of a run -> ids of the slices whose pages have records that go.
    """

    slices: frozenset[str] = frozenset()
    since: dt.date | None = None
    until: dt.date | None = None
    searched: Mapping[str, str] = {}
    values: tuple[Wanted, ...] = ()
    keys: Mapping[str, tuple[str, ...]] = {}
    records: Mapping[str, frozenset[Key]] = {}
    ledgers: Mapping[str, frozenset[str]] = {}

    def removes(self, slice_id: str, date: dt.date) -> bool:
        """Tell whether a slice goes as a whole on a date."""
        after, before = self.since or dt.date.min, self.until or dt.date.max
        return slice_id in self.slices and after <= date <= before


class Eraser:
    """Tells which rows and records of a plan go. `secret` is the key of the hashes that privacy asks for."""

    def __init__(self, plan: Plan, secret: bytes | None) -> None:
        self.plan = plan
        self._matcher = Matcher(plan.values, secret)

    def rows(self, table: Committed, date: dt.date, batch: pa.RecordBatch) -> list[bool]:
        """Tell for each row of a table whether it goes. Its rows must belong to slices."""
        slice_ids = batch["slice_id"].to_pylist()
        whole = [self.plan.removes(slice_id, date) for slice_id in slice_ids]
        if table.name in RUN_TABLES:
            return whole
        found = self._found(table, batch, slice_ids)
        searched = self.plan.searched
        return [a or (name in searched and b) for a, b, name in zip(whole, found, slice_ids, strict=True)]

    def _found(self, table: Committed, batch: pa.RecordBatch, slice_ids: Sequence[str]) -> list[bool]:
        """Tell for each row whether a value was found in it, or in another row of its record."""
        dataset = next((self.plan.searched[name] for name in slice_ids if name in self.plan.searched), None)
        found = [False] * len(slice_ids)
        if dataset is None:
            return found
        if table.name == "etl_rejects":
            return [self._matcher.in_text(record) for record in batch["record"].to_pylist()]
        if table.name == dataset or logged_dataset(table.schema):
            found = self._matcher.rows(batch)
        if logged_dataset(table.schema):
            found = [a or b for a, b in zip(found, self._matcher.old_values(batch), strict=True)]
        keys = self._matcher.keys(batch, self.plan.keys[dataset])  # children have the key of their record, too
        listed = [key in self.plan.records.get(name, ()) for name, key in zip(slice_ids, keys, strict=True)]
        return [a or b for a, b in zip(found, listed, strict=True)]

    def elsewhere(self, batch: pa.RecordBatch) -> Counter[str]:
        """Count, by column, the rows that have one of the values in a column in which nobody looked for it."""
        columns = [field.name for field in batch.schema if pa.types.is_string(field.type)]
        found = {name: self._matcher.count(batch[name]) for name in columns}
        return Counter({name: count for name, count in found.items() if count})

    def keys(self, table: Committed, dataset: str, batch: pa.RecordBatch) -> Iterator[tuple[str, Key]]:
        """Yield slice id and key of each row in which a value was found."""
        slice_ids = batch["slice_id"].to_pylist()
        keys = self._matcher.keys(batch, self.plan.keys[dataset])
        for is_found, name, key in zip(self._found(table, batch, slice_ids), slice_ids, keys, strict=True):
            if is_found and key is not None and name in self.plan.searched:
                yield name, key

    def without(self, ledger: Ledger, slice_: Slice) -> Iterator[tuple[Page, int, set[Key]]]:
        """Yield each page of a slice that has records that go: without them, their number, and their keys.

        Raises:
            LedgerError: a page is missing, or is not what was received.
        """
        dataset, operation = ledger.datasets()[slice_.dataset]
        layout = layout_of(dataset.model_copy(update={"privacy": {}}), operation)
        reader = Reader(layout.dataset, operation)
        run = ledger.run()
        snapshot = Snapshot(run.run_id, run.snapshot_date, layout.dataset, operation)
        records = self.plan.records.get(slice_.slice_id, frozenset())
        for page in ledger.pages(slice_):
            texts = reader.raw(page)
            gone = {
                i
                for i in (*range(page.first), *range(page.stop, len(texts)))
                if self._matcher.in_text(texts[i].decode())
            }
            keys: set[Key] = set()
            for flat in flatten(layout, snapshot, slice_, [page]):
                rows = flat.tables[layout.dataset.name]
                rejected = flat.rejects["record_number"].to_pylist()
                fitting = [i for i in range(page.first, page.stop) if i not in rejected]
                gone |= {i for i in rejected if self._matcher.in_text(texts[i].decode())}
                columns = [column.field.name for column in layout.key_columns]
                for i, is_found, key in zip(
                    fitting, self._matcher.rows(rows), self._matcher.keys(rows, columns), strict=True
                ):
                    if is_found or key in records:
                        gone.add(i)
                        keys |= {key} if key else set()
            if gone:
                yield _without(page, texts, gone, operation), len(gone), keys


def _without(page: Page, texts: Sequence[bytes], gone: set[int], operation: Operation) -> Page:
    """Return a page without some of its records."""
    kept = [i for i in range(len(texts)) if i not in gone]
    items = b",".join(texts[i] for i in kept)
    body = b"{%s:[%s]" % (json.dumps(operation.result_key).encode(), items)
    if page.next_starting_token is not None:  # a reader of pages expects as many members as there were
        body += b",%s:null" % json.dumps(operation.token_key).encode()
    first, stop = (sum(i < end for i in kept) for end in (page.first, page.stop))
    return replace(page, body=body + b"}", records=len(kept), first=first, stop=stop)


def make_plan(
    selection: Selection,
    tables: Tables,
    ledgers: Sequence[Path],
    keys: Mapping[str, tuple[str, ...]],
    secret: bytes | None,
) -> Plan:
    """Find what is to be forgotten. Nothing changes. `keys` has the key columns of the datasets that are configured.

    Raises:
        ConfigError: nothing is known of what was selected.
        LedgerError, WarehouseError: something that must be searched cannot be read.
    """
    chosen = {name: known for name, known in _known(tables, ledgers).items() if _fits(selection, name, known)}
    if not chosen:
        raise ConfigError(
            'forget: nothing is there of this dataset, account, slice and parameters; `nimble-etl sql "select distinct '
            'dataset, account_id, slice_id, parents from etl_slices"` lists what is there'
        )
    if not selection.values:
        return Plan(slices=frozenset(chosen), since=selection.since, until=selection.until)
    matcher = Matcher(selection.values, secret)
    whole = frozenset(name for name, known in chosen.items() if matcher.among(known.parameters.values()))
    searched = {name: known.dataset for name, known in chosen.items() if name not in whole}
    plan = Plan(slices=whole, searched=searched, values=selection.values)
    return _search(plan, tables, ledgers, keys, secret)


@dataclass(frozen=True, slots=True)
class _Known:
    """A slice that the warehouse or a ledger knows, with its parameters, filters included."""

    dataset: str
    account_id: str
    parameters: Mapping[str, str]


def _known(tables: Tables, ledgers: Iterable[Path]) -> dict[str, _Known]:
    found = {}
    columns = ("slice_id", "dataset", "account_id", "parents", "filters")
    for date in tables.dates("etl_slices"):
        for row in tables.rows("etl_slices", date, columns):
            parameters = dict([*(row["parents"] or ()), *(row["filters"] or ())])
            found[row["slice_id"]] = _Known(row["dataset"], row["account_id"], parameters)
    for path in ledgers:
        with Ledger.open(path) as ledger:
            for one in (facts.slice for facts in ledger.slices()):
                found[one.slice_id] = _Known(one.dataset, one.account_id, one.parameters)
    return found


def _fits(selection: Selection, slice_id: str, known: _Known) -> bool:
    return (
        selection.dataset in {None, known.dataset}
        and selection.account_id in {None, known.account_id}
        and selection.slice_id in {None, slice_id}
        and selection.parents.items() <= known.parameters.items()
    )


def _search(
    plan: Plan, tables: Tables, ledgers: Sequence[Path], keys: Mapping[str, tuple[str, ...]], secret: bytes | None
) -> Plan:
    """Add to a plan which records have one of its values, and which ledgers have them."""
    datasets = {*plan.searched.values()}
    known = dict(keys)
    for path in ledgers:
        with Ledger.open(path) as ledger:
            for name, definition in ledger.datasets().items():
                known[name] = tuple(column.field.name for column in layout_of(*definition).key_columns)
    searched = []
    for name in tables.names():
        table = tables.read(name)
        logged = logged_dataset(table.schema) if table else None
        if table and (name in datasets or logged in datasets):
            searched.append((table, logged or name))
            if logged:
                known[logged] = key_of_log(table.schema)
    columns = {column for table, _ in searched for column in table.schema.names}
    if missing := [value.column for value in plan.values if value.column not in columns] if searched else []:
        raise ConfigError(f"--where: found {missing[0]}; expected a column of {', '.join(sorted(datasets))}")
    if unknown := sorted({dataset for _, dataset in searched} - known.keys()):
        raise ConfigError(f"forget: the key of {unknown[0]} is not known; add its definition to the configuration")
    plan = plan.model_copy(update={"keys": {name: known[name] for name in datasets & known.keys()}})
    eraser = Eraser(plan, secret)
    records: dict[str, set[Key]] = {}
    for table, dataset in searched:
        for date in table.files:
            for batch in read_rows(table, date):
                for slice_id, key in eraser.keys(table, dataset, batch):
                    records.setdefault(slice_id, set()).add(key)
    for _, slice_, changed in _changed(ledgers, eraser):
        for _, _, found in changed:
            records.setdefault(slice_.slice_id, set()).update(found)
    plan = plan.model_copy(update={"records": {name: frozenset(found) for name, found in records.items()}})
    touched: dict[str, set[str]] = {}
    for run_id, slice_, changed in _changed(ledgers, Eraser(plan, secret)):
        if any(True for _ in changed):
            touched.setdefault(run_id, set()).add(slice_.slice_id)
    return plan.model_copy(update={"ledgers": {name: frozenset(ids) for name, ids in touched.items()}})


def _changed(
    ledgers: Iterable[Path], eraser: Eraser
) -> Iterator[tuple[str, Slice, Iterator[tuple[Page, int, set[Key]]]]]:
    """Yield run id, slice, and the pages that change, for each slice of a ledger in which values are searched."""
    for path in ledgers:
        with Ledger.open(path) as ledger:
            for one in (facts.slice for facts in ledger.slices()):
                if one.slice_id in eraser.plan.searched:
                    yield ledger.run().run_id, one, eraser.without(ledger, one)
