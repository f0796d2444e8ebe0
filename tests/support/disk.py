"""Processes of a job whose disk can be made to fail, or is written down, below everything that they are made of.

The shim of `tests/faults/disk/shim.c` is compiled by zig, which comes as a wheel, and preloaded into a server that has
imported what a job needs. The server forks a child for each command: a start costs milliseconds.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SHIM = Path(__file__).parents[1] / "faults" / "disk" / "shim.c"
LONGEST_S = 120
"""After so long a command hangs; it is killed, and exits with -SIGALRM."""

CLASSES = ("write", "sync", "open", "name", "close", "lock", "")
"""As the shim counts operations; the last for steps of the program itself."""

_EVENT = struct.Struct("IIIIIIQQQ")


@dataclass(frozen=True, slots=True)
class Fault:
    """Operation `number` of a class fails with `error`; 0 makes a write short."""

    kind: str
    number: int
    error: int = errno.EIO
    for_ever: bool = False

    def __str__(self) -> str:
        what = errno.errorcode.get(self.error, "short")
        return f"{self.kind}-{self.number}-{what}-{'for_ever' if self.for_ever else 'once'}"


@dataclass(frozen=True, slots=True)
class Event:
    """One operation of a trace, the so-manieth of its class; `kind` as in the shim's struct event."""

    kind: str
    group: str
    number: int
    path: str
    second: str
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code, what it printed, and the operations that were made to fail."""

    exit_code: int
    output: str
    failed: list[str]


def compiled_shim(cache: Path) -> Path:
    """Return the shim as a library below `cache`; compiled once, whoever asks at the same time."""
    source = SHIM.read_bytes()
    library = cache / f"shim-{hashlib.sha256(source).hexdigest()[:16]}.so"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            draft = library.with_suffix(".new")
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "ziglang",
                    "cc",
                    "-shared",
                    "-fPIC",
                    "-O2",
                    "-Wall",
                    "-Werror",
                    "-o",
                    draft,
                    SHIM,
                ],
                env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": f"{cache}/zig", "ZIG_LOCAL_CACHE_DIR": f"{cache}/zig"},
                check=True,
            )
            draft.rename(library)
    return library


def read_trace(path: Path) -> Iterator[Event]:
    """Yield the operations of a trace in their order."""
    with path.open("rb") as file:
        while header := file.read(_EVENT.size):
            kind, group, number, path_size, second_size, _, inode, offset, data_size = _EVENT.unpack(header)
            path, second = file.read(path_size).decode(), file.read(second_size).decode()
            yield Event(chr(kind), CLASSES[group], number, path, second, inode, offset, file.read(data_size))


class Disk:
    """Runs commands of jobs, one at a time, under the shim; a context manager.

    Args:
        shim: the compiled library.
        scratch: a directory outside every job, for logs and traces.
    """

    def __init__(self, shim: Path, scratch: Path) -> None:
        self._scratch = scratch
        tests = str(Path(__file__).parents[1])
        paths = [tests, str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        self._server = subprocess.Popen(
            [sys.executable, "-m", "support.disk"],
            env={**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def run(self, job, *arguments: str, fault: Fault | None = None, trace: Path | None = None) -> Ended:
        """Run the command line on a job, with a fault or a trace of what it does in the job's directory."""
        log, report = self._scratch / "log", self._scratch / "report"
        for file in (log, report):
            file.write_bytes(b"")
        environment = {**job.environment, "DISK_REPORT": str(report)}
        if fault or trace:
            environment["DISK_WATCH"] = str(job.directory.resolve())
        if fault:
            environment["DISK_FAIL"] = f"{fault.kind} {fault.number} {fault.error} {0 if fault.for_ever else 1}"
        if trace:
            environment["DISK_TRACE"] = str(trace)
        order = {"arguments": [*arguments, "--config", str(job.config)], "environment": environment, "log": str(log)}
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        exit_code = int(self._server.stdout.readline())
        return Ended(exit_code, log.read_text(), report.read_text().splitlines())


def _serve() -> None:
    """Fork a child for each line of standard input, and answer with its exit code."""
    import etl.cli.app  # noqa: PLC0415  the parent of every child imports; who reads traces need not
    import etl.configlayers  # noqa: PLC0415
    import etl.observe.progress  # noqa: PLC0415
    import support.job  # noqa: PLC0415
    import support.warm  # noqa: F401, PLC0415

    for line in sys.stdin:
        if child := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        else:
            _become(**json.loads(line))
            etl.cli.main()


def _become(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """Be a process that was started with these arguments and this environment."""
    signal.alarm(LONGEST_S)
    os.environ.update(environment)
    sys.argv = ["nimble-etl", *arguments]
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    shim = ctypes.CDLL(None)
    _mark_steps(shim)
    shim.disk_orders()


def _mark_steps(shim: ctypes.CDLL) -> None:
    """Put the named steps of `etl.events` into the trace."""
    import etl.events  # noqa: PLC0415  as above

    def on_event(event: object) -> None:
        if isinstance(event, etl.events.Reached):
            shim.disk_mark(event.step.encode())

    etl.events._LISTENERS.append(on_event)


if __name__ == "__main__":
    _serve()
