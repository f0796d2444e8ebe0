"""The page: one HTML file, to be read in a mail, on a telephone and on paper, without a network or a script.

Whatever stands in the tables may have been written by anybody. All of it is escaped, and the page forbids itself
every request.
"""

import datetime as dt
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from etl.read.report import charts
from etl.read.report.contents import SECTIONS, Answers, Chart, Rows, Section, Table


def render(answers: Answers, made_at: dt.datetime, version: str) -> str:
    """Return the report as HTML; `made_at` is now, `version` that of nimble-etl."""
    return Template(files("etl.read.report").joinpath("page.html").read_text(encoding="utf-8")).substitute(
        date=_text(answers.rows["nights"][-1]["snapshot_date"]),
        made_at=_text(made_at),
        version=escape(version),
        facts="".join(f"<div><dt>{name}</dt><dd>{fact}</dd></div>" for name, fact in _facts(answers.rows).items()),
        sections="\n".join(_section(section, answers) for section in SECTIONS),
    )


def _facts(rows: Mapping[str, Rows]) -> dict[str, str]:
    """Return what stands above all: some numbers, as HTML, by their names."""
    last_night = rows["nights"][-1]
    found = {
        "Last night": "published" if last_night["exit_code"] == 0 else "<em>not all is well</em>",
        "Records": _text(last_night["records"]),
    }
    for now in rows.get("current_sessions", ()):
        found |= {
            "Sessions": _text(now["sessions"]),
            "Running": _text(now["running"]),
            "Owners": _text(now["owners"]),
            "Storage": f"{now['volume_gib'] / 1024:,.1f} TiB",
        }
    for question, name in (("idle_sessions", "Idle for 12 hours"), ("ending_sessions", "Ending within 24 hours")):
        if question in rows:
            found[name] = _text(_total(rows[question]))
    return found


def _section(section: Section, answers: Answers) -> str:
    drawn = "".join(
        _chart(chart, answers.rows[chart.question]) for chart in section.charts if _is_there(chart, answers)
    )
    body = f'<div class="charts">{drawn}</div>' if drawn else ""
    body += "".join(
        _table(table, answers.rows[table.question]) for table in section.tables if _is_there(table, answers)
    )
    if left_out := [part for part in section.parts if not _is_there(part, answers)]:
        missing = ", ".join(sorted({name for part in left_out for name in answers.missing[part.question]}))
        titles = ", ".join(part.title for part in left_out)
        body += f"<p>Left out, because the catalog has no {escape(missing)}: {escape(titles)}.</p>"
    return f"<section><h2>{escape(section.title)}</h2>{body}</section>"


def _is_there(part: Chart | Table, answers: Answers) -> bool:
    return part.question in answers.rows


def _chart(chart: Chart, rows: Rows) -> str:
    drawing = charts.as_svg(chart, rows) if rows else "<p>Nothing to show yet.</p>"
    caption = f"<figcaption>{escape(chart.title)} <small>{escape(chart.unit)}</small></figcaption>"
    return f'<figure class="chart" id="{chart.name}">{caption}{drawing}</figure>'


def _table(table: Table, rows: Rows) -> str:
    title = f"<h3>{escape(table.title)}</h3>"
    if not rows:
        return f"{title}<p>{escape(table.nothing)}</p>"
    kinds = {column: _kind(rows[0][column]) for column in table.columns}
    head = "".join(f"<th{kinds[column]}>{escape(name)}</th>" for column, name in table.columns.items())
    body = "".join(f"<tr>{_cells(table, kinds, row)}</tr>" for row in rows)
    hidden = _total(rows) - len(rows) if "total" in rows[0] else 0
    rest = f"<p>… and {hidden:,} more: <code>{escape(table.more)}</code></p>" if hidden else ""
    # Where there is one column of text, the columns fit beside each other on a telephone; else a row becomes a card.
    layout = ' class="cards"' if list(kinds.values()).count("") > 1 else ""
    return f"{title}<table{layout}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def _cells(table: Table, kinds: Mapping[str, str], row: Mapping[str, Any]) -> str:
    return "".join(
        f'<td{kinds[column]} data-name="{escape(name)}">{_text(row[column])}</td>'
        for column, name in table.columns.items()
    )


def _kind(value: Any) -> str:
    """Return the attribute of cells: numbers stand at the right, and neither they nor dates are broken."""
    if isinstance(value, int | float):
        return ' class="number"'
    return ' class="date"' if isinstance(value, dt.date) else ""


def _total(rows: Rows) -> int:
    return int(rows[0]["total"]) if rows else 0


def _text(value: Any) -> str:
    """Return a value as HTML."""
    if value is None:
        return "&ndash;"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, int | float):
        return f"{value:,}"
    return escape(charts.plain(value))
