"""Applies privacy rules: a value is replaced by a keyed hash, or dropped.

The same value has the same hash in every column and every night, so hashed columns can still be joined and counted.
Nobody can check guesses against a hash without the key. Source: RFC 2104, HMAC with SHA-256.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from etl.errors import ConfigError
from etl.model import HASHED, Rule
from etl.transform.records import split_unknown
from etl.transform.schema import Column, Layout


def check_key(layout: Layout) -> None:
    """Refuse a layout that hashes values without a key.

    Raises:
        ConfigError: a column or entry has the rule `hash` and there is no key.
    """
    hashed = [column.field.name for column in layout.columns if "hash" in {column.rule, *column.entry_rules.values()}]
    hashed += ["extra"] if layout.extra_rule == "hash" else []
    if hashed and not layout.key:
        raise ConfigError(
            f"privacy: {layout.dataset.name}.{hashed[0]} has the rule hash, but there is no key; set "
            "NIMBLE_ETL_PRIVACY__KEY in the environment, or set the rule to allow or drop in privacy.rules"
        )


def keyed_hash(key: bytes, value: Any) -> str:
    """Return the hash of a value, in hexadecimal. A text and a number of the same digits have the same hash."""
    text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else msgspec.json.encode(value)
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def is_hashed(value: Any) -> bool:
    """Tell whether a value looks like such a hash."""
    return isinstance(value, str) and bool(re.fullmatch(HASHED, value))


class PrivacyGuard:
    """Applies the rules of one dataset. Raises a ConfigError as `check_key`."""

    def __init__(self, layout: Layout) -> None:
        check_key(layout)
        self._layout = layout
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

    def extras(self, values: Sequence[str | None]) -> pa.Array:
        """Return the values of the column `extra`: as they are, hashed, or all null."""
        rule = self._layout.extra_rule
        return pa.array(values if rule == "allow" else [self.scalar(rule, value) for value in values], pa.string())

    def text(self, record: str) -> str:
        """Return a record as JSON text, with null in each column that has a rule: rejects keep no hashes.

        If there is a rule for `extra`, the text lacks the members that the service model does not know.
        """
        if not self._ruled and self._layout.extra_rule == "allow":
            return record
        value = json.loads(record)
        if self._layout.extra_rule != "allow":
            value, _ = split_unknown(value, self._layout.operation.record)
        for column in self._ruled:
            place = value
            for name in column.path[:-1]:
                place = place.get(name) if isinstance(place, dict) else None
            if isinstance(place, dict) and column.path[-1] in place:
                place[column.path[-1]] = None
        return json.dumps(value)

    def scalar(self, rule: Rule, value: Any) -> Any:
        """Return a value, its hash, or None. What is hashed stays."""
        if rule == "drop":
            return None
        return value if rule == "allow" or value is None or is_hashed(value) else self._hash(value)

    def _ruled_map(self, value: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, Any]:
        return {
            name: self._hash(inner) if rules.get(name) == "hash" and inner is not None else inner
            for name, inner in value.items()
            if rules.get(name) != "drop"
        }

    def _hash(self, value: Any) -> str:
        return keyed_hash(self._key, value)
