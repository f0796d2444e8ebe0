"""Arrow arrays from typed values. Only this module knows how a member of an API shape becomes a column."""

import datetime as dt
import itertools
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import RecordError
from etl.model import Member
from etl.transform.schema import TIMESTAMP, arrow_type

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_MIN_US = (dt.datetime(1, 1, 1, tzinfo=dt.UTC) - _EPOCH) // _MICROSECOND
_MAX_US = (dt.datetime.max.replace(tzinfo=dt.UTC) - _EPOCH) // _MICROSECOND
_QUOTED_EPOCH = re.compile(r"-?(\d{9,12}|\d{9,12}\.\d+|0)")
"""Seconds in quotes. Fewer digits could be a date without hyphens, and more are milliseconds."""
_BELOW_MICROSECONDS = re.compile(r"[.,]\d{6}\d*[1-9]")


def array(member: Member, values: Sequence[Any]) -> pa.Array:
    """Return n values of a member as an Arrow array of length n; None is null.

    Raises:
        RecordError, ValueError, OverflowError, TypeError: a value does not fit. The error may not tell which one.
    """
    if member.kind == "timestamp":
        return _timestamps(values)
    if member.kind == "structure":
        children = [array(child, _field(values, i)) for i, child in enumerate(member.members)]
        fields = [pa.field(child.name, arrow_type(child)) for child in member.members]
        return pa.StructArray.from_arrays(children, fields=fields, mask=_missing(values))
    if member.kind == "map" and member.element is not None:
        keys, flat = map_entries(values)
        arrays = pa.array(keys, pa.string()), array(member.element, flat)
        return pa.MapArray.from_arrays(offsets(values), *arrays, type=arrow_type(member), mask=_missing(values))
    if member.element is not None:
        flat = [inner for value in values if value for inner in value]
        inner = array(member.element, flat)
        return pa.ListArray.from_arrays(offsets(values), inner, type=arrow_type(member), mask=_missing(values))
    if member.kind in ("float", "double") and any(isinstance(value, str) for value in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if member.kind == "document":
        return pa.array([None if v is None else msgspec.json.encode(v).decode() for v in values], pa.string())
    return pa.array(values, arrow_type(member))


def spread(member: Member, structs: Sequence[Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Sequence[Any]]:
    """Return API path -> n values, for every leaf of n structs. Below an absent struct the values are None."""
    absent = (None,) * len(member.members)
    rows = [absent if struct is None else msgspec.structs.astuple(struct) for struct in structs]
    columns = zip(*rows, strict=True) if rows else itertools.repeat(())
    found: dict[tuple[str, ...], Sequence[Any]] = {}
    for child, values in zip(member.members, columns, strict=False):
        below = (*path, child.api_name)
        if child.kind == "structure" and child.members:
            found |= spread(child, values, below)
        else:
            found[below] = values
    return found


def as_maps(lists: Sequence[Any], entry: tuple[int, int] | None) -> Sequence[Any]:
    """Return n lists of structures as maps; `entry` has the places of key and value. Without it, return the lists.

    Raises:
        RecordError: a list has an entry without a key, or a key twice: a map would lose one of the values.
    """
    if entry is None:
        return lists
    key, value = (f"m{place}" for place in entry)
    found: list[Any] = []
    for entries in lists:
        pairs = [(getattr(one, key, None), getattr(one, value, None)) for one in entries or ()]
        as_map = None if entries is None else dict(pairs)
        if as_map and (None in as_map or len(as_map) != len(pairs)):
            raise RecordError("has an entry without a key, or a key twice; expected each key once")
        found.append(as_map)
    return found


def getter(member: Member, path: Sequence[str]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a function from n structs of a member to the n values at an API path; absent values are None."""
    places = _places(member, path)

    def get(structs: Sequence[Any]) -> Sequence[Any]:
        for place in places:
            structs = _field(structs, place)
        return structs

    return get


def below(member: Member, values: pa.Array, path: Sequence[str]) -> pa.Array:
    """Return the n values at an API path below n values of a member; the path () leads to the values themselves."""
    return pc.struct_field(values, _places(member, path)) if path else values


def offsets(values: Sequence[Any]) -> pa.Array:
    """Return the n + 1 offsets of n lists or maps. An absent one has no entries."""
    return pa.array(np.cumsum([0, *lengths(values)]), pa.int32())


def lengths(values: Sequence[Any]) -> list[int]:
    """Return the number of entries of each of n lists or maps; 0 for an absent one."""
    return [len(value) if value else 0 for value in values]


def map_entries(values: Sequence[Any]) -> tuple[list[str], list[Any]]:
    """Return the keys and the values of n maps, joined in their order."""
    present = [value for value in values if value]
    return [key for value in present for key in value], [inner for value in present for inner in value.values()]


def instant_us(value: str | float) -> int:
    """Return the microseconds since the epoch of an instant: ISO-8601 text, an HTTP date, or epoch seconds.

    Source: botocore, parsers.py and utils.py, parse_timestamp, which reads all of them, and seconds in quotes too.

    Raises:
        RecordError: not an instant, outside the years 1 to 9999, or finer than microseconds.
    """
    result: int | None = None
    if not isinstance(value, str):
        result = round(value * 1_000_000)
    elif _QUOTED_EPOCH.fullmatch(value):
        microseconds = Decimal(value).scaleb(6)
        result = int(microseconds) if microseconds == int(microseconds) else None
    elif not _BELOW_MICROSECONDS.search(value):
        with suppress(ValueError):  # neither of both
            instant = parsedate_to_datetime(value) if value[:1].isalpha() else dt.datetime.fromisoformat(value.upper())
            result = ((instant if instant.tzinfo else instant.replace(tzinfo=dt.UTC)) - _EPOCH) // _MICROSECOND
    if result is None or not _MIN_US <= result <= _MAX_US:
        expected = "expected ISO-8601 or epoch seconds, in the years 1 to 9999, no finer than microseconds"
        raise RecordError(f"is {value!r}; {expected}")
    return result


def _timestamps(values: Sequence[Any]) -> pa.Array:
    try:
        found = pa.array(values, pa.string()).cast(TIMESTAMP)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        found = None
    # Arrow accepts the year 0, and offsets that lead out of the years 1 to 9999. Python cannot read these back.
    if found is None or _is_out_of_range(found):
        microseconds = [None if value is None else instant_us(value) for value in values]
        found = pa.array(microseconds, pa.int64()).cast(TIMESTAMP)
    return found


def _is_out_of_range(instants: pa.Array) -> bool:
    extent = pc.min_max(instants.cast(pa.int64()))
    least, most = extent["min"].as_py(), extent["max"].as_py()
    return least is not None and (least < _MIN_US or most > _MAX_US)


def _missing(values: Sequence[Any]) -> pa.Array:
    return pa.array([value is None for value in values], pa.bool_())


def _field(structs: Sequence[Any], place: int) -> list[Any]:
    name = f"m{place}"
    return [None if struct is None else getattr(struct, name) for struct in structs]


def _places(member: Member, path: Sequence[str]) -> list[int]:
    """Return the position of the member to follow at each step of an API path."""
    places = []
    for api_name in path:
        places.append([child.api_name for child in member.members].index(api_name))
        member = member.members[places[-1]]
    return places
