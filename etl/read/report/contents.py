"""What the report shows: the sections of contents.toml. Their charts and tables answer the files of sql/report."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Table:
    """Rows to read.

    Attributes:
        title: what it shows.
        question: the file of sql/report that answers it. Its column `total`, if any, counts the rows before its limit.
        columns: columns and their headings, in order.
        nothing: the sentence that stands for an answer without rows.
        more: the command that prints all rows.
    """

    title: str
    question: str
    columns: Mapping[str, str]
    nothing: str
    more: str


@dataclass(frozen=True, slots=True)
class Section:
    """Charts and tables on one subject."""

    title: str
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...] = ()

    @property
    def parts(self) -> tuple[Chart | Table, ...]:
        """Return the charts, then the tables."""
        return (*self.charts, *self.tables)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the catalog answers: `rows` by question. A question that reads `missing` tables is not asked."""

    rows: Mapping[str, Rows]
    missing: Mapping[str, frozenset[str]]

    def lacking(self, parts: Iterable[Chart | Table]) -> list[str]:
        """Return the missing tables that these parts need, sorted."""
        return sorted({name for part in parts for name in self.missing[part.question]})


_TEXT = (resources.files("etl.read.report") / "contents.toml").read_text(encoding="utf-8")
SECTIONS = msgspec.convert(tomllib.loads(_TEXT)["sections"], tuple[Section, ...])
