"""The command line: parse, call one function, render, map errors to exit codes.

Results go to stdout, logs to stderr. What a command needs is imported when it runs, so that `--help` is quick.
"""

import datetime as dt
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.cli.output import Format, open_streams
from etl.errors import ConfigError, EtlError

if TYPE_CHECKING:
    from etl.config import Settings
    from etl.jobs.upkeep import Upkeep
    from etl.model import Outcome, Page, Slice

app = typer.Typer(
    name="nimble-etl",
    help="Export what AWS list APIs return, Nimble Studio streaming sessions first, into Parquet that DuckDB queries.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")
datasets_app = typer.Typer(help="List the datasets, or propose new ones.")
app.add_typer(datasets_app, name="datasets")

Config = Annotated[Path, typer.Option("--config", help="The configuration file.")]
Json = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]

EXIT_FINDINGS = 5


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


class _WithoutPandas(MetaPathFinder):
    """Keeps pandas out: nothing here uses it, but pyarrow imports it to ask of every list whether it is a Series.

    That costs 0.3 s and 50 MB, in a job that otherwise needs 150.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002
        """Refuse it as if it were not installed."""
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname, name=fullname)


class ReportFormat(StrEnum):
    """How the report is written."""

    HTML = "html"
    PNG = "png"


def main() -> None:
    """Run the command line; the process ends with one of the exit codes of the README."""
    open_streams()
    sys.meta_path.insert(0, _WithoutPandas())
    # Arrow's own allocator keeps what it once had, 50 MB and more; read when pyarrow is imported.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # pyarrow imports numpy; without this, its linear algebra starts threads that spin for 0.1 s of CPU, for nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Records come by the thousand and hold no cycles: looking for cycles every 700 objects was a third of flattening.
    gc.set_threshold(50_000)
    try:
        app()
    except EtlError as exc:
        if os.environ.get("NIMBLE_ETL_DEBUG"):
            raise
        print(f"nimble-etl: {exc}", file=sys.stderr)
        sys.exit(exc.exit_code)


@app.callback()
def _global(
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning or error.", envvar="NIMBLE_ETL_LOG_LEVEL")
    ] = "info",
    log_format: Annotated[LogFormat, typer.Option(help="Lines as text or JSON.", envvar="NIMBLE_ETL_LOG_FORMAT")] = (
        LogFormat.TEXT
    ),
) -> None:
    """Set logging up: lines on stderr."""
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise ConfigError(f"--log-level: found {log_level!r}; expected debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format))
    logging.basicConfig(level=level, handlers=[handler])
    # At DEBUG these write session tokens, signatures and response bodies; urllib3's warnings, whole URLs.
    for name in ("botocore", "boto3", "uvicorn"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.getLogger("urllib3").setLevel(logging.ERROR)


@app.command("run")
def run_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    config: Config = Path("config.yaml"),
    snapshot_date: Annotated[
        str | None, typer.Option(help="UTC date of the snapshot, YYYY-MM-DD; default today.")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    studio_id: Annotated[list[str] | None, typer.Option(help="Only this studio; may be repeated.")] = None,
    created_by: Annotated[str | None, typer.Option(help="Only sessions created by this user.")] = None,
    owned_by: Annotated[str | None, typer.Option(help="Only sessions owned by this user.")] = None,
    session_ids: Annotated[str | None, typer.Option(help="Only these sessions, as the API's one string.")] = None,
    max_items: Annotated[
        int | None, typer.Option(min=1, help="Take so many records more of each slice, then stop resumable.")
    ] = None,
    starting_token: Annotated[str | None, typer.Option(help="Begin the only slice at this starting token.")] = None,
    max_duration: Annotated[str | None, typer.Option(help="Stop resumable after, for instance, 3h.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not resume; begin a new run.")] = False,
    publish_partial: Annotated[
        bool, typer.Option("--publish-partial", help="Publish incomplete walks too, marked as partial.")
    ] = False,
    allow_fall: Annotated[
        bool, typer.Option("--allow-fall", help="Publish slices that have far fewer records than before.")
    ] = False,
    accept_model: Annotated[
        bool, typer.Option("--accept-model", help="Go on although a service model has lost or changed members.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Export: walk every page, publish the snapshot, rebuild the catalog. Resumes an unfinished run by itself."""
    from etl.config import Overrides, load_settings  # noqa: PLC0415
    from etl.extract.source import check_starting_token  # noqa: PLC0415
    from etl.jobs.night import Request, run  # noqa: PLC0415
    from etl.observe.notify import notify  # noqa: PLC0415

    settings = load_settings(
        config,
        Overrides(
            datasets=dataset,
            studio_ids=studio_id,
            filters={"created_by": created_by, "owned_by": owned_by, "session_ids": session_ids},
            max_items=max_items,
            max_duration=max_duration,
        ),
    )
    request = Request(
        snapshot_date=_date(snapshot_date),
        starting_token=check_starting_token(starting_token) if starting_token else None,
        fresh=fresh,
        publish_partial=publish_partial,
        allow_fall=allow_fall,
        accept_model=accept_model,
    )
    try:
        with _stopped_by_signals() as stop, _progress() as on_page:
            outcomes = run(settings, request, stop, on_page)
    except Exception as exc:
        exit_code = exc.exit_code if isinstance(exc, EtlError) else 1
        notify(settings.on_finish, {"exit_code": exit_code, "error": str(exc), "runs": []})
        raise
    exit_code = _print_outcomes(outcomes, as_json=as_json)
    runs = [outcome.report() for outcome in outcomes]
    notify(settings.on_finish, {"exit_code": exit_code, "error": None, "runs": runs})
    raise typer.Exit(exit_code)


