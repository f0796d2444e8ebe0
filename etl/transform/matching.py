"""Finds values in rows and in JSON texts, whether they are stored as they are or hashed."""

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import ConfigError
from etl.model import Frozen
from etl.transform.privacy import is_hashed, keyed_hash

_SCALARS = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*')

Key = tuple[str, ...]
"""The key of a record as texts: the same whether its values are stored hashed or not."""


class Wanted(Frozen):
    """A value of a column, or of one entry of a map: `owned_by=alice`, `tags.Artist=alice`."""

    column: str
    entry: str
    text: str

    @classmethod
    def parse(cls, text: str) -> "Wanted":
        """Return what a flag says.

        Raises:
            ConfigError: it is not of that form.
        """
        place, _, value = text.partition("=")
        column, _, entry = place.partition(".")
        if not (column and value):
            raise ConfigError(f"--where: found {text!r}; expected COLUMN=VALUE or COLUMN.ENTRY=VALUE")
        return cls(column=column, entry=entry, text=value)


class Matcher:
    """Finds some values. `secret` is the key of the hashes; None if there is none."""

    def __init__(self, values: Sequence[Wanted], secret: bytes | None) -> None:
        self._secret = secret
        self._values = [(value, {value.text, self._same(value.text)}) for value in values]
        self._texts = {text for _, texts in self._values for text in texts}
        self._key_part = cache(self._same)

    def rows(self, batch: pa.RecordBatch) -> list[bool]:
        """Tell for each row whether its column has one of the values. A list has those of its items."""
        found = [False] * batch.num_rows
        for value, texts in self._values:
            if value.column in batch.schema.names:
                for i, inner in enumerate(batch[value.column].to_pylist()):
                    found[i] = found[i] or not texts.isdisjoint(_texts_in(inner, value.entry))
        return found

    def old_values(self, batch: pa.RecordBatch) -> list[bool]:
        """Tell for each row of a change log whether a column had one of the values before the change."""
        return [
            any(
                not texts.isdisjoint(_texts_in(_loaded(old), value.entry))
                for column, old in entries or ()
                for value, texts in self._values
                if column == value.column
            )
            for entries in batch["old_values"].to_pylist()
        ]

    def in_text(self, record: str) -> bool:
        """Tell whether a JSON text has one of the values anywhere, however deep it is nested."""
        found = (json.loads(token) if token[0] == '"' else token for token in _SCALARS.findall(record))
        return not self._texts.isdisjoint(found)

    def among(self, texts: Iterable[str]) -> bool:
        """Tell whether one of the values is among some texts."""
        return not self._texts.isdisjoint(texts)

    def count(self, texts: pa.Array) -> int:
        """Return how many of some texts are one of the values."""
        return pc.sum(pc.is_in(texts, pa.array(sorted(self._texts), pa.string()))).as_py() or 0

    def keys(self, batch: pa.RecordBatch, columns: Sequence[str]) -> list[Key | None]:
        """Return the key of each row; None if all of it is null."""
        rows = zip(*(map(_hashable, batch[name].to_pylist()) for name in columns), strict=True)
        return [None if not any(part is not None for part in row) else tuple(map(self._key_part, row)) for row in rows]

    def _same(self, value: Any) -> str:
        if value is None:
            return ""
        return _text(value) if self._secret is None or is_hashed(value) else keyed_hash(self._secret, value)


def _hashable(value: Any) -> Any:
    """Return a value of a key column; a list, map or structure as its JSON text."""
    return json.dumps(value, default=str, sort_keys=True) if isinstance(value, list | dict) else value


def _loaded(old: str | None) -> Any:
    """Return an old value; a map as Arrow shows maps, as pairs."""
    value = json.loads(old) if old else None
    return list(value.items()) if isinstance(value, dict) else value


def _texts_in(value: Any, entry: str) -> set[str]:
    """Return the scalars of a value, of its items, or of one entry of a map, as texts."""
    items = value if isinstance(value, list) else [value]
    if entry:
        items = [item[1] for item in items if isinstance(item, tuple) and item[0] == entry]
    return {_text(item) for item in items if isinstance(item, str | int | float | bytes)}


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return str(value).lower() if isinstance(value, bool) else str(value)
