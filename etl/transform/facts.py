"""The facts about a run as tables: etl_runs, etl_slices, etl_pages."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from etl.model import SliceFacts, digest
from etl.outcome import COUNTS, Outcome
from etl.transform.schema import REJECTS, SNAPSHOT_DATE, TIMESTAMP, WHERE, field

_RUN_ID = field("run_id", pa.string(), "identity of the run; begins with the time it started")
_SLICE_ID = field("slice_id", pa.string(), "identity of the slice, the same in every run")


def _counts(rows: str) -> list[pa.Field]:
    """Return the fields of the counts; `rows` describes the number of rows."""
    return [
        field("pages", pa.int32(), "pages received"),
        field("records", pa.int64(), "records on those pages"),
        field("rows", pa.int64(), rows),
        field("rejects", pa.int64(), "records that did not fit, kept in etl_rejects"),
        field("duplicates", pa.int64(), "records left out because a newer one has the same key"),
        field("retries", pa.int64(), "requests that were repeated"),
    ]


RUNS = pa.schema(
    [
        SNAPSHOT_DATE,
        _RUN_ID,
        field("started_at", TIMESTAMP, "when the run began"),
        field("finished_at", TIMESTAMP, "when it last wrote these facts"),
        field(
            "exit_code",
            pa.int32(),
            "0 everything asked for is published; 3 it has not ended; 5 published, but not all is well; what checks"
            " found is in etl_checks",
        ),
        field("seconds", pa.float64(), "working time of all invocations", unit="s"),
        field("invocations", pa.int32(), "how often the run was begun or resumed"),
        field("slices", pa.int32(), "slices planned"),
        field("slices_published", pa.int32(), "slices whose rows readers see"),
        *_counts("rows published"),
        field("version", pa.string(), "version of nimble-etl"),
        field("shard", pa.string(), "part of the night that the run published, such as 2/8; null: all of it"),
        field(
            "table_versions",
            pa.map_(pa.string(), pa.int64()),
            "versions of the tables after the publication, those of facts apart; a lower one later is a loss",
        ),
    ]
)
SLICES = pa.schema(
    [
        SNAPSHOT_DATE,
        _RUN_ID,
        _SLICE_ID,
        field("dataset", pa.string(), "dataset that the slice belongs to"),
        *WHERE,
        field("parents", pa.map_(pa.string(), pa.string()), "parameters that make the slice, such as studioId"),
        field("filters", pa.map_(pa.string(), pa.string()), "parameters that the operator filtered by"),
        field("is_filtered", pa.bool_(), "whether any filter was used: then absence proves nothing"),
        field("state", pa.string(), "how the walk ended", enum=["walking", "complete", "failed", "gone", "skipped"]),
        field("is_published", pa.bool_(), "whether the rows of this run are (or were) what readers see"),
        field("published_at", TIMESTAMP, "when the ledger said so; null if not published"),
        field(
            "publication",
            pa.int64(),
            "number of the publication in this warehouse: of two for one date and slice, readers see the higher one;"
            " 0 or null if a former version published",
        ),
        field(
            "pages_sha256",
            pa.string(),
            "SHA-256 over the hashes of its page bodies: what was published; `forgotten` if `forget` had no pages",
        ),
        field("table_rows", pa.map_(pa.string(), pa.int64()), "rows that the publication wrote, by table"),
        field("is_dropped", pa.bool_(), "whether `vacuum` has dropped its daily rows (warehouse.keep_snapshots)"),
        field("is_partial", pa.bool_(), "published by request although the walk was not complete"),
        field("attempt", pa.int32(), "1, and one more each time an expired token made the walk begin again"),
        *_counts("rows published; null if not published"),
        field("observed_from", TIMESTAMP, "when the first page arrived"),
        field("observed_until", TIMESTAMP, "when the last page arrived; the listing may have changed in between"),
        field("drift", pa.list_(pa.string()), "members and enum values that the service model does not know"),
        field("error", pa.string(), "why the walk ended early; null if it did not"),
    ]
)
PAGES = pa.schema(
    [
        SNAPSHOT_DATE,
        _RUN_ID,
        _SLICE_ID,
        field("dataset", pa.string(), "dataset that the page belongs to"),
        field("attempt", pa.int32(), "attempt of the slice"),
        field("page_number", pa.int32(), "place of the page in the walk, from 1"),
        field("records", pa.int32(), "records on the page"),
        field("kept", pa.int32(), "records of the page that belong to the walk"),
        field("size_bytes", pa.int64(), "length of the body", unit="bytes"),
        field("body_sha256", pa.string(), "SHA-256 of the body, in hexadecimal"),
        field("token_sha256", pa.string(), "SHA-256 of the starting token that follows; null after the last page"),
        field("request_id", pa.string(), "request id that the service gave"),
        field("retries", pa.int32(), "times that the request was repeated"),
        field("received_at", TIMESTAMP, "when the page arrived"),
    ]
)
RUN_TABLES: Mapping[str, pa.Schema] = {"etl_pages": PAGES, "etl_slices": SLICES, "etl_runs": RUNS}
"""The tables about runs, in the order of their commits."""
ETL_TABLES: Mapping[str, pa.Schema] = {**RUN_TABLES, "etl_rejects": REJECTS}


def batch(schema: pa.Schema, snapshot_date: dt.date, run_id: str, rows: Iterable[Mapping[str, Any]]) -> pa.RecordBatch:
    """Return facts as a batch. Each row must have every column of the schema except snapshot_date and run_id.

    Raises:
        KeyError: a row lacks a column. Arrow alone would write null.
    """
    common = {"snapshot_date": snapshot_date, "run_id": run_id}
    whole = [{**row, **common} for row in rows]
    return pa.RecordBatch.from_pydict({name: [row[name] for row in whole] for name in schema.names}, schema=schema)


def run_row(outcome: Outcome, version: str, table_versions: Mapping[str, int]) -> dict[str, Any]:
    """Return the row of etl_runs."""
    return {
        "started_at": outcome.run.started_at,
        "finished_at": outcome.run.worked_until,
        "exit_code": outcome.exit_code,
        "seconds": round(outcome.run.seconds, 3),
        "invocations": outcome.run.invocations,
        "slices": len(outcome.told),
        "slices_published": sum(facts.publication is not None for facts in outcome.told),
        "version": version,
        "shard": outcome.run.shard.text,
        "table_versions": list(table_versions.items()),
        **outcome.counts,
    }


def slice_row(facts: SliceFacts) -> dict[str, Any]:
    """Return the row of a slice in etl_slices."""
    return {
        "slice_id": facts.slice.slice_id,
        "dataset": facts.slice.dataset,
        "account_id": facts.slice.account_id,
        "region": facts.slice.region,
        "parents": list(facts.slice.parents.items()),
        "filters": list(facts.slice.filters.items()),
        "is_filtered": bool(facts.slice.filters),
        "state": facts.state.value,
        "is_published": facts.publication is not None,
        "publication": facts.publication,
        "table_rows": list(facts.table_rows.items()),
        "is_dropped": False,
        "pages_sha256": facts.pages_sha256,
        "published_at": facts.published_at,
        "is_partial": facts.partial,
        "drift": list(facts.drift),
        **{name: getattr(facts, name) for name in ("attempt", *COUNTS, "observed_from", "observed_until", "error")},
    }


def page_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a page in etl_pages; `row` is the page in the ledger, without its body."""
    names = ("slice_id", "dataset", "attempt", "records", "kept", "size_bytes", "body_sha256", "request_id", "retries")
    token = row["next_starting_token"]
    return {
        "page_number": row["number"],
        "token_sha256": digest(token) if token else None,
        "received_at": dt.datetime.fromisoformat(row["received_at"]),
        **{name: row[name] for name in names},
    }
