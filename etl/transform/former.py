"""Rows that were written under former rules of privacy, as the present rules want them.

What is hashed stays as it is. A value that should be hashed becomes null if its column was made under other rules and
has another type than text. Each function returns the same batch if the rows are as they should be.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from etl.transform.privacy import PrivacyGuard
from etl.transform.schema import EXTRA, Child, Column, Layout


class FormerRows:
    """Applies the rules of one dataset to its rows. False if there are none. Raises a ConfigError as `check_key`."""

    def __init__(self, layout: Layout) -> None:
        self._guard = PrivacyGuard(layout)
        self._extra_rule = layout.extra_rule
        self._ruled = {c.field.name: c for c in layout.columns if c.rule != "allow" or c.entry_rules}

    def __bool__(self) -> bool:
        return bool(self._ruled) or self._extra_rule != "allow"

    def records(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows of the dataset's own table or, for the columns that they have, of a child table."""
        columns: dict[str, list[Any]] = {}
        for name, column in self._ruled.items():
            if name in batch.schema.names:
                columns[name] = [self._value(column, value) for value in batch[name].to_pylist()]
        if EXTRA.name in batch.schema.names:
            columns[EXTRA.name] = [
                self._guard.scalar(self._extra_rule, value) for value in batch[EXTRA.name].to_pylist()
            ]
        return _with(batch, columns)

    def entries(self, child: Child, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows of the table of a map whose entries have rules. Entries that are dropped are left out."""
        rows = self.records(batch).to_pylist()
        value = child.columns[0].field.name
        kept = []
        for row in rows:
            rule = child.source.entry_rules.get(row[child.entry.name], "allow")
            if rule != "drop":
                kept.append({**row, value: self._guard.scalar(rule, row[value])})
        return _unless_same(batch, kept)

    def rejects(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return rejected records of the dataset."""
        return _with(batch, {"record": [self._guard.text(value) for value in batch["record"].to_pylist()]})

    def changes(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows of the change log. What nobody may see has not changed."""
        rows = [self._change(row) for row in self.records(batch).to_pylist()]
        return _unless_same(batch, [row for row in rows if row is not None])

    def _value(self, column: Column, value: Any) -> Any:
        """Return a value of a column as Arrow shows it: maps are pairs."""
        if column.rule != "allow" or not value:
            return self._guard.scalar(column.rule, value)
        ruled = [(name, column.entry_rules.get(name, "allow"), inner) for name, inner in value]
        return [(name, self._guard.scalar(rule, inner)) for name, rule, inner in ruled if rule != "drop"]

    def _change(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """Return a row of a change log without the changes that nobody may see; None if it has no other."""
        if row["old_values"] is None:
            return row
        old = [
            (name, text, self._old_value(name, text)) for name, text in row["old_values"] if not self._is_dropped(name)
        ]
        seen = [(name, text) for name, former, text in old if text == former or not _is_same(text, row[name])]
        return {**row, "changed_columns": [name for name, _ in seen], "old_values": seen} if seen else None

    def _is_dropped(self, name: str) -> bool:
        column = self._ruled.get(name)
        return (column.rule if column else self._extra_rule if name == EXTRA.name else "allow") == "drop"

    def _old_value(self, name: str, text: str | None) -> str | None:
        """Return a former value of a column; both are JSON texts."""
        before = json.loads(text) if text else None
        column = self._ruled.get(name)
        if name == EXTRA.name:
            value = self._guard.scalar(self._extra_rule, before)
        elif column and column.entry_rules and isinstance(before, dict):
            value = dict(self._value(column, list(before.items())))
        else:
            value = self._guard.scalar(column.rule, before) if column else before
        return text if value == before else msgspec.json.encode(value).decode()


def _is_same(text: str | None, value: Any) -> bool:
    """Tell whether a former map, as JSON text, has the same entries as a map of Arrow."""
    before = json.loads(text) if text else None
    return isinstance(before, dict) and sorted(before.items()) == sorted(value or ())


def _with(batch: pa.RecordBatch, columns: dict[str, list[Any]]) -> pa.RecordBatch:
    """Return a batch with other values in some columns."""
    changed = {name: values for name, values in columns.items() if values != batch[name].to_pylist()}
    arrays = [_fitting(changed[f.name], f.type) if f.name in changed else batch[f.name] for f in batch.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema) if changed else batch


def _unless_same(batch: pa.RecordBatch, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return batch if rows == batch.to_pylist() else pa.RecordBatch.from_pylist(rows, schema=batch.schema)


def _fitting(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return values as an array of a type. A hash that the type cannot hold becomes null."""
    if not pa.types.is_string(kind):
        values = [None if isinstance(value, str) else value for value in values]
    return pa.array(values, kind)
