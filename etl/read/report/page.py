"""The report's HTML page. It reads well in a mail, on a telephone and on paper, and needs no network.

It shows everything without its script, because many programs that open mail attachments run none. The script filters
and sorts what is there. Anybody may have written the values in the tables. Therefore every value is escaped, and the
page's content security policy forbids all requests, and every script but this one.
"""

import base64
import datetime as dt
import hashlib
from collections.abc import Mapping
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from etl.read.report import charts
from etl.read.report.contents import Answers, Chart, Rows, Section, Table
from etl.read.report.figures import FIGURES, key_figures
from etl.read.report.stacks import cube, plain, stack

SHOWN_ROWS = 15
"""A table shows so many rows; the page has more of them, which the script finds and shows."""
_SHORT = 24
"""A column of texts is short if none has more characters."""
_HERE = Path(__file__).parent


def render(answers: Answers, made_at: dt.datetime, version: str) -> str:
    """Return the report as HTML; its last line gives the time and the version of nimble-etl."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, finalize=_text, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"digest": _digest, "kinds": _kinds, "studio": _studio, "total": _total, "value": _value}
    answered = [chart for section in answers.sections for chart in section.charts if answers.rows.get(chart.question)]
    drawings = {chart.name: charts.draw(chart, answers.rows[chart.question]) for chart in answered}
    figures = key_figures(answers.rows)
    left_out = _left_out(answers)
    return environment.get_template("page.html").render(
        answers=answers,
        data={
            "charts": {
                chart.name: _data(chart, answers.rows[chart.question], drawings[chart.name]) for chart in answered
            },
            "figures": [figure.as_json() for figure in figures],
            "owners": answers.owners,
            "studios": _studios(answers.rows),
        },
        drawings=drawings,
        figures=figures,
        lacking=sorted({name for _, question in left_out for name in answers.missing[question]}),
        left_out=[title for title, _ in left_out],
        made_at=made_at,
        owners=answers.owners,
        pages=_pages(answers),
        script=(_HERE / "page.js").read_text(encoding="utf-8"),
        shown_rows=SHOWN_ROWS,
        version=version,
    )


def _pages(answers: Answers) -> list[tuple[str, list[Section]]]:
    """Return each page with its sections that show something."""
    shown = [section for section in answers.sections if any(part.question in answers.rows for part in section.parts)]
    return [(page, list(found)) for page, found in groupby(shown, lambda section: section.page)]


def _left_out(answers: Answers) -> list[tuple[str, str]]:
    """Return the title and the question of what is not shown, because its question was not asked."""
    parts = [(part.title, part.question) for section in answers.sections for part in section.parts]
    figures = [(title, question) for question, titles in FIGURES.items() for title in titles]
    return [(title, question) for title, question in figures + parts if question not in answers.rows]


def _data(chart: Chart, rows: Rows, drawing: charts.Drawing) -> dict[str, Any]:
    """Return what the script needs to reshape a chart."""
    legend = charts.short_names(stack(chart, rows).series)
    return {**cube(chart, rows), "axis": drawing.axis, "legend": legend}


def _studios(rows: Mapping[str, Rows]) -> list[str]:
    """Return the studios that can be chosen: those of the key figures and of the charts."""
    return sorted({plain(row["studio_id"]) for found in rows.values() for row in found if row.get("studio_id")})


def _studio(row: Mapping[str, Any]) -> str | None:
    """Return the label of a row's studio, by which the script finds it."""
    return plain(row["studio_id"]) if row.get("studio_id") else None


def _kinds(table: Table, rows: Rows) -> dict[str, str]:
    """Return a CSS class for each column, judged by its values. Numbers, dates and short texts are not wrapped."""
    classes = {int: "number", float: "number", Decimal: "number", dt.date: "date", dt.datetime: "date"}
    first = {column: next((row[column] for row in rows if row[column] is not None), "") for column in table.columns}
    longest = {column: max(len(plain(row[column])) for row in rows) for column in table.columns}
    texts = {column: "short" if length <= _SHORT else "text" for column, length in longest.items()}
    return {column: classes.get(type(value), texts[column]) for column, value in first.items()}


def _total(rows: Rows) -> int:
    """Return how many rows exist; the answer may hold only the first of them."""
    return int(rows[0].get("total", len(rows))) if rows else 0


def _value(value: Any) -> str | None:
    """Return what a number is sorted by, as the script reads it. Everything else is sorted as it is shown."""
    return str(value) if isinstance(value, int | float | Decimal) else None


def _digest(script: str) -> Markup:
    """Return what the content security policy calls a script."""
    found = hashlib.sha256(script.encode()).digest()
    return Markup(f"sha256-{base64.b64encode(found).decode()}")  # noqa: S704  base64


def _text(value: Any) -> Any:
    """Return a value as the page shows it, not yet escaped. Markup stays unchanged."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, int | float | Decimal):
        return f"{value:,}"
    return value if isinstance(value, Markup) else plain(value)
