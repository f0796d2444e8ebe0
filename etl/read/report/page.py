"""The page: one HTML file, to be read in a mail, on a telephone and on paper, without a network or a script.

Whatever stands in the tables may have been written by anybody. All of it is escaped, and the page forbids itself
every request.
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
    """Return the report as HTML; `made_at` is now, `version` that of nimble-etl."""
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
    """Return some numbers that stand above all, by their names."""
    found: dict[str, Any] = {"Records": rows["nights"][-1]["records"]}
    for now in rows.get("current_sessions", ()):
        found |= {name.capitalize(): now[name] for name in ("sessions", "running", "owners")}
        found["Storage"] = f"{now['volume_gib'] / 1024:,.1f} TiB"
    for question, name in (("idle_sessions", "Idle for 12 hours"), ("ending_sessions", "Ending within 24 hours")):
        if question in rows:
            found[name] = _total(rows[question])
    return found


def _kinds(table: Table, row: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the classes of columns by what one row has there, None for text: neither numbers nor dates are broken."""
    classes = {int: "number", float: "number", dt.date: "date", dt.datetime: "date"}
    return {column: classes.get(type(row[column])) for column in table.columns}


def _total(rows: Rows) -> int:
    """Return how many rows there are in all, of which the answer may have the first ones only."""
    return int(rows[0].get("total", len(rows))) if rows else 0


def _text(value: Any) -> Any:
    """Return a value as the page shows it, before it is escaped; markup stays."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, int | float):
        return f"{value:,}"
    return value if isinstance(value, Markup) else charts.plain(value)
