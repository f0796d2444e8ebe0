"""Sections about the datasets that the report knows nothing else of, each with the same charts and tables.

Their SQL is generated here, and only here: the catalog tells which tables a dataset has. A change log or a table of
tags belongs to the dataset whose slices its rows have.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etl.names import OWN_COLUMNS
from etl.read.query import Catalog
from etl.read.report.contents import Chart, Section, Table
from etl.sqltext import literal, quoted

PAGE = "Datasets"
_HAVE_SECTIONS = {"studios", "streaming_sessions"}
_COLUMNS = """
select
    table_name,
    list(column_name order by ordinal_position) as names,
    list(data_type order by ordinal_position) as types
from information_schema.columns where table_schema = 'main' group by table_name
"""
_OWNERS = """
select name, any_value(dataset) as dataset from ({tables}) join snapshots using (slice_id) group by name
"""
_CHANGES = """
select
    snapshot_date,
    count(*) filter (where change = 'appeared') as appeared,
    count(*) filter (where change = 'changed') as changed,
    count(*) filter (where change = 'vanished') as vanished
from (select distinct snapshot_date from snapshots where dataset = {dataset})
join nights using (snapshot_date)
left join (from {log} where previous_date is not null) using (snapshot_date)
where nights_ago < 30
group by snapshot_date
order by snapshot_date
"""
_TAGS = """
select
    key as tag,
    count(*) as records,
    round(100 * count(*) / (select count(*) from {dataset}), 1) as coverage,
    count(distinct value) as different_values,
    count(*) over () as total
from {tags}
group by key
order by records desc, tag
limit 100
"""
_NEWEST = """
select snapshot_date, {columns}, count(*) over () as total
from {log}
where change = 'appeared' and previous_date is not null
order by snapshot_date desc, {columns}
limit 100
"""
_SHOWN_COLUMNS = 4
_FIRST = ("name", "id", "state", "status", "type")
"""How the columns end that say most about a record, the best first."""


def dataset_sections(
    catalog: Catalog, records: Sequence[dict[str, Any]]
) -> tuple[list[Section], dict[str, list[dict[str, Any]]]]:
    """Return the sections and their answers by question, for every dataset without a section of its own.

    `records` has the records of each dataset, night by night.
    """
    others = sorted({row["dataset"] for row in records} - _HAVE_SECTIONS)
    if not others:
        return [], {}
    columns = {row["table_name"]: row for row in catalog.ask(_COLUMNS).to_pylist()}
    logs = _by_dataset(catalog, columns, {"change", "previous_date", "slice_id"})
    tags = _by_dataset(catalog, columns, {"key", "value", "slice_id"})
    sections: list[Section] = []
    rows: dict[str, list[dict[str, Any]]] = {}
    for dataset in others:
        charts, tables = [_records_chart(dataset)], []
        rows[charts[0].question] = [row for row in records if row["dataset"] == dataset]
        if log := logs.get(dataset):
            charts.append(_changes_chart(dataset))
            changes = _CHANGES.format(dataset=literal(dataset), log=quoted(log))
            rows[charts[-1].question] = catalog.ask(changes).to_pylist()
            shown = _telling(columns[log]["names"], columns[log]["types"])
            tables.append(_newest_table(dataset, log, shown))
            newest = _NEWEST.format(log=quoted(log), columns=", ".join(map(quoted, shown)))
            rows[tables[-1].question] = catalog.ask(newest).to_pylist()
        if dataset in tags and dataset in columns:
            tables.append(_tags_table(dataset, tags[dataset]))
            coverage = _TAGS.format(dataset=quoted(dataset), tags=quoted(tags[dataset]))
            rows[tables[-1].question] = catalog.ask(coverage).to_pylist()
        sections.append(Section(PAGE, dataset, tuple(charts), tuple(tables)))
    return sections, rows


def _by_dataset(catalog: Catalog, columns: Mapping[str, Mapping[str, list[str]]], needed: set[str]) -> dict[str, str]:
    """Return dataset -> its table that has the needed columns. A table without rows belongs to nobody."""
    names = [name for name, row in columns.items() if needed <= {*row["names"]} and not name.endswith("_history")]
    if not names:
        return {}
    tables = " union all ".join(
        f"(select {literal(name)} as name, slice_id from {quoted(name)} limit 1)"  # noqa: S608  quoted
        for name in names
    )
    return {row["dataset"]: row["name"] for row in catalog.ask(_OWNERS.format(tables=tables)).to_pylist()}


def _telling(names: Sequence[str], types: Sequence[str]) -> list[str]:
    """Return the columns that say most about a record: names and ids first, then states, in the table's order."""

    def candidates() -> Iterator[tuple[int, str]]:
        about_changes = {"change", "changed_columns", "old_values", "previous_date"}
        for name, kind in zip(names, types, strict=True):
            if name in OWN_COLUMNS | about_changes or "(" in kind or kind.endswith("[]"):
                continue
            last = name.rpartition("_")[2]
            yield _FIRST.index(last) if last in _FIRST else len(_FIRST) + (kind != "VARCHAR" or last == "arn"), name

    best = [name for _, name in sorted(candidates(), key=lambda pair: pair[0])][:_SHOWN_COLUMNS]
    return [name for name in names if name in best]


def _records_chart(dataset: str) -> Chart:
    return Chart(
        name=f"{dataset}-records",
        title="Records",
        unit="records",
        question=f"{dataset}: records",
        kind="dates",
        over="snapshot_date",
        values={"records": ""},
    )


def _changes_chart(dataset: str) -> Chart:
    return Chart(
        name=f"{dataset}-changes",
        title="Changes by night",
        unit="records",
        question=f"{dataset}: changes",
        kind="dates",
        over="snapshot_date",
        values={"appeared": "appeared", "changed": "changed", "vanished": "vanished"},
        colours=(2, 0, 4),
    )


def _newest_table(dataset: str, log: str, shown: Sequence[str]) -> Table:
    headings = {name: name.replace("_", " ").capitalize() for name in shown}
    return Table(
        title="Newest records",
        question=f"{dataset}: newest",
        columns={"snapshot_date": "Night", **headings},
        nothing="No record has appeared since the first snapshot.",
        more=f"nimble-etl sql \"from {log} where change = 'appeared'\"",
        date="snapshot_date",
    )


def _tags_table(dataset: str, tags: str) -> Table:
    headings = {"tag": "Tag", "records": "Records", "coverage": "% of all", "different_values": "Different values"}
    return Table(
        title="Tag coverage",
        question=f"{dataset}: tags",
        columns=headings,
        nothing="No record has a tag.",
        more=f'nimble-etl sql "from {tags}"',
    )
