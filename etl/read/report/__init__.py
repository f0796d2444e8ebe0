"""The report on the last nights and the studios, as one HTML file or as pictures.

All numbers are answers of the catalog to the files of sql/report. The report leaves out charts and tables that the
catalog has no tables for, and says so.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etl.errors import WarehouseError
from etl.model import CATALOG_NAME
from etl.read.owners import read_names
from etl.read.query import bind, open_catalog
from etl.read.report import charts, page
from etl.read.report.contents import SECTIONS, Answers, Rows, split
from etl.read.report.datasets import dataset_sections
from etl.sqlfiles import sql_files
from etl.storage.disk import storage_errors
from etl.storage.store import Store
from etl.version import VERSION

_RELATIONS = "select table_name from information_schema.tables where table_schema = 'main'"
_NAMES = "select account_id, region, studio_id, studio_name from studio_names"
_PLACE = ("account_id", "region")


def write_report(store: Store, output: Path, names: Path | None = None, made_at: dt.datetime | None = None) -> None:
    """Write the report as one self-contained HTML file.

    Args:
        store: the warehouse.
        output: the file.
        names: a CSV file with names of owners; None: owners are shown by their ids.
        made_at: the time that the page says it was made at; None: now.

    Raises:
        ConfigError: the file of names is missing or wrong.
        WarehouseError: nothing is published yet.
        StorageError: the file cannot be written.
    """
    answers = _ask(store, names)
    text = page.render(answers, made_at or dt.datetime.now(dt.UTC), VERSION)
    with storage_errors(output):
        output.write_text(text, encoding="utf-8")


def write_pictures(store: Store, directory: Path, names: Path | None = None) -> list[Path]:
    """Write each chart that has rows as a PNG file, and return the paths. `names` is as for `write_report`.

    Raises:
        ConfigError: the file of names is missing or wrong.
        WarehouseError: nothing is published yet.
        StorageError: a file cannot be written.
    """
    answers = _ask(store, names)
    rows = answers.rows
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        written = []
        for chart in (chart for section in answers.sections for chart in section.charts if rows.get(chart.question)):
            written.append(directory / f"{chart.name}.png")
            charts.save_png(chart, rows[chart.question], written[-1])
    return written


def _ask(store: Store, names: Path | None = None) -> Answers:
    """Return the answers to all questions, all from the same night. Studios and owners have labels instead of ids."""
    owners = read_names(names) if names else {}
    questions = sql_files("report")
    with open_catalog(store) as opened:
        there = set(opened.ask(_RELATIONS).column(0).to_pylist())
        studios = opened.ask(_NAMES).to_pylist() if "studio_names" in there else []
        missing = {name: frozenset(file.reads) - there for name, file in questions.items()}
        rows = {
            name: opened.ask(file.text, bind(file, {})).to_pylist()
            for name, file in questions.items()
            if not missing[name]
        }
        others, of_others = dataset_sections(opened, rows.get("dataset_records", ()))
    if not rows.get("nights"):
        catalog = store.at(CATALOG_NAME)
        raise WarehouseError(f"{catalog}: no night is published yet; `nimble-etl run` publishes the first")
    every = rows | of_others
    _label([row for found in rows.values() for row in found if "studio_id" in row], studios)
    shown = _name_owners((row for found in every.values() for row in found if "owned_by" in row), owners)
    return Answers(every, missing, (*split(SECTIONS, every), *others), shown)


def _name_owners(rows: Iterable[dict[str, Any]], names: Mapping[str, str]) -> dict[str, str]:
    """Put names of owners in place of their ids; return the names that are used, each with its id."""
    used = {}
    for row in rows:
        if name := names.get(row["owned_by"]):
            used[name] = row["owned_by"]
            row["owned_by"] = name
    return used


def _label(rows: Sequence[dict[str, Any]], names: Rows) -> None:
    """Put the label of each row's studio instead of its id: its name, after account and Region if there are several.

    A row about several studios has no account and no Region.
    """
    several = [part for part in _PLACE if len({row[part] for row in (*names, *rows)} - {None}) > 1]
    known = {(row["account_id"], row["region"], row["studio_id"]): row["studio_name"] for row in names}
    for row in rows:
        name = known.get((row["account_id"], row["region"], row["studio_id"]), row["studio_id"])
        row["studio_id"] = ", ".join([*(row[part] for part in several if row[part]), name])
