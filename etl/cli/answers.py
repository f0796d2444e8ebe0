"""Commands that ask the catalog: sql, query, report, describe, check."""

import logging
import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from etl.cli.completion import queries, tables
from etl.cli.options import CONFIG, Config, For, Form, Json, settings_to_ask
from etl.cli.output import FINDINGS, Facts, Format, Output, Reader, rows_of, write_markdown, write_table
from etl.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

    from etl.sqlfiles import SqlFile
    from etl.storage.store import Store

log = logging.getLogger(__name__)

HELP = frozenset({"-h", "--help"})


class ReportFormat(StrEnum):
    """Form of the report."""

    HTML = "html"
    PNG = "png"


def sql_command(
    statement: Annotated[
        str | None, typer.Argument(help="One SQL query; - reads it from stdin. None: a shell, if duckdb is installed.")
    ] = None,
    config: Config = CONFIG,
    form: Form = Format.TABLE,
    reader: For = None,
    as_json: Json = False,
) -> None:
    """Run a read-only SQL query on the catalog."""
    from etl.jobs.warehouse import store_of  # noqa: PLC0415
    from etl.read.query import ask  # noqa: PLC0415

    _check_form(form, reader, as_json=as_json)
    store = store_of(settings_to_ask(config))
    if statement is None and sys.stdin.isatty():
        _become_shell(store)
    text = sys.stdin.read() if statement in {None, "-"} else statement
    _answer(ask(store, text), form, reader, as_json=as_json)


def query_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Name of a query; its parameters follow: --name value.", autocompletion=queries)
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the queries.")] = False,
    config: Config = CONFIG,
    form: Form = Format.TABLE,
    reader: For = None,
    as_json: Json = False,
) -> None:
    """Run a named query, such as `nimble-etl query idle_sessions --hours 24`. NAME --help shows its parameters."""
    from etl.sqlfiles import sql_files  # noqa: PLC0415

    if name in HELP:
        print(context.get_help())
        return
    if list_all or name is None:
        rows = []
        for file in sql_files("queries").values():
            flags = " ".join(f"{parameter.flag} {parameter.default}" for parameter in file.parameters)
            rows.append({"query": file.name, "question": file.headers.get("Question", ""), "parameters": flags})
        Output(as_json=as_json).show(Facts("queries", rows))
        return
    from etl.read.query import answer, bind, named_query  # noqa: PLC0415

    query = named_query(name)
    if not HELP.isdisjoint(context.args):
        _show_query(query, context.command_path)
        return
    from etl.jobs.warehouse import store_of  # noqa: PLC0415

    _check_form(form, reader, as_json=as_json)
    values = bind(query, _named_arguments(context.args))
    found = answer(store_of(settings_to_ask(config)), query, values)
    _answer(found.rows, form, reader, as_json=as_json)
    for note in found.notes:
        log.warning("%s", note)


def report_command(
    config: Config = CONFIG,
    output: Annotated[Path | None, typer.Option(help="Default: report.html, or the directory report.")] = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="One page, or a PNG per chart.")] = ReportFormat.HTML,
) -> None:
    """Write a report on nights, sessions, hours, costs and storage."""
    from etl.jobs.warehouse import store_of  # noqa: PLC0415
    from etl.read.report import write_pictures, write_report  # noqa: PLC0415  matplotlib

    settings = settings_to_ask(config)
    store, names = store_of(settings), settings.report.names
    if form is ReportFormat.HTML:
        written = [output or Path("report.html")]
        write_report(store, written[0], names)
    else:
        written = write_pictures(store, output or Path("report"), names)
    print(*written, sep="\n")


