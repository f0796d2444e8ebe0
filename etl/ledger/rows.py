"""What the rows of a ledger stand for."""

import datetime as dt
import hashlib
import json
import sqlite3
from typing import Any

from etl.errors import LedgerError
from etl.model import Page, RunFacts, RunState, Slice, SliceFacts, SliceState


def run_facts(row: sqlite3.Row) -> RunFacts:
    """Return what is known about a run."""
    return RunFacts(
        run_id=row["run_id"],
        snapshot_date=dt.date.fromisoformat(row["snapshot_date"]),
        started_at=dt.datetime.fromisoformat(row["started_at"]),
        request=row["request"],
        account_id=row["account_id"],
        state=RunState(row["state"]),
        seconds=row["seconds"],
        invocations=row["invocations"],
        worked_until=dt.datetime.fromisoformat(row["worked_until"]),
    )


def slice_facts(row: sqlite3.Row) -> SliceFacts:
    """Return what is known about a slice."""
    return SliceFacts(
        slice=Slice(
            dataset=row["dataset"],
            account_id=row["account_id"],
            region=row["region"],
            parents=json.loads(row["parents"]),
            filters=json.loads(row["filters"]),
        ),
        attempt=row["attempt"],
        state=SliceState(row["state"]),
        first_starting_token=row["first_starting_token"],
        starting_token=row["starting_token"],
        error=row["error"],
        resumable=bool(row["resumable"]),
        publication=row["publication"],
        published_at=_instant(row["published_at"]),
        partial=bool(row["partial"]),
        pages=row["pages"],
        records=row["records"],
        retries=row["retries"],
        observed_from=_instant(row["observed_from"]),
        observed_until=_instant(row["observed_until"]),
        rows=row["rows"],
        rejects=row["rejects"],
        duplicates=row["duplicates"],
        drift=tuple(json.loads(row["drift"] or "[]")),
    )


def page(row: sqlite3.Row, place: str) -> Page:
    """Return a page; `place` begins the message of an error.

    Raises:
        LedgerError: the stored body is not what was received.
    """
    broken = f"{place}, page {row['number']}: the stored body is not what was received"
    try:
        body = zstd().decompress(row["body"], decompressed_size=row["size_bytes"], asbytes=True)
    except (OSError, ValueError, SystemError, MemoryError) as exc:  # the last two: its size was changed
        raise LedgerError(f"{broken}; run with --fresh") from exc
    if hashlib.sha256(body).hexdigest() != row["body_sha256"]:
        raise LedgerError(f"{broken}; run with --fresh")
    return Page(
        number=row["number"],
        body=body,
        records=row["records"],
        first=row["first"],
        stop=row["stop"],
        next_starting_token=row["next_starting_token"],
        request_id=row["request_id"],
        retries=row["retries"],
        received_at=dt.datetime.fromisoformat(row["received_at"]),
    )


def zstd() -> Any:
    """Return the codec of bodies. Who only asks how a ledger stands does not load Arrow for it."""
    from pyarrow import Codec  # noqa: PLC0415

    return Codec("zstd")


def _instant(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text) if text else None
