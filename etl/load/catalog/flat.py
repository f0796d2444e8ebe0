"""Flat views for BI tools, in the schema `bi`: no nested types, names beside ids, and columns that stay.

A dataset gets `bi.sessions` (newest complete snapshots), `bi.sessions_history`, `bi.sessions_versions`,
`bi.sessions_changes`, and one view for each table of entries, such as `bi.sessions_tags`. MAP, STRUCT and LIST columns
become text. Each instant has two columns: a TIMESTAMPTZ, and a TIMESTAMP in UTC for tools that would shift the first.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import duckdb

from etl.load.catalog.relations import CatalogColumn, columns, comment_on
from etl.model import Dataset, tag_column
from etl.sqltext import literal, quoted

SCHEMA = "bi"
_TAGS = "tags"

_Flat = tuple[str, str, str]
"""A column of a flat view: name, expression, comment."""


def add_flat_views(
    connection: duckdb.DuckDBPyConnection, datasets: Mapping[str, Dataset], pinned_tags: Sequence[str]
) -> None:
    """Add the flat views of every dataset in the catalog.

    Args:
        connection: connection to the catalog, which must have its tables and views.
        datasets: dataset definitions by name.
        pinned_tags: keys of `tags` that get a column of their own, in this order.
    """
    connection.execute(f"create schema {SCHEMA}")
    listed = {table: those for (schema, table), those in columns(connection).items() if schema == "main"}
    there = listed.keys()
    labelled = {name: dataset for name, dataset in datasets.items() if dataset.label and name in there}
    for name, dataset in datasets.items():
        flat_name = dataset.bi_name or name
        entries = {f"{dataset.item_name}_": f"{flat_name}_", f"{name}_": f"{flat_name}_", name: flat_name}
        for relation in sorted(_relations(dataset, there)):
            prefix = next(start for start in entries if relation.startswith(start))
            _add_flat_view(
                connection,
                listed[relation],
                entries[prefix] + relation.removeprefix(prefix),
                {other: known for other, known in labelled.items() if other != name},
                pinned_tags,
            )


def _relations(dataset: Dataset, there: Collection[str]) -> set[str]:
    """Return the tables and views of a dataset, those of its entries included."""
    own = {dataset.name, f"{dataset.name}_history", f"{dataset.name}_versions", f"{dataset.item_name}_changes"}
    return own.intersection(there) | {
        name for name in there if name.startswith(f"{dataset.item_name}_") and f"{name}_history" in there
    }


def _add_flat_view(
    connection: duckdb.DuckDBPyConnection,
    source: Sequence[CatalogColumn],
    flat_name: str,
    labelled: Mapping[str, Dataset],
    pinned_tags: Sequence[str],
) -> None:
    there = {column.name for column in source}
    flat: list[_Flat] = []
    joins = []
    for column in source:
        flat += _flat_columns(column)
        for other, dataset in labelled.items():
            name = f"{column.name.removesuffix('_id')}_name"
            if (column.name,) == dataset.key and name not in there:
                alias = quoted(f"of {other}")
                flat.append((name, f"{alias}.label", f"{dataset.label} of it in {other} now"))
                joins.append(_join(alias, other, dataset, there))
    if _TAGS in there:
        flat += [
            (tag_column(tag), f"flat.{_TAGS}[{literal(tag)}]", f"value of the tag {tag}; null without it")
            for tag in pinned_tags
        ]
    selected = ", ".join(f"{expression} as {quoted(name)}" for name, expression, _ in flat)
    view, relation = f"{SCHEMA}.{quoted(flat_name)}", quoted(source[0].table)
    connection.execute(f"create view {view} as select {selected} from main.{relation} as flat {' '.join(joins)}")  # noqa: S608
    comment_on(connection, view, {name: meaning for name, _, meaning in flat})


def _flat_columns(column: CatalogColumn) -> Iterator[_Flat]:
    name, value, meaning = column.name, f"flat.{quoted(column.name)}", column.comment
    if column.type == "VARCHAR[]":
        yield name, f"array_to_string({value}, ', ')", f"{meaning}; separated by commas"
    elif column.type.endswith("]") or column.type.startswith(("MAP", "STRUCT")):
        yield name, f"to_json({value})::varchar", f"{meaning}; as JSON text"
    else:
        yield name, value, meaning
    if column.type == "TIMESTAMP WITH TIME ZONE":
        yield f"{name}_utc", f"{value} at time zone 'UTC'", f"{meaning}; in UTC, without a time zone"


def _join(alias: str, other: str, dataset: Dataset, there: Collection[str]) -> str:
    """Return the join that finds a record's label in the same account and Region, under the same parents."""
    parents = dataset.slice_columns.values()
    shared = [name for name in ("account_id", "region", *parents, *dataset.key) if name in there]
    using = " and ".join(f"{alias}.{quoted(name)} = flat.{quoted(name)}" for name in shared)
    listed = ", ".join(map(quoted, shared))
    label = quoted(dataset.label or "")
    return (
        f"left join (select {listed}, any_value({label}) as label from main.{quoted(other)} group by {listed})"  # noqa: S608
        f" as {alias} on {using}"
    )