@app.command("replay")
def replay_command(
    run_id: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run; its whole date is written anew.")
    ] = None,
    config: Config = Path("config.yaml"),
    since: Annotated[str | None, typer.Option(help="Every date from this one on, YYYY-MM-DD.")] = None,
    allow_fall: Annotated[
        bool, typer.Option("--allow-fall", help="Publish slices that were held back for a fall in records.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the rows of past runs anew from their ledgers. Asks nothing of the source."""
    from etl.jobs.replay import Selection, replay  # noqa: PLC0415

    if (run_id is None) == (since is None):
        raise ConfigError("replay: expected a RUN, as `status` shows them, or --since DATE")
    outcomes = replay(_settings(config), Selection(run_id, _date(since), allow_fall))
    raise typer.Exit(_print_outcomes(outcomes, as_json=as_json))


@app.command("import")
def import_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="JSON that `aws … list-…` printed, plain, gzip or zstd; - reads stdin."),
    ],
    snapshot_date: Annotated[str, typer.Option(help="UTC date on which it was saved, YYYY-MM-DD.")],
    config: Config = Path("config.yaml"),
    dataset: Annotated[str, typer.Option(help="What it lists.")] = "streaming_sessions",
    studio_id: Annotated[str | None, typer.Option(help="The studio that was listed: --parent studioId=ID.")] = None,
    parent: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the listing; may be repeated.")
    ] = None,
    account_id: Annotated[str | None, typer.Option(help="The account, where no ARN says it.")] = None,
    region: Annotated[str | None, typer.Option(help="The Region, where no ARN says it.")] = None,
    publish_partial: Annotated[
        bool, typer.Option("--publish-partial", help="Publish what ends with a token too, marked as partial.")
    ] = False,
    allow_fall: Annotated[
        bool, typer.Option("--allow-fall", help="Publish it though it has far fewer records than before.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish what the AWS CLI printed and someone saved, as the snapshot of one slice. Asks nothing of AWS."""
    from etl.jobs.dumps import ImportRequest, import_dump  # noqa: PLC0415

    date = _date(snapshot_date)
    assert date is not None
    request = ImportRequest(
        files=files,
        dataset=dataset,
        snapshot_date=date,
        parents=_parents(parent or [], studio_id),
        account_id=account_id,
        region=region,
        publish_partial=publish_partial,
        allow_fall=allow_fall,
    )
    with _progress() as on_page:
        outcome = import_dump(_settings(config), request, on_page)
    raise typer.Exit(_print_outcomes([outcome], as_json=as_json))


@app.command("compact")
def compact_command(config: Config = Path("config.yaml"), as_json: Json = False) -> None:
    """Write the data files of each date into one."""
    from etl.jobs.upkeep import compact  # noqa: PLC0415

    _print_upkeep(compact(_settings(config)), as_json=as_json)


@app.command("vacuum")
def vacuum_command(config: Config = Path("config.yaml"), as_json: Json = False) -> None:
    """Remove data files that no table names any more, after warehouse.vacuum_grace."""
    from etl.jobs.upkeep import vacuum  # noqa: PLC0415

    _print_upkeep(vacuum(_settings(config)), as_json=as_json)


@app.command("status")
def status_command(
    config: Config = Path("config.yaml"),
    last: Annotated[int, typer.Option(min=1, help="How many runs to show.")] = 7,
    max_age: Annotated[str | None, typer.Option(help="Instead of status.max_age, for instance 26h.")] = None,
    as_json: Json = False,
) -> None:
    """Show the last runs, what is unfinished, and how old each studio's snapshot is. Exit 5 if one is too old."""
    from etl.cli.output import write_json, write_rows  # noqa: PLC0415
    from etl.config import Overrides, load_settings  # noqa: PLC0415
    from etl.jobs.status import status  # noqa: PLC0415

    settings = load_settings(config, Overrides(max_age=max_age))
    found = status(settings, last)
    if as_json:
        write_json({"runs": found.runs, "unfinished": found.unfinished, "snapshots": found.snapshots})
    else:
        for title, rows in (
            ("Last runs", found.runs),
            ("Unfinished: the next run goes on", found.unfinished),
            ("Newest complete snapshots", found.snapshots),
        ):
            if rows:
                write_rows(rows, [name for name in rows[0] if name != "error"], title)
                print()
        for row in (*found.unfinished, *found.snapshots):
            if row["error"]:
                print(row["error"])
        if not (found.runs or found.unfinished):
            print("No run yet. `nimble-etl run` makes the first.")
    if found.is_stale:
        raise typer.Exit(EXIT_FINDINGS)


@app.command("sql")
def sql_command(
    statement: Annotated[str, typer.Argument(help="One SQL query; - reads it from standard input.")],
    config: Config = Path("config.yaml"),
    form: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Ask the catalog, read-only."""
    from etl.cli.output import write_table  # noqa: PLC0415
    from etl.read.query import ask  # noqa: PLC0415

    text = sys.stdin.read() if statement == "-" else statement
    write_table(ask(_settings(config).warehouse.catalog, text), Format.JSON if as_json else form)


@app.command("query", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def query_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="A query of sql/queries; its parameters follow as --name value.")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the queries.")] = False,
    config: Config = Path("config.yaml"),
    form: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Ask a named question: `nimble-etl query idle_sessions --hours 24`."""
    from etl.cli.output import write_json, write_rows, write_table  # noqa: PLC0415
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
        if as_json:
            write_json(rows)
        else:
            write_rows(rows, ("query", "question", "parameters"))
        return
    query = named_query(name)
    values = bind(query, _named_arguments(context.args))
    write_table(ask(_settings(config).warehouse.catalog, query.text, values), Format.JSON if as_json else form)


@app.command("report")
def report_command(
    config: Config = Path("config.yaml"),
    output: Annotated[
        Path | None, typer.Option(help="File of the page, or directory of the pictures; default report.html or report.")
    ] = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="One page, or a picture of each chart.")] = (
        ReportFormat.HTML
    ),
) -> None:
    """Write what there is to know of the last nights, the sessions, their hours and storage as one HTML file."""
    from etl.read.report import write_pictures, write_report  # noqa: PLC0415  matplotlib

    settings = _settings(config)
    if form is ReportFormat.HTML:
        written = [output or Path("report.html")]
        write_report(settings, written[0])
    else:
        written = write_pictures(settings, output or Path("report"))
    for path in written:
        print(path)


@app.command("describe")
def describe_command(
    table: Annotated[str | None, typer.Argument(help="Only this table.")] = None,
    config: Config = Path("config.yaml"),
    form: Annotated[Format, typer.Option("--format", help="How to print it: table, markdown or json.")] = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Show tables, views and columns: types, units, meaning, API paths; once exported, null rates and dates too."""
    from etl.cli.output import write_json, write_markdown, write_rows  # noqa: PLC0415
    from etl.jobs.describe import describe  # noqa: PLC0415

    tables = describe(_settings(config))
    if table is not None and table not in tables:
        raise ConfigError(f"table {table!r} is not filled by the configured datasets; there are {', '.join(tables)}")
    if form not in (Format.TABLE, Format.MARKDOWN, Format.JSON):
        raise ConfigError(
            f'describe: --format {form}: expected table, markdown or json; `sql "from etl_columns"` has all'
        )
    chosen = {table: tables[table]} if table else tables
    if as_json or form is Format.JSON:
        write_json(chosen)
        return
    columns = ["column", "type", "unit", "meaning", "api_path", "values"]
    for name, rows in chosen.items():
        if form is Format.MARKDOWN:
            write_markdown(rows, columns, name)
        else:
            measured = [what for what in ("null_rate", "first_date", "last_date") if any(row[what] for row in rows)]
            write_rows(rows, [*columns, *measured], name)
        print()


@datasets_app.callback(invoke_without_command=True)
def datasets_command(
    context: typer.Context,
    config: Config = Path("config.yaml"),
    service: Annotated[
        str | None, typer.Option(help="Instead: what can be exported of this service of boto3, and what cannot.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the datasets: what they list, where their slices come from, and which are configured."""
    from etl.cli.output import write_json, write_rows  # noqa: PLC0415
    from etl.jobs.describe import list_datasets  # noqa: PLC0415
    from etl.jobs.propose import exportable  # noqa: PLC0415

    context.obj = config
    if context.invoked_subcommand:
        return
    rows = exportable(service) if service else list_datasets(_settings(config))
    if as_json:
        write_json(rows)
    elif rows:
        write_rows(rows, rows[0])
    else:
        print(f"{service} has no operation with a paginator.")


@datasets_app.command("add")
def datasets_add(  # noqa: PLR0913, PLR0917  one parameter per flag
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="As boto3 names it: ec2.")],
    operation: Annotated[str, typer.Argument(help="As boto3 names its method: describe_volumes.")],
    config: Annotated[Path | None, typer.Option("--config", help="The configuration file.")] = None,
    result_key: Annotated[str | None, typer.Option(help="Which list, where the response has several.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Append to the configuration file, comments kept.")] = False,
    as_json: Json = False,
) -> None:
    """Propose the entries of `datasets` that export an operation, and the listings that its parameters come from."""
    from etl.cli.output import write_json  # noqa: PLC0415
    from etl.jobs.propose import append, as_yaml, propose  # noqa: PLC0415

    path = config or context.obj
    drafts = propose(_settings(path), service, operation, result_key)
    if write:
        append(path, drafts)
    if as_json:
        write_json([{**draft.settings, "comments": draft.comments} for draft in drafts])
    elif not write:
        print(as_yaml(drafts), end="")
    else:
        print(f"{path}: added {', '.join(draft.name for draft in drafts)}")
        for draft in drafts:
            if draft.blanks:
                print(f"{draft.name}: fill in {', '.join(draft.blanks)}")