def describe_command(
    table: Annotated[str | None, typer.Argument(help="Describe only this table.", autocompletion=tables)] = None,
    config: Config = CONFIG,
    form: Annotated[Format, typer.Option("--format", help="table, markdown or json.")] = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Show the columns of all tables and views. After a run, this includes null rates and dates."""
    from etl.jobs.describe import describe  # noqa: PLC0415

    tables = describe(settings_to_ask(config))
    if table is not None and table not in tables:
        meant = did_you_mean(table, tables)
        raise ConfigError(
            f"table {table!r} is not filled by the configured datasets{meant}; there are {', '.join(tables)}"
        )
    if form in (Format.LINE, Format.CSV, Format.PARQUET):
        expected = 'expected table, markdown or json; for other forms use `sql "from etl_columns"`'
        raise ConfigError(f"describe: --format {form}: {expected}")
    chosen = {table: tables[table]} if table else tables
    columns = ["column", "type", "meaning", "unit", "values", "api_path"]
    facts = []
    for name, rows in chosen.items():
        if form is Format.MARKDOWN:
            print(f"## {name}\n")
            write_markdown(rows, columns)
            print()
        measured = [what for what in ("null_rate", "first_date", "last_date") if any(row[what] for row in rows)]
        facts.append(Facts(name, rows, [*columns, *measured], name))
    if form is not Format.MARKDOWN:
        Output(as_json=as_json or form is Format.JSON).show(*facts)


def check_command(config: Config = CONFIG, as_json: Json = False) -> None:
    """Show what each check found when the catalog was built. Exit 5 if a check of severity error failed."""
    from etl.jobs.warehouse import store_of  # noqa: PLC0415
    from etl.read.query import ask  # noqa: PLC0415

    settings = settings_to_ask(config)
    if not settings.marts.build:
        raise ConfigError("check: marts.build is false, so no checks are built; set it to true, then run again")
    rows = ask(store_of(settings), "from etl_checks order by severity, check_name").to_pylist()
    Output(as_json=as_json).show(
        Facts("checks", rows, ("check_name", "severity", "failures", "meaning")),
        notes=(f"{row['check_name']}: {row['examples']}" for row in rows if row["failures"]),
    )
    if any(row["failures"] and row["severity"] == "error" for row in rows):
        raise typer.Exit(FINDINGS)


def _check_form(form: Format, reader: Reader | None, *, as_json: bool) -> None:
    if form is Format.PARQUET and not as_json and sys.stdout.isatty():
        raise ConfigError("--format parquet: is binary, and this is a terminal; add `> answer.parquet`")
    if reader and (form is not Format.CSV or as_json):
        found = "--json" if as_json else f"--format {form}"
        raise ConfigError(f"--for {reader}: found {found}; expected --format csv")


def _become_shell(store: "Store") -> NoReturn:
    """Become the duckdb command, connected to the catalog so that it can only read.

    Raises:
        ConfigError: it is not installed, or the warehouse is in a bucket.
        WarehouseError, StorageError: as `open_catalog`.
    """
    from etl.model import CATALOG_NAME  # noqa: PLC0415
    from etl.read.query import open_catalog  # noqa: PLC0415

    expected = 'sql: expected a statement, such as "from streaming_sessions limit 5"'
    if store.local is None:
        raise ConfigError(f"{expected}; the duckdb command, which would be the shell, cannot read this warehouse")
    program = shutil.which("duckdb") or shutil.which("duckdb", path=os.path.dirname(sys.executable))  # noqa: PTH120
    if program is None:
        raise ConfigError(f"{expected}; for a shell, install nimble-etl[shell] or the duckdb command")
    with open_catalog(store):
        pass  # it says what is wrong with the catalog
    os.execv(program, ["duckdb", "-readonly", "-cmd", "set TimeZone = 'UTC'", store.at(CATALOG_NAME)])  # noqa: S606


def _answer(table: "pa.Table", form: Format, reader: Reader | None, *, as_json: bool) -> None:
    """Print the answer to a query."""
    if as_json:
        Output(as_json=True).show(Facts("rows", rows_of(table)))
    else:
        write_table(table, form, reader)


def _show_query(query: "SqlFile", command: str) -> None:
    """Print what a query answers, and its parameters."""
    flags = " ".join(f"[{parameter.flag} {parameter.type}]" for parameter in query.parameters)
    print(f"Usage: {command} {query.name} {flags}".rstrip())
    print(f"\n  {query.headers['Question']}\n  {query.headers['Grain']}\n\nParameters:")
    for parameter in query.parameters:
        least = f", at least {parameter.least}" if parameter.least else ""
        one_of = f", one of {parameter.one_of}" if parameter.one_of else ""
        print(f"  {parameter.flag} {parameter.type}: default {parameter.default}{least}{one_of}")
    print("" if query.parameters else "  none\n")
    print(f"Reads: {', '.join(query.reads)}\nColumns: {query.headers['Columns']}")


def _named_arguments(arguments: list[str]) -> dict[str, str]:
    """Return the values of `--name value` and `--name=value` by name, with underscores instead of dashes."""
    found: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if not name.startswith("--"):
            raise ConfigError(f"found {argument!r}; expected a parameter such as --hours 12")
        found[name.removeprefix("--").replace("-", "_")] = value if equals else next(rest, "")
    return found
