"""What the facts say was published for some dates, summed up by DuckDB: Python would hold every row of every night."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import duckdb
import pyarrow as pa

from etl.errors import WarehouseError
from etl.load.delta.tables import Tables
from etl.load.snapshots import slices_of

_AT_ONCE = 100_000
"""Rows of etl_slices that are summed up together. More would need more memory, fewer would need more queries."""
_NEWEST = """
create or replace temp table published as
select * replace (coalesce(table_rows, map {}) as table_rows, coalesce(records, 0) as records)
from facts
where is_published
qualify row_number() over (
    partition by snapshot_date, slice_id order by coalesce(publication, 0) desc, published_at desc
) = 1
"""
_DATES = """
select snapshot_date, coalesce(bool_or(is_dropped), false), bool_and(cardinality(table_rows) > 0 or records = 0)
from published
group by all
"""
_ROWS = """
select snapshot_date, entry.key, sum(entry.value)::bigint
from (
    select snapshot_date, unnest(map_entries(table_rows)) as entry from published where cardinality(table_rows) > 0
    union all
    select snapshot_date, {'key': dataset, 'value': rows} from published where cardinality(table_rows) = 0
    union all
    select snapshot_date, {'key': 'etl_rejects', 'value': rejects} from published where cardinality(table_rows) = 0
)
group by all
"""
_FIRST = """
select dataset, min(snapshot_date)
from published
where state = 'complete' and not is_partial and not is_filtered and rows > 0
group by all
order by all
"""
_SLICES = "select slice_id, run_id, coalesce(publication, 0), pages_sha256 from published where snapshot_date = ?"

Slices = Mapping[str, tuple[str, int, str | None]]
"""Slice id -> run id, number of the publication, digest of the pages, of the newest publication."""


@dataclass(frozen=True, slots=True)
class Published:
    """What is published for a date.

    Attributes:
        is_empty: nothing is.
        is_dropped: `vacuum` has removed rows of the date.
        is_counted: the facts say how many rows each table got; those of a former version do not.
        rows: of each table, as far as the facts say it.
        slices: returns the slices. Only until the next dates are asked for.
    """

    is_empty: bool
    is_dropped: bool
    is_counted: bool
    rows: Mapping[str, int]
    slices: Callable[[], Slices]


@dataclass(frozen=True, slots=True)
class Dates:
    """What is published for some dates. `first` has the first of them with rows of each dataset, complete ones."""

    by_date: Mapping[dt.date, Published]
    first: Mapping[str, dt.date]


def published(tables: Tables, dates: Iterable[dt.date]) -> Iterator[Dates]:
    """Yield what is published, in the order of the dates, some at a time. Those that cannot be read are left out."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for some in _read(tables, dates):
            connection.register("facts", pa.concat_tables(some.values()))
            connection.execute(_NEWEST)
            connection.unregister("facts")
            rows: dict[dt.date, dict[str, int]] = {date: {} for date in some}
            for date, table, count in connection.execute(_ROWS).fetchall():
                rows[date][table] = count or 0
            told = {date: rest for date, *rest in connection.execute(_DATES).fetchall()}
            by_date = {}
            for date in some:
                is_dropped, is_counted = told.get(date, (False, True))
                slices = partial(_slices, connection, date)
                by_date[date] = Published(date not in told, is_dropped, is_counted, rows[date], slices)
            yield Dates(by_date, dict(connection.execute(_FIRST).fetchall()))


def _read(tables: Tables, dates: Iterable[dt.date]) -> Iterator[dict[dt.date, pa.Table]]:
    """Yield the facts about the slices of some dates, until there are many of them."""
    some: dict[dt.date, pa.Table] = {}
    for date in dates:
        with suppress(WarehouseError):
            some[date] = slices_of(tables, date)
        if sum(found.num_rows for found in some.values()) >= _AT_ONCE:
            yield some
            some = {}
    if some:
        yield some


def _slices(connection: duckdb.DuckDBPyConnection, date: dt.date) -> Slices:
    return {slice_id: (*rest,) for slice_id, *rest in connection.execute(_SLICES, [date]).fetchall()}