@app.command("check")
def check_command(config: Config = Path("config.yaml"), as_json: Json = False) -> None:
    """Show what the checks of sql/checks found when the catalog was built. Exit 5 if one of severity error failed."""
    from etl.cli.output import write_json, write_rows  # noqa: PLC0415
    from etl.read.query import ask  # noqa: PLC0415

    rows = ask(_settings(config).warehouse.catalog, "from etl_checks order by severity, check_name").to_pylist()
    if as_json:
        write_json(rows)
    else:
        write_rows(rows, ("check_name", "severity", "failures", "meaning"))
        for row in rows:
            if row["failures"]:
                print(f"{row['check_name']}: {row['examples']}")
    if any(row["failures"] and row["severity"] == "error" for row in rows):
        raise typer.Exit(EXIT_FINDINGS)


@app.command("verify")
def verify_command(
    config: Config = Path("config.yaml"),
    snapshot_date: Annotated[str | None, typer.Option(help="Only this date, YYYY-MM-DD.")] = None,
    as_json: Json = False,
) -> None:
    """Recompute from ledgers and data files that what is published is complete. Exit 5 if it is not."""
    from dataclasses import asdict  # noqa: PLC0415

    from etl.cli.output import write_json, write_rows  # noqa: PLC0415
    from etl.jobs.verify import verify  # noqa: PLC0415

    findings = [asdict(finding) for finding in verify(_settings(config), _date(snapshot_date))]
    problems = [finding for finding in findings if finding["problem"]]
    if as_json:
        write_json(findings)
    elif findings:
        write_rows([{**f, "problem": f["problem"] or "complete"} for f in findings], findings[0])
        print(f"{len(findings) - len(problems)} snapshots complete, {len(problems)} problems")
    else:
        print("Nothing is published yet.")
    if problems:
        raise typer.Exit(EXIT_FINDINGS)


