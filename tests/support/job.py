"""A job in a directory of its own, against an embedded studio: run it in this process, or as a process to be killed."""

import datetime as dt
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import duckdb
import pytest

import etl.cli
from etl.config import Settings
from etl.configfile import Overrides, load_settings
from etl.emulator import EmbeddedStudio
from etl.events import PageStored, listening
from etl.jobs.night import Request, run
from etl.jobs.verify import verify
from etl.model import CATALOG_NAME
from etl.observe import killpoints
from etl.outcome import Outcome
from etl.pipeline.walks import Stop
from etl.storage.store import Store
from support.buckets import REGION, running
from support.stores import store_of

NIGHT = dt.datetime(2026, 11, 20, 2, tzinfo=dt.UTC)
DATE = NIGHT.date()
DATE_FLAG = ("--snapshot-date", DATE.isoformat())
RUN = ("run", *DATE_FLAG)
EXPORTED = ("studios_history", "streaming_sessions_history", "streaming_session_tags_history")
"""What a run of the default datasets fills, with all its dates."""

CLOCK_AHEAD = "CLOCK_AHEAD_S"
AS_NOBODY = """
import os
import support.job

if not os.geteuid():
    os.setgid(65534)
    os.setuid(65534)
support.job._child(arguments, environment, log)
"""
"""A program for `Job.start_program`: the command line as a user who owns nothing."""

# Children are forked from a process that has imported everything and started no thread: a start costs milliseconds.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "support.job",
        "support.warm",
        "etl.cli.app",
        "etl.cli.demo",
        "etl.jobs.describe",
        "etl.configlayers",
        "etl.observe.progress",
        "etl.jobs.status",
        "etl.jobs.verify",
        "rich.console",  # a user without rights cannot read it later
    ]
)


