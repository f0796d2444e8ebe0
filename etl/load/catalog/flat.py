"""Flat views for BI tools, in the schema `bi`: no nested types, names beside ids, and columns that stay.

A dataset gets `bi.sessions` (newest complete snapshots), `bi.sessions_history`, `bi.sessions_versions`,
`bi.sessions_changes`, and one view for each table of entries, such as `bi.sessions_tags`. MAP, STRUCT and LIST columns
become text. Each instant has two columns: a TIMESTAMPTZ, and a TIMESTAMP in UTC for tools that would shift the first.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import duckdb

from etl.load.catalog.relations import CatalogColumn, columns, comment_on
from etl.model import Dataset
from etl.names import tag_column
from etl.sqltext import literal, quoted

SCHEMA = "bi"
_TAGS = ("tags", "tag_list", "tag_set")
"""Columns that hold tags."""
_TAG_LIST = re.compile(r'STRUCT\("?((?:tag_?)?key)"? VARCHAR, "?((?:tag_?)?value)"? VARCHAR\)\[\]', re.IGNORECASE)
"""The type of tags that a service sends as a list of keys and values."""

_Flat = tuple[str, str, str]
"""A column of a flat view: name, expression, comment."""


def add_flat_views(
    connection: duckdb.DuckDBPyConnection, datasets: Mapping[str, Dataset], pinned_tags: Sequence[str]
) -> None:
    """Add the flat views of these datasets to a catalog that has its tables and views.

    `pinned_tags` are the keys of `tags` that get a column of their own, in this order.
    """
    connection.execute(f"create schema {SCHEMA}")
    listed = {table: those for (schema, table), those in columns(connection).items() if schema == "main"}
    labelled = {name: dataset for name, dataset in datasets.items() if dataset.label and name in listed}
    for name, dataset in datasets.items():
        others = {other: known for other, known in labelled.items() if other != name}
        for relation, flat_name in _flat_names(dataset, listed).items():
            _add_flat_view(connection, listed[relation], flat_name, others, pinned_tags)


def _flat_names(dataset: Dataset, there: Mapping[str, Sequence[CatalogColumn]]) -> dict[str, str]:
    """Return table or view -> flat view, for those of a dataset and of the entries of its records.

    Entries are those of one of its columns: what else begins with the same words belongs to another dataset.
    """
    flat_name, prefix = dataset.bi_name or dataset.name, f"{dataset.item_name}_"
    columns = [column.name for column in there.get(dataset.name, ())]
    entries = [name for name in columns if f"{prefix}{name}_history" in there]
    found = {f"{prefix}{name}": f"{flat_name}_{name}" for name in (*entries, "changes")}
    found |= {f"{dataset.name}{end}": f"{flat_name}{end}" for end in ("", "_history", "_versions")}
    return {name: found[name] for name in sorted(found) if name in there}


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
    tagged = next((column for name in _TAGS for column in source if column.name == name), None)
    flat += [
        (tag_column(tag), value, f"value of the tag {tag}; null without it")
        for tag in pinned_tags
        if tagged and (value := _tag_value(tagged, tag)) and tag_column(tag) not in there
    ]
    selected = ", ".join(f"{expression} as {quoted(name)}" for name, expression, _ in flat)
    view, relation = f"{SCHEMA}.{quoted(flat_name)}", quoted(source[0].table)
    connection.execute(f"create view {view} as select {selected} from main.{relation} as flat {' '.join(joins)}")  # noqa: S608
    comment_on(connection, view, {name: meaning for name, _, meaning in flat})


def _tag_value(column: CatalogColumn, tag: str) -> str | None:
    """Return the expression for the value of a tag, by the type of the column of tags; None if that holds none."""
    tags = f"flat.{quoted(column.name)}"
    if column.type.startswith("MAP("):
        return f"{tags}[{literal(tag)}]"
    if not (found := _TAG_LIST.fullmatch(column.type)):
        return None
    # A service may send a key twice, which no map can have. Old versions of DuckDB do not know today's lambdas.
    names, values = (f"json_extract_string(to_json({tags}), '$[*].{member}')" for member in found.groups())
    return f"{values}[list_position({names}, {literal(tag)})]"


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


def _join(alias: str, other: str, dataset: Dataset, there: set[str]) -> str:
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
