"""The process that a command runs in: its streams, its log, its signals, and what the interpreter is told at start."""

import gc
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

from etl.events import listening

if TYPE_CHECKING:
    from etl.pipeline.walks import Stop


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


def prepare() -> None:
    """Tell the interpreter and its libraries what a command needs, before they are imported."""
    open_streams()
    sys.meta_path.insert(0, _WithoutPandas())
    # Arrow's own allocator keeps what it once had, 50 MB and more; read when pyarrow is imported.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # pyarrow imports numpy; without this, its linear algebra starts threads that spin for 0.1 s of CPU, for nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Records come by the thousand and hold no cycles: looking for cycles every 700 objects was a third of flattening.
    gc.set_threshold(50_000)


def set_up_logging(level: int, log_format: LogFormat) -> None:
    """Write log lines to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format))
    logging.basicConfig(level=level, handlers=[handler])
    # At DEBUG these write session tokens, signatures and response bodies; urllib3's warnings, whole URLs.
    for name in ("botocore", "boto3", "uvicorn"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.getLogger("urllib3").setLevel(logging.ERROR)


class _Descriptor(io.FileIO):
    """A file whose reader may go away (`| head`): what it no longer wants is dropped."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def open_streams() -> None:
    """Make standard output and standard error safe to write to, whatever the job was started with.

    A result is not lost with its reader: the exit code stays, and what follows the printing happens. A character that
    the encoding does not have becomes an escape.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # or the next file to be opened would get the number, and the output
    sys.stdin = sys.stdin or io.StringIO()
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        former = getattr(sys, name)
        stream = io.TextIOWrapper(
            io.BufferedWriter(_Descriptor(descriptor, "w", closefd=False)),
            encoding=former.encoding if former else "utf-8",
            errors="backslashreplace",
            line_buffering=former.line_buffering if former else False,
        )
        setattr(sys, name, stream)


@contextmanager
def stopped_by_signals() -> Iterator["Stop"]:
    """Yield a stop that SIGTERM, SIGINT and SIGHUP set: the page in flight is finished, then the run ends."""
    from etl.pipeline.walks import Stop  # noqa: PLC0415

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
def progress() -> Iterator[None]:
    """Show progress: bars on a terminal, a log line for every hundredth page elsewhere."""
    from etl.observe.progress import bars, lines  # noqa: PLC0415

    with bars() if sys.stderr.isatty() else lines() as listener, listening(listener):
        yield


def _formatter(log_format: LogFormat) -> logging.Formatter:
    line, time = "%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"
    if log_format is LogFormat.TEXT:
        return logging.Formatter(line, time)
    from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415

    return JsonFormatter(f"{line} %(name)s", time, rename_fields={"asctime": "time", "levelname": "level"})
