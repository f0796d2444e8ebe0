"""Commands that ask the catalog: sql, query, report, describe, check."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.options import CONFIG, Config, Form, Json, settings_of
from etl.cli.output import FINDINGS, Facts, Format, Output, write_markdown, write_table
from etl.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa


class ReportFormat(StrEnum):
    """How the report is written."""

    HTML = "html"
    PNG = "png"


def sql_command(
    statement: Annotated[str, typer.Argument(help="One SQL query; - reads it from standard input.")],
    config: Config = CONFIG,
    form: Form = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Ask the catalog, read-only."""
    from etl.read.query import ask  # noqa: PLC0415

    text = sys.stdin.read() if statement == "-" else statement
    _answer(ask(settings_of(config).warehouse.catalog, text), form, as_json=as_json)


def query_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="A query of sql/queries; its parameters follow as --name value.")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the queries.")] = False,
    config: Config = CONFIG,
    form: Form = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Ask a named question: `nimble-etl query idle_sessions --hours 24`."""
    from etl.read.query import ask, bind, named_query  # noqa: PLC0415
    from etl.sqlfiles import sql_files  # noqa: PLC0415

    if list_all or name is None:
        rows = [
            {
                "query": file.name,
                "question": file.headers.get("Question", ""),
                "parameters": " ".join(f"--{p.name.replace('_', '-')} {p.default}" for p in file.parameters),
            }
            for file in sql_files("queries").values()
        ]
        Output(as_json=as_json).show(Facts("queries", rows))
        return
    query = named_query(name)
    values = bind(query, _named_arguments(context.args))
    _answer(ask(settings_of(config).warehouse.catalog, query.text, values), form, as_json=as_json)


def report_command(
    config: Config = CONFIG,
    output: Annotated[
        Path | None, typer.Option(help="File of the page, or directory of the pictures; default report.html or report.")
    ] = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="One page, or a picture of each chart.")] = (
        ReportFormat.HTML
    ),
) -> None:
    """Write what there is to know of the last nights, the sessions, their hours and storage as one HTML file."""
    from etl.read.report import write_pictures, write_report  # noqa: PLC0415  matplotlib

    catalog = settings_of(config).warehouse.catalog
    if form is ReportFormat.HTML:
        written = [output or Path("report.html")]
        write_report(catalog, written[0])
    else:
        written = write_pictures(catalog, output or Path("report"))
    for path in written:
        print(path)


def describe_command(
    table: Annotated[str | None, typer.Argument(help="Only this table.")] = None,
    config: Config = CONFIG,
    form: Annotated[Format, typer.Option("--format", help="How to print it: table, markdown or json.")] = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Show tables, views and columns: types, units, meaning, API paths; once exported, null rates and dates too."""
    from etl.jobs.describe import describe  # noqa: PLC0415

    tables = describe(settings_of(config))
    if table is not None and table not in tables:
        raise ConfigError(f"table {table!r} is not filled by the configured datasets; there are {', '.join(tables)}")
    if form not in (Format.TABLE, Format.MARKDOWN, Format.JSON):
        raise ConfigError(
            f'describe: --format {form}: expected table, markdown or json; `sql "from etl_columns"` has all'
        )
    chosen = {table: tables[table]} if table else tables
    columns = ["column", "type", "unit", "meaning", "api_path", "values"]
    if form is Format.MARKDOWN:
        for name, rows in chosen.items():
            write_markdown(rows, columns, name)
            print()
        return
    measured = {
        name: [what for what in ("null_rate", "first_date", "last_date") if any(row[what] for row in rows)]
        for name, rows in chosen.items()
    }
    Output(as_json=as_json or form is Format.JSON).show(
        *(Facts(name, rows, [*columns, *measured[name]], name) for name, rows in chosen.items())
    )


def check_command(config: Config = CONFIG, as_json: Json = False) -> None:
    """Show what the checks of sql/checks found when the catalog was built. Exit 5 if one of severity error failed."""
    from etl.read.query import ask  # noqa: PLC0415

    rows = ask(settings_of(config).warehouse.catalog, "from etl_checks order by severity, check_name").to_pylist()
    Output(as_json=as_json).show(
        Facts("checks", rows, ("check_name", "severity", "failures", "meaning")),
        notes=(f"{row['check_name']}: {row['examples']}" for row in rows if row["failures"]),
    )
    if any(row["failures"] and row["severity"] == "error" for row in rows):
        raise typer.Exit(FINDINGS)


def _answer(table: "pa.Table", form: Format, *, as_json: bool) -> None:
    """Print the answer to a question; with --json as facts, in a format as data."""
    if as_json:
        Output(as_json=True).show(Facts("rows", table.to_pylist()))
    else:
        write_table(table, form)


def _named_arguments(arguments: list[str]) -> dict[str, str]:
    """Return `--name value` and `--name=value` pairs; dashes in names are underscores in SQL."""
    found: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if not name.startswith("--"):
            raise ConfigError(f"found {argument!r}; expected a parameter such as --hours 12")
        value = value if equals else next(rest, "")
        found[name.removeprefix("--").replace("-", "_")] = value
    return found
