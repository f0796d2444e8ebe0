"""The Typer application: commands, global flags and exit codes.

Results go to stdout, logs to stderr. A command imports what it needs when it runs, so `--help` is quick.
"""

import atexit
import logging
import os
import sys
from typing import Annotated

import typer

from etl.cli import answers, care, nights, setup
from etl.cli.output import visible
from etl.cli.process import LogFormat, QuickEnd, check_limits, lost_output, prepare, set_up_logging
from etl.errors import ConfigError, EtlError, refused_by_system
from etl.events import listening
from etl.interpreter import let_threads_share_memory
from etl.observe.killpoints import VARIABLE, kill_point
from etl.version import VERSION

app = typer.Typer(
    name="nimble-etl",
    help="Export what AWS list APIs return, Nimble Studio streaming sessions first, into Parquet that DuckDB queries.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_GLOBAL_FLAGS = ("--log-level", "--log-format")
_LEVELS = "debug, info, warning or error"


def run() -> None:
    """Run a command in a process of its own. It ends with one of the exit codes of the README."""
    end = QuickEnd()
    atexit.register(end)
    prepare()
    kill_points = [kill_point(os.environ[VARIABLE])] if VARIABLE in os.environ else []
    exit_code = 0
    try:
        with listening(*kill_points):
            ended = app(_global_flags_first(sys.argv[1:]), standalone_mode=False)
            exit_code = ended if isinstance(ended, int) else 0
    except SystemExit as exc:
        exit_code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException as exc:  # deltalake's panics are no Exception
        error = refused_by_system(exc) or _wrong_usage(exc) or exc
        if not isinstance(error, EtlError) or os.environ.get("NIMBLE_ETL_DEBUG"):
            raise
        text = visible(str(error))
        print(text if text.startswith("Usage: ") else f"nimble-etl: {text}", file=sys.stderr)
        exit_code = error.exit_code
    if lost := lost_output():
        print(f"nimble-etl: {lost}", file=sys.stderr)
    end.exit_code = exit_code or (lost.exit_code if lost else 0)
    sys.exit(end.exit_code)


def _global_flags_first(arguments: list[str]) -> list[str]:
    """Return the arguments with the global flags before the command: people write them behind it, too."""
    first, rest, given = list[str](), list[str](), iter(arguments)
    for argument in given:
        if argument in _GLOBAL_FLAGS:
            first.append(f"{argument}={next(given, '')}")
        elif argument.startswith(tuple(f"{flag}=" for flag in _GLOBAL_FLAGS)):
            first.append(argument)
        else:
            rest += [argument] if argument != "--" else [argument, *given]
    return [*first, *rest]


def _wrong_usage(exc: BaseException) -> ConfigError | None:
    """Return the error for a command or flag that is not there, or a value that does not fit; None for other errors."""
    if not hasattr(exc, "format_message"):  # Typer's classes for them are not public
        return None
    from etl.configerrors import plain  # noqa: PLC0415

    context, message = getattr(exc, "ctx", None), plain(exc.format_message())
    if message.startswith("Usage: "):  # no command is named, so all of them are shown
        return ConfigError(message)
    command = context.command_path if context else "nimble-etl"
    return ConfigError(f"{message.rstrip('.')}; `{command} --help` says what there is")


def _print_version(asked: bool) -> None:  # noqa: FBT001  Typer calls it so
    if asked:
        print(f"nimble-etl {VERSION}")
        raise typer.Exit


@app.callback()
def _global(
    log_level: Annotated[str, typer.Option(help=f"{_LEVELS}.", envvar="NIMBLE_ETL_LOG_LEVEL")] = "info",
    log_format: Annotated[
        LogFormat, typer.Option(help="Form of logs.", envvar="NIMBLE_ETL_LOG_FORMAT")
    ] = LogFormat.TEXT,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise ConfigError(f"--log-level: found {log_level!r}; expected {_LEVELS}")
    set_up_logging(level, log_format)
    let_threads_share_memory()
    check_limits()


app.command("init")(setup.init_command)
app.command("doctor")(care.doctor_command)
app.command("run")(nights.run_command)
app.command("replay")(nights.replay_command)
app.command("import")(nights.import_command)
app.command("catalog")(care.catalog_command)
app.command("compact")(care.compact_command)
app.command("vacuum")(care.vacuum_command)
app.command("forget")(care.forget_command)
app.command("status")(care.status_command)
app.command("sql")(answers.sql_command)
# `query NAME --help` is about the query: the command looks for the flag itself.
_OF_QUERIES = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
app.command("query", context_settings=_OF_QUERIES)(answers.query_command)
app.command("report")(answers.report_command)
app.command("describe")(answers.describe_command)
app.command("check")(answers.check_command)
app.command("prices")(setup.prices_command)
app.command("verify")(care.verify_command)
app.command("emulator")(nights.emulator_command)
app.command("demo")(nights.demo_command)

config_app = typer.Typer(help="Check the configuration, or print it or its schema.", no_args_is_help=True)
config_app.command("check")(setup.config_check)
config_app.command("schema")(setup.config_schema)
config_app.command("show")(setup.config_show)
app.add_typer(config_app, name="config")

datasets_app = typer.Typer(help="List the datasets, or propose new ones.")
datasets_app.callback(invoke_without_command=True)(setup.datasets_command)
datasets_app.command("add")(setup.datasets_add)
app.add_typer(datasets_app, name="datasets")
