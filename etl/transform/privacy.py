"""Applies privacy rules: a value is replaced by a keyed hash, or dropped.

The same value has the same hash in every column and every night, so hashed columns can still be joined and counted.
Nobody can check guesses against a hash without the key. Source: RFC 2104, HMAC with SHA-256.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from etl.errors import ConfigError
from etl.model import Rule
from etl.transform.schema import Column, Layout


def check_key(layout: Layout) -> None:
    """Refuse a layout that hashes values without a key.

    Raises:
        ConfigError: a column or entry has the rule `hash` and there is no key.
    """
    hashed = [column.field.name for column in layout.columns if "hash" in {column.rule, *column.entry_rules.values()}]
    if hashed and not layout.key:
        raise ConfigError(
            f"privacy: {layout.dataset.name}.{hashed[0]} has the rule hash, but there is no key; set "
            "NIMBLE_ETL_PRIVACY__KEY in the environment, or set the rule to allow or drop in privacy.rules"
        )


class PrivacyGuard:
    """Applies the rules of one dataset. Raises a ConfigError as `check_key`."""

    def __init__(self, layout: Layout) -> None:
        check_key(layout)
        self._key = layout.key or b""
        self._ruled = [column for column in layout.columns if column.rule != "allow" or column.entry_rules]

    def column(self, column: Column, values: pa.Array) -> pa.Array:
        """Return the values of a column: as they are, hashed, or all null."""
        if column.rule == "allow":
            return values
        if column.rule == "drop":
            return pa.nulls(len(values), column.field.type)
        return pa.array([None if value is None else self._hash(value) for value in values.to_pylist()], pa.string())

    def entries(self, column: Column, values: Sequence[Any]) -> Sequence[Any]:
        """Return the values of a column; in maps, entries with a rule are hashed or left out."""
        if not column.entry_rules:
            return values
        return [value and self._ruled_map(value, column.entry_rules) for value in values]

    def text(self, record: str) -> str:
        """Return a record as JSON text, with null in each column that has a rule: rejects keep no hashes."""
        if not self._ruled:
            return record
        value = json.loads(record)
        for column in self._ruled:
            place = value
            for name in column.path[:-1]:
                place = place.get(name) if isinstance(place, dict) else None
            if isinstance(place, dict) and column.path[-1] in place:
                place[column.path[-1]] = None
        return json.dumps(value)

    def _ruled_map(self, value: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, Any]:
        return {
            name: self._hash(inner) if rules.get(name) == "hash" and inner is not None else inner
            for name, inner in value.items()
            if rules.get(name) != "drop"
        }

    def _hash(self, value: Any) -> str:
        text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else msgspec.json.encode(value)
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()