@app.command("emulator")
def emulator_command(  # noqa: PLR0913, PLR0917  one parameter per flag
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 8790,
    studios: Annotated[int, typer.Option(min=1)] = 2,
    sessions: Annotated[int, typer.Option(min=0, help="Live sessions per studio.")] = 1500,
    seed: int = 7,
    page_size: Annotated[int, typer.Option(min=1)] = 100,
    latency_ms: Annotated[float, typer.Option(min=0)] = 0,
    token_lifetime: Annotated[float | None, typer.Option(min=0, help="Seconds until a page token expires.")] = None,
    instant: Annotated[
        str | None, typer.Option(help="Stand still at this ISO-8601 instant; default: now, moving.")
    ] = None,
    request_log: Annotated[Path | None, typer.Option(help="Append each request as a line of JSON.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="Misbehave, such as throttle:request=3,times=5; may be repeated. See the README."),
    ] = None,
) -> None:
    """Serve the embedded studio by itself, until interrupted."""
    from etl.emulator import EmbeddedStudio, FaultSpecError, PortInUseError, StudioSettings, World, serve  # noqa: PLC0415

    def ready(url: str) -> None:
        key_id, secret = EmbeddedStudio.credentials
        print(f"The embedded studio answers at {url}; sign requests with", flush=True)
        print(f"AWS_ACCESS_KEY_ID={key_id} AWS_SECRET_ACCESS_KEY={secret}", flush=True)

    try:
        at = dt.datetime.fromisoformat(instant) if instant else None
        if at is not None and at.tzinfo is None:
            at = at.replace(tzinfo=dt.UTC)
        settings = StudioSettings(
            page_size=page_size,
            latency_s=latency_ms / 1000,
            token_lifetime_s=token_lifetime,
            instant=at,
            request_log=request_log,
        )
        world = World(seed=seed, studios=studios, sessions_per_studio=sessions)
        serve(world, settings, port=port, faults=fault or (), on_ready=ready)
    except (ValueError, FaultSpecError) as exc:
        raise ConfigError(str(exc)) from exc
    except PortInUseError as exc:
        raise ConfigError(f"--port: {exc.strerror}") from exc
    except KeyboardInterrupt:
        pass


@app.command("demo")
def demo_command(config: Config = Path("config.yaml")) -> None:
    """Export three consecutive nights of the embedded studio, then ask the warehouse three questions."""
    from etl.cli.demo import demo  # noqa: PLC0415

    with _stopped_by_signals() as stop:
        raise typer.Exit(demo(_settings(config), stop, _print_outcome))


@config_app.command("check")
def config_check(config: Config = Path("config.yaml")) -> None:
    """Validate the configuration and the dataset definitions. Asks nothing of AWS."""
    from etl.jobs.describe import check  # noqa: PLC0415

    print(f"{config}: valid; fills {', '.join(check(_settings(config)))}")


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of the configuration."""
    from etl.config import Settings  # noqa: PLC0415

    print(json.dumps(Settings.model_json_schema(), indent=2))


@config_app.command("show")
def config_show(config: Config = Path("config.yaml")) -> None:
    """Print every setting with its value, as JSON: file, environment and defaults together."""
    print(_settings(config).model_dump_json(indent=2))


def _formatter(log_format: LogFormat) -> logging.Formatter:
    line, time = "%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"
    if log_format is LogFormat.TEXT:
        return logging.Formatter(line, time)
    from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415

    return JsonFormatter(f"{line} %(name)s", time, rename_fields={"asctime": "time", "levelname": "level"})


def _settings(config: Path) -> "Settings":
    from etl.config import load_settings  # noqa: PLC0415

    return load_settings(config)


def _date(text: str | None) -> dt.date | None:
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--snapshot-date: found {text!r}; expected a date such as 2026-11-23") from None


def _parents(pairs: list[str], studio_id: str | None) -> dict[str, str]:
    """Return the parameters of a slice by name."""
    found: dict[str, str] = {}
    for pair in [*pairs, *([f"studioId={studio_id}"] if studio_id is not None else [])]:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"--parent: found {pair!r}; expected NAME=VALUE, such as studioId=us-west-2-abc")
        if name in found:
            raise ConfigError(f"--parent: {name} is given twice; keep one")
        found[name] = value
    return found


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


def _print_outcomes(outcomes: "list[Outcome]", *, as_json: bool) -> int:
    """Print how runs stand; return the exit code of all."""
    from etl.model import exit_code_of  # noqa: PLC0415

    for outcome in outcomes:
        _print_outcome(outcome, as_json=as_json)
    return exit_code_of(outcomes)


def _print_upkeep(done: "list[Upkeep]", *, as_json: bool) -> None:
    from dataclasses import asdict  # noqa: PLC0415

    from etl.cli.output import write_json, write_rows  # noqa: PLC0415

    rows = [asdict(upkeep) for upkeep in done]
    if as_json:
        write_json(rows)
    else:
        write_rows(rows, ("table", "files_before", "files", "removed"))


def _print_outcome(outcome: "Outcome", *, as_json: bool = False) -> None:
    """Print the closing line of a run, and what the operator should know of its slices."""
    from etl.cli.output import write_json  # noqa: PLC0415
    from etl.model import SliceState  # noqa: PLC0415

    word = {0: "published", 1: "failed", 3: "incomplete, run again to go on", 5: "published, but not all is well"}
    if as_json:
        write_json(outcome.report())
        return
    if outcome.failure:
        print(f"run {outcome.run.run_id}: {outcome.failure}")
    for facts in outcome.slices:
        if facts.error:
            print(f"{'held back' if facts.state is SliceState.COMPLETE else facts.state.value}: {facts.error}")
        if facts.starting_token:
            print(f"{facts.part}: stopped after {facts.records} records; StartingToken {facts.starting_token}")
        for drift in facts.drift:
            print(f"{facts.part}: the service model does not know {drift}")
    names = ("pages", "records", "rows", "rejects", "duplicates", "retries")
    counts = ", ".join(f"{outcome.total(name)} {name}" for name in names)
    print(
        f"{outcome.run.snapshot_date}: {word[outcome.exit_code]}; {len(outcome.slices)} slices, {counts},"
        f" {outcome.seconds:.1f} seconds"
    )


@contextmanager
def _stopped_by_signals() -> Iterator[Any]:
    """Yield a stop that SIGTERM, SIGINT and SIGHUP set: the page in flight is finished, then the run ends."""
    from etl.jobs.night import Stop  # noqa: PLC0415

    stop = Stop()

    def on_signal(number: int, _frame: object) -> None:
        logging.getLogger(__name__).warning(
            "%s: finishing the pages in flight; run again to go on", signal.Signals(number).name
        )
        stop.by_deadline = False
        stop.set()

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _progress() -> Iterator[Callable[["Slice", "Page"], None]]:
    """Yield what shows progress: bars on a terminal, a log line for every hundredth page elsewhere."""
    from etl.observe.progress import bars, lines  # noqa: PLC0415

    with bars() if sys.stderr.isatty() else lines() as on_page:
        yield on_page
