"""Arrow arrays out of typed values, by shape: the one place that knows how a member becomes a column."""

import datetime as dt
import itertools
import re
from collections.abc import Callable, Sequence
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
_BELOW_MICROSECONDS = re.compile(r"[.,]\d{6}\d*[1-9]")


def array(member: Member, values: Sequence[Any]) -> pa.Array:
    """Return the n values of a member as an Arrow array of n slots; None is null.

    Raises:
        RecordError, ValueError, OverflowError: a value does not fit; which one is not said.
    """
    if member.kind == "timestamp":
        return _timestamps(values)
    if member.kind == "structure":
        children = [array(child, [_get(value, i) for value in values]) for i, child in enumerate(member.members)]
        fields = [pa.field(child.name, arrow_type(child)) for child in member.members]
        missing = pa.array([value is None for value in values], pa.bool_())
        return pa.StructArray.from_arrays(children, fields=fields, mask=missing)
    if member.kind == "list":
        assert member.element is not None
        flat = [inner for value in values if value for inner in value]
        return pa.ListArray.from_arrays(
            offsets(values), array(member.element, flat), mask=_missing(values), type=arrow_type(member)
        )
    if member.kind == "map":
        assert member.element is not None
        keys, flat = map_entries(values)
        return pa.MapArray.from_arrays(
            offsets(values), pa.array(keys, pa.string()), array(member.element, flat), type=arrow_type(member),
            mask=_missing(values),
        )  # fmt: skip
    if member.kind in ("float", "double") and any(isinstance(value, str) for value in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if member.kind == "document":
        return pa.array([None if v is None else msgspec.json.encode(v).decode() for v in values], pa.string())
    return pa.array(values, arrow_type(member))


def spread(member: Member, structs: Sequence[Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Sequence[Any]]:
    """Return the n values of every leaf of n structs, by API path; below an absent struct they are None."""
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


def getter(member: Member, path: Sequence[str]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a function from n structs to the n values that an API path leads to; absent is None."""
    places = []
    for api_name in path:
        place = next(i for i, child in enumerate(member.members) if child.api_name == api_name)
        member = member.members[place]
        places.append(place)

    def get(structs: Sequence[Any]) -> Sequence[Any]:
        for place in places:
            name = f"m{place}"
            structs = [None if struct is None else getattr(struct, name) for struct in structs]
        return structs

    return get


def below(member: Member, values: pa.Array, path: Sequence[str]) -> pa.Array:
    """Return the n values that an API path leads to, below n values of a member; the path () leads to themselves."""
    for api_name in path:
        place = next(i for i, child in enumerate(member.members) if child.api_name == api_name)
        member = member.members[place]
        values = pc.struct_field(values, [place])
    return values


def offsets(values: Sequence[Any]) -> pa.Array:
    """Return n + 1 offsets of n lists or maps; an absent one has no entries."""
    return pa.array(np.cumsum([0, *lengths(values)]), pa.int32())


def lengths(values: Sequence[Any]) -> list[int]:
    """Return the number of entries of n lists or maps; 0 for an absent one."""
    return [len(value) if value else 0 for value in values]


def map_entries(values: Sequence[Any]) -> tuple[list[str], list[Any]]:
    """Return the keys and the values of n maps, one after the other."""
    present = [value for value in values if value]
    return [key for value in present for key in value], [inner for value in present for inner in value.values()]


def instant_us(value: str | float) -> int:
    """Return the microseconds since the epoch that an ISO-8601 text or a number of seconds says.

    Raises:
        RecordError: it is no instant between year 1 and 9999, or is finer than microseconds.
    """
    expected = "expected ISO-8601 or epoch seconds, in the years 1 to 9999, no finer than microseconds"
    if isinstance(value, str):
        try:
            instant = dt.datetime.fromisoformat(value)
        except ValueError:
            raise RecordError(f"is {value!r}; {expected}") from None
        if _BELOW_MICROSECONDS.search(value):
            raise RecordError(f"is {value!r}; {expected}")
        instant = instant if instant.tzinfo else instant.replace(tzinfo=dt.UTC)
        result = (instant - _EPOCH) // _MICROSECOND
    else:
        result = round(value * 1_000_000)
    if not _MIN_US <= result <= _MAX_US:
        raise RecordError(f"is {value!r}; {expected}")
    return result


def _timestamps(values: Sequence[Any]) -> pa.Array:
    try:
        found = pa.array(values, pa.string()).cast(TIMESTAMP)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        found = None
    # Arrow also reads the year 0, and an offset may lead out of the years 1 to 9999, which Python cannot read back.
    if found is None or _out_of_range(found):
        microseconds = [None if value is None else instant_us(value) for value in values]
        found = pa.array(microseconds, pa.int64()).cast(TIMESTAMP)
    return found


def _out_of_range(instants: pa.Array) -> bool:
    extent = pc.min_max(instants.cast(pa.int64()))
    least, most = extent["min"].as_py(), extent["max"].as_py()
    return least is not None and (least < _MIN_US or most > _MAX_US)


def _missing(values: Sequence[Any]) -> pa.Array:
    return pa.array([value is None for value in values], pa.bool_())


def _get(struct: Any, place: int) -> Any:
    return None if struct is None else getattr(struct, f"m{place}")