@dataclass
class Job:
    """One configuration file, state directory and warehouse.

    Attributes:
        directory: of all three.
        endpoint_url: what `source.endpoint_url` says.
        credentials: in the environment of every process of the job.
        source: further lines of the `source` part of the configuration.
        rest: further parts of the configuration.
        marts: whether they are built too, with all that comes with them; it takes a second of every publish.
        kind: of the store that the warehouse is in: see `support.stores`.
        place: what names the warehouse in its store, if it is shared with other jobs.
    """

    directory: Path
    endpoint_url: str
    credentials: tuple[str, str]
    source: str = ""
    rest: str = ""
    marts: bool = False
    kind: str = "disk"
    place: Path | None = None
    config: Path = field(init=False)

    def __post_init__(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config = self.directory / "config.yaml"
        self.config.write_text(
            f"source:\n  endpoint_url: {self.endpoint_url}\n  retry: {{timeout: 2, wait_max: 0.01}}\n"
            f"{self.source}\nmarts: {{build: {str(self.marts).lower()}}}\n{self.rest}\n"
        )

    @property
    def environment(self) -> dict[str, str]:
        key, secret = self.credentials
        keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_EC2_METADATA_DISABLED": "true"}
        if self.kind == "disk":
            return keys
        store = {
            "PATH": self.store.uri,
            "S3__ENDPOINT_URL": running(self.kind).url,
            "S3__ADDRESSING": "path",
            "S3__REGION": REGION,
            "S3__LEASE": "1s",
        }
        cache_home = {"XDG_CACHE_HOME": str(self.directory / "cache")}
        return keys | cache_home | {f"NIMBLE_ETL_WAREHOUSE__{name}": value for name, value in store.items()}

    @property
    def store(self) -> Store:
        """Return where the warehouse is."""
        return store_of(self.kind, self.place or self.directory / "warehouse")

    @property
    def log(self) -> str:
        """What the processes of the job have written so far."""
        return (self.directory / "log").read_text()

    def configure(self, text: str) -> None:
        """Add parts to the configuration."""
        self.config.write_text(f"{self.config.read_text()}\n{text}\n")

    def lend_credentials(self, monkeypatch) -> Self:
        """Put the credentials into the environment of this process, which `run` needs; return the job."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        return self

    def settings(self, **overrides) -> Settings:
        with self._in_environment("NIMBLE_ETL_"):
            return load_settings(self.config, Overrides(**overrides))

    @contextmanager
    def _in_environment(self, prefix: str = "") -> Iterator[None]:
        """A job whose warehouse is in a bucket is told so by its environment."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items() if self.kind != "disk" else ():
                if name.startswith(prefix):
                    patch.setenv(name, value)
            yield

    def run(self, date: dt.date | None = DATE, *, overrides=None, stop=None, on_page=None, **request) -> list[Outcome]:
        """Run the pipeline in this process; credentials must be in its environment."""

        def on_event(event):
            if on_page and isinstance(event, PageStored):
                on_page(event.slice, event.page)

        with listening(on_event):
            return run(self.settings(**(overrides or {})), Request(date, **request), stop or Stop())

    def cli(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Run the command line as an operator would."""
        return subprocess.run(
            [sys.executable, "-m", "etl", *arguments, *self._config(arguments)],
            env={**os.environ, **self.environment},
            check=False,
            **{"capture_output": True, "text": True, **options},
        )

    def start(self, *arguments: str, **environment: str) -> multiprocessing.Process:
        """Start the command line as a process that may be killed; its output goes to `log` in the directory.

        `CLOCK_AHEAD` in the environment sets its clock ahead by so many seconds, or back.
        """
        process = _FORKS.Process(
            target=_child,
            args=([*arguments, *self._config(arguments)], {**self.environment, **environment}, self.directory / "log"),
        )
        process.start()
        return process

    def start_program(
        self, program: str, *arguments: str, names: dict | None = None, **environment: str
    ) -> multiprocessing.Process:
        """Start a program that ends as the command line, with `support.job._child(arguments, environment, log)`.

        It may use further names, such as those of a pipe, and do whatever makes this process differ from others.
        """
        known = {
            "arguments": [*arguments, *self._config(arguments)],
            "environment": {**self.environment, **environment},
            "log": self.directory / "log",
        }
        process = _FORKS.Process(target=exec, args=(program, {**known, **(names or {})}))
        process.start()
        return process

    def finish(self, *arguments: str, **environment: str) -> int:
        """Run the command line as `start` does, to its end; return the exit code."""
        return finished(self.start(*arguments, **environment))

    def ask(self, statement: str, **parameters) -> list[tuple]:
        """Ask the catalog as any reader would, without nimble-etl."""
        with reading(self.store) as connection:
            return connection.execute(statement, parameters or None).fetchall()

    def rows(self, table: str, where: str = "true") -> list[str]:
        """Return every row of a table as text, in order, without what differs between two runs that see the same."""
        found = self.ask(
            f"select t::varchar from (select * exclude (run_id, extracted_at) from {table} where {where}) t"
            " order by all"
        )
        return [row for (row,) in found]

    def exported_rows(self) -> list[list[str]]:
        """Return the rows of all that a run of the default datasets fills."""
        return [self.rows(table) for table in EXPORTED]

    def problems(self) -> list[str]:
        """Return what `verify` finds."""
        with self._in_environment():
            return [finding.problem for finding in verify(self.settings()) if finding.problem]

    def _config(self, arguments) -> list[str]:
        takes_none = arguments[0].startswith("-") or arguments[0] == "prices" or arguments == ("config", "schema")
        return [] if takes_none else ["--config", str(self.config)]


def finished(process: multiprocessing.Process) -> int:
    """Wait for the end of a process; return its exit code."""
    process.join()
    return process.exitcode


@contextmanager
def reading(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to the catalog of a warehouse, whatever store it is in."""
    if store.local:
        with connected(store.local / CATALOG_NAME) as connection:
            yield connection
        return
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / CATALOG_NAME
        if content := store.read(store.at(CATALOG_NAME)):
            copy.write_bytes(content)
        with duckdb.connect(copy, read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            store.connect(connection)
            yield connection


@contextmanager
def connected(catalog: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection that sees a catalog as one sees it that is connected to it alone."""
    connection = plain_duckdb()
    connection.execute(f"attach '{catalog}' as warehouse (read_only)")
    try:
        connection.execute("use warehouse")
        yield connection
    finally:
        connection.execute("use memory")
        connection.execute("detach warehouse")


@cache
def plain_duckdb() -> duckdb.DuckDBPyConnection:
    """Return DuckDB without nimble-etl, one for all readers of a process: a new one takes 15 ms of CPU."""
    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    connection.execute("set enable_external_file_cache = false")  # tests damage files in place
    return connection


KIND = "disk"
"""Of the store that jobs have their warehouses in, if a test says nothing else: `pytest --store`."""


def job_at(directory: Path, studio: EmbeddedStudio, **configuration: Any) -> Job:
    """Return a job whose source is a running studio."""
    configuration = {"kind": KIND, **configuration}
    return Job(directory, studio.endpoint_url, studio.credentials, **configuration)


def _child(arguments, environment, log, errors=None):
    """Be the command line, with no variable that decides anything but those given, and a failpoint for all jobs.

    What forks the children keeps the environment of the test that was the first to start one.
    """
    if ahead_s := environment.pop(CLOCK_AHEAD, None):
        _set_clock(dt.timedelta(seconds=float(ahead_s)))
    for name in list(os.environ):
        decides = name.startswith(("AWS_", "NIMBLE_ETL_")) or name.upper().endswith(("_PROXY", "_BUNDLE"))
        if decides and name != killpoints.VARIABLE:
            del os.environ[name]
    os.environ.update(environment)
    for stream, path in ((1, log), (2, errors or log)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may ignore it
    sys.argv = ["nimble-etl", *arguments]
    etl.cli.main()


def run_in(directory, arguments, environment, log, user=None):
    """Run the command line in a directory, as this user or as nobody."""
    os.chdir(directory)
    if user and not os.geteuid():
        os.setgid(65534)
        os.setuid(65534)
    _child(arguments, environment, log)


def _set_clock(ahead: dt.timedelta) -> None:
    """Make `datetime.now` of this process say another time. Signatures are refused from five minutes on."""
    true = dt.datetime

    class Clock(true):
        @classmethod
        def now(cls, tz=None):
            return true.now(tz) + ahead

    dt.datetime = Clock
