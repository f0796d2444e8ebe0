"""The rows of a ledger as values. A column has the name of the field that it fills."""

import datetime as dt
import hashlib
import json
import sqlite3
import sys
from dataclasses import fields
from typing import Any, TypeVar

from etl.errors import LedgerError
from etl.model import Page, RunFacts, RunState, Shard, Slice, SliceFacts, SliceState

Value = TypeVar("Value", RunFacts, SliceFacts, Page)


def run_facts(row: sqlite3.Row) -> RunFacts:
    """Return a row of the table `run`."""
    return _value(
        RunFacts,
        row,
        snapshot_date=dt.date.fromisoformat(row["snapshot_date"]),
        started_at=dt.datetime.fromisoformat(row["started_at"]),
        worked_until=dt.datetime.fromisoformat(row["worked_until"]),
        state=RunState(row["state"]),
        shard=Shard.parse(row["shard"]),
    )


def slice_facts(row: sqlite3.Row, pages_sha256: str | None) -> SliceFacts:
    """Return a row of the table `slice`, with the sums over its pages. `pages_sha256` is a digest of their bodies."""
    # Many slices have the same few names: each is in memory once.
    dataset, account_id, region = (sys.intern(row[name]) for name in ("dataset", "account_id", "region"))
    parents, filters = json.loads(row["parents"]), json.loads(row["filters"])
    slice_ = Slice(dataset, account_id, region, parents, filters, bool(row["is_of_many"]))
    return _value(
        SliceFacts,
        row,
        slice=slice_,
        state=SliceState(row["state"]),
        resumable=bool(row["resumable"]),
        partial=bool(row["partial"]),
        published_at=_instant(row["published_at"]),
        observed_from=_instant(row["observed_from"]),
        observed_until=_instant(row["observed_until"]),
        drift=tuple(json.loads(row["drift"] or "[]")),
        publication=row["sequence"],
        table_rows=json.loads(row["table_rows"] or "{}"),
        is_wanted=bool(row["is_of_wanted"]) and Shard.parse(row["shard"]).owns(slice_),
        pages_sha256=pages_sha256,
    )


def page(row: sqlite3.Row, place: str) -> Page:
    """Return a row of the table `page`; `place` begins the message of an error.

    Raises:
        LedgerError: the stored body is not what was received.
    """
    broken = f"{place}, page {row['number']}: the stored body is not what was received; run with --fresh"
    try:
        body = zstd().decompress(row["body"], decompressed_size=row["size_bytes"], asbytes=True)
    except (OSError, ValueError, SystemError, MemoryError) as exc:  # the last two if its size was changed
        raise LedgerError(broken) from exc
    if hashlib.sha256(body).hexdigest() != row["body_sha256"]:
        raise LedgerError(broken)
    return _value(Page, row, body=body, received_at=dt.datetime.fromisoformat(row["received_at"]))


def zstd() -> Any:
    """Return the codec of bodies. Arrow is imported only here: commands that read no body start faster without it."""
    from pyarrow import Codec  # noqa: PLC0415

    return Codec("zstd")


def _value(kind: type[Value], row: sqlite3.Row, **converted: Any) -> Value:
    """Return a value whose fields are columns of the row, except those that are given converted."""
    plain = {field.name: row[field.name] for field in fields(kind) if field.name not in converted}
    return kind(**plain, **converted)


def _instant(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text) if text else None
