"""The process of a command: interpreter settings, streams, log, signals and progress."""

import io
import logging
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from etl import interpreter
from etl.cli.output import one_line
from etl.errors import MachineError, StorageError
from etl.events import Listener, listening, worked_on
from etl.observe.progress import log_pages

if TYPE_CHECKING:
    from etl.pipeline.walks import Stop


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


def prepare() -> None:
    """Set up streams and the interpreter. Must be called before the libraries are imported."""
    open_streams()
    interpreter.set_up()


class QuickEnd:
    """Ends the process with its `exit_code` before Python takes the interpreter down; register it with atexit first.

    Taking it down costs a tenth of a quick command, and DuckDB 2.0 then prints which of its objects are left over.
    """

    exit_code = 1
    """Unless somebody sets it, something was raised that nobody foresaw."""

    def __call__(self) -> None:
        """Write what is left to be written, and end."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.exit_code)


def set_up_logging(level: int, log_format: LogFormat) -> None:
    """Write log lines to stderr."""
    line, time = "%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"
    formatter: logging.Formatter = _Lines(line, time)
    if log_format is LogFormat.JSON:
        from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415

        formatter = JsonFormatter(f"{line} %(name)s", time, rename_fields={"asctime": "time", "levelname": "level"})
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    if log_format is LogFormat.JSON:
        handler.addFilter(_with_place)
        sys.stderr = _JsonLines()
    handler.addFilter(_without_tracebacks_of_libraries)
    logging.basicConfig(level=level, handlers=[handler])
    # Their debug lines contain session tokens, signatures and response bodies. urllib3's warnings contain whole URLs.
    for name in ("botocore", "boto3", "uvicorn"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    # It warns of what it then raises, and of renewals that it tries again: if they matter, they end as errors of ours.
    for name in ("urllib3", "botocore.credentials"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _with_place(record: logging.LogRecord) -> bool:
    """Add to a log line what its thread works on."""
    for name, value in worked_on().items():
        setattr(record, name, value)
    return True


class _JsonLines(io.TextIOBase):
    """Takes the place of standard error, so that errors and tracebacks are JSON too: each text is one log line."""

    def __init__(self) -> None:
        self._text = ""

    def write(self, text: str) -> int:
        self._text += text
        if self._text.endswith("\n"):
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Write what has arrived so far."""
        text, self._text = self._text.strip(), ""
        if text:
            logging.getLogger("stderr").error("%s", text)


def _without_tracebacks_of_libraries(record: logging.LogRecord) -> bool:
    """Take the traceback from what the AWS libraries warn of: what matters comes back as an error of ours."""
    if record.name.startswith(("botocore", "boto3", "urllib3")):
        record.exc_info = None
    return True


class _Lines(logging.Formatter):
    """Writes each message on one line, whatever a server has put into it. A traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  its name in logging
        record.message = one_line(record.message)
        return super().formatMessage(record)


class _Descriptor(io.FileIO):
    """A file that drops its output after its reader has gone away (`| head`), or after the disk has refused some.

    `lost` says why, if it was not the reader. A job goes on: what it prints is less than what it does.
    """

    lost = ""

    def write(self, data: Any) -> int:
        while not self.lost:
            try:
                written = super().write(data)
            except BrokenPipeError:
                break
            except OSError as exc:
                self.lost = exc.strerror or str(exc)
                break
            if written is not None:
                return written
            select.select([], [self], [])  # somebody has set it to refuse what would have to wait
        return len(data)


def lost_output() -> StorageError | None:
    """Return why standard output is not whole; None if it is, or if its reader has gone away."""
    sys.stdout.flush()
    file = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(file, _Descriptor) or not file.lost:
        return None
    return StorageError(f"standard output: {file.lost}; what was printed is not whole: make room, then ask again")


_FILES, _USUAL_FILES = 256, 1024
"""Open files that a command may need, and what systems allow a process as a rule. DuckDB opens all files of a query."""


def check_limits() -> None:
    """Make sure of open files and threads. Without them, libraries abort, or say that the warehouse is damaged.

    Raises:
        MachineError: the machine allows too few.
    """
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _USUAL_FILES if most == resource.RLIM_INFINITY else min(most, _USUAL_FILES)
    if files != resource.RLIM_INFINITY and files < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    if wanted < _FILES:
        raise MachineError(
            f"this process may have {most} open files; expected at least {_FILES}: raise the limit (`ulimit -n`), "
            "then run again"
        )
    gate, threads, wanted = threading.Event(), list[threading.Thread](), 16 + 2 * (os.cpu_count() or 1)
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=gate.wait)
            thread.start()
            threads.append(thread)
    except RuntimeError as exc:
        raise MachineError(
            f"this process may start {len(threads)} threads; expected at least {wanted}: raise the limit of processes "
            "(`ulimit -u`), or end some, then run again"
        ) from exc
    finally:
        gate.set()
        for thread in threads:
            thread.join()


def open_streams() -> None:
    """Make standard output and standard error safe to write to, even if they are closed.

    If the reader goes away, the command still finishes and keeps its exit code. Characters that the encoding lacks are
    escaped.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # otherwise the next opened file would get this number and the output
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
    """Yield a stop that SIGTERM, SIGINT and SIGHUP set. The run then finishes the pages in flight and ends."""
    from etl.pipeline.walks import Stop  # noqa: PLC0415

    stop = Stop()

    def on_signal(number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        logging.getLogger(__name__).warning("%s: finishing the pages in flight; run again to continue", name)
        stop.by_deadline = False
        stop.set()

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def progress(expected: Callable[[], Mapping[str, int]] = dict) -> Iterator[None]:
    """Show progress: bars on a terminal, a log line for every hundredth page elsewhere.

    `expected` returns slice id -> how many pages the slice may have. It is called for bars only.
    """
    shown: AbstractContextManager[Listener] = nullcontext(log_pages)
    if sys.stderr.isatty():
        from etl.observe.bars import bars  # noqa: PLC0415  a night without a terminal needs no rich

        shown = bars(expected())
    with shown as listener, listening(listener):
        yield
