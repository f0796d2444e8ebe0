"""The report's HTML page. It reads well in a mail, on a telephone and on paper, and needs no network and no script.

Anybody may have written the values in the tables. Therefore every value is escaped, and the page's content security
policy forbids all requests.
"""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from etl.read.report import charts
from etl.read.report.contents import SECTIONS, Answers, Rows, Table


def render(answers: Answers, made_at: dt.datetime, version: str) -> str:
    """Return the report as HTML; its last line gives the time and the version of nimble-etl."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_text,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"kinds": _kinds, "svg": charts.as_svg, "total": _total}
    return environment.get_template("page.html").render(
        answers=answers, facts=_facts(answers.rows), made_at=made_at, sections=SECTIONS, version=version
    )


def _facts(rows: Mapping[str, Rows]) -> dict[str, Any]:
    """Return the key figures for the top of the page, by name."""
    found: dict[str, Any] = {"Records": rows["nights"][-1]["records"]}
    for now in rows.get("current_sessions", ()):
        found |= {name.capitalize(): now[name] for name in ("sessions", "running", "owners")}
        found["Storage"] = f"{now['volume_gib'] / 1024:,.1f} TiB"
    for question, name in (("idle_sessions", "Idle for 12 hours"), ("ending_sessions", "Ending within 24 hours")):
        if question in rows:
            found[name] = _total(rows[question])
    return found


def _kinds(table: Table, row: Mapping[str, Any]) -> dict[str, str | None]:
    """Return a CSS class for each column, judged by one row; None for text. Numbers and dates are never wrapped."""
    classes = {int: "number", float: "number", dt.date: "date", dt.datetime: "date"}
    return {column: classes.get(type(row[column])) for column in table.columns}


def _total(rows: Rows) -> int:
    """Return how many rows exist; the answer may hold only the first of them."""
    return int(rows[0].get("total", len(rows))) if rows else 0


def _text(value: Any) -> Any:
    """Return a value as the page shows it, not yet escaped. Markup stays unchanged."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, int | float):
        return f"{value:,}"
    return value if isinstance(value, Markup) else charts.plain(value)
