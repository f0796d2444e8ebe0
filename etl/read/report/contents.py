"""What the report shows: the sections of contents.toml. Their charts and tables answer the files of sql/report."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Literal

import msgspec

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture.

    Attributes:
        name: names its file and its element on the page; unique.
        title: what it shows.
        unit: unit of the values.
        question: the file of sql/report that answers it.
        kind: `dates` draws bars over dates. `ranks` draws one bar for each row of the answer, the first row on top.
        over: column of the dates, or of the names of the bars.
        values: columns of numbers and their labels, stacked in this order.
        by: if there is one column of numbers, the column that splits it into a stack; parts in the answer's order.
        colours: indexes into the palette, in the order of the stack.
        ordered: whether the bars of `ranks` have an order of their own, such as spans of time; otherwise they stand in
            the order of their length.
        per: a column whose values are units: there is a chart for each of them, because they do not add up.
    """

    name: str
    title: str
    unit: str
    question: str
    kind: Literal["dates", "ranks"]
    over: str
    values: Mapping[str, str]
    by: str | None = None
    colours: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    ordered: bool = False
    per: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows to read.

    Attributes:
        title: what it shows.
        question: the file of sql/report that answers it. Its column `total`, if any, counts the rows before its limit.
        columns: columns and their headings, in order.
        date: column of the date that the page's filter for dates goes by, if any.
        nothing: the sentence that stands for an answer without rows.
        more: the command that prints all rows.
    """

    title: str
    question: str
    columns: Mapping[str, str]
    nothing: str
    more: str
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Charts and tables on one subject.

    Attributes:
        page: the part of the report that it stands in.
        title: its heading.
        charts: charts, which stand first.
        tables: tables, which follow.
    """

    page: str
    title: str
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()

    @property
    def parts(self) -> tuple[Chart | Table, ...]:
        """Return the charts, then the tables."""
        return (*self.charts, *self.tables)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the catalog answers.

    Attributes:
        rows: by question.
        missing: tables that a question reads and the catalog lacks; such a question is not asked.
        sections: what is shown of the answers.
        owners: name of an owner as it is shown -> id.
    """

    rows: Mapping[str, Rows]
    missing: Mapping[str, frozenset[str]]
    sections: tuple[Section, ...]
    owners: Mapping[str, str]


_TEXT = (resources.files("etl.read.report") / "contents.toml").read_text(encoding="utf-8")
SECTIONS = msgspec.convert(tomllib.loads(_TEXT)["sections"], tuple[Section, ...])


def split(sections: Iterable[Section], rows: dict[str, list[dict[str, Any]]]) -> list[Section]:
    """Return the sections with a chart for each unit where a chart has `per`. The rows of each are added to `rows`."""

    def charts(chart: Chart) -> Iterator[Chart]:
        if chart.per is None or chart.question not in rows:
            yield chart
            return
        for unit in sorted({row[chart.per] for row in rows[chart.question]} - {None}):
            question = f"{chart.question}: {unit}"
            rows[question] = [row for row in rows[chart.question] if row[chart.per] == unit]
            yield replace(chart, name=f"{chart.name}-{unit}", unit=unit, question=question)

    return [
        replace(section, charts=tuple(one for chart in section.charts for one in charts(chart))) for section in sections
    ]
