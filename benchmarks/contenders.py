"""Who exports: nimble-etl, its peers, and the floor. Each is a command in an environment of its own."""

import datetime as dt
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bucket import BUCKET, REGION
from etl.emulator import EmbeddedStudio

HERE = Path(__file__).absolute().parent
ROOT = HERE.parent
PEERS_BIN = ROOT / ".venv-bench" / "bin"
DATE = dt.date(2024, 6, 1)
"""Of every export: a past one, whatever the clock of the machine says."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process cost."""

    exit_code: int
    cpu_s: float
    wall_s: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who exports into a directory.

    Attributes:
        name: as in the table.
        command: from the output directory to what is run.
    """

    name: str
    command: Callable[[Path], Sequence[str | Path]]


def measure(command: Sequence[str | Path], **environment: str) -> Usage:
    """Run a command as a process of its own and return what it cost. It may end well, or kill itself."""
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "usage.json"
        output = Path(directory) / "output"
        with output.open("wb") as file:
            subprocess.run(
                [sys.executable, "-S", HERE / "measure.py", result, *command],
                # As an installed package has it: without bytecode, each process would compile what it imports.
                cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment}, stdout=file,
                stderr=subprocess.STDOUT, check=True,
            )  # fmt: skip
        usage = Usage(**json.loads(result.read_text()))
        if usage.exit_code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{' '.join(map(str, command))}: exit code {usage.exit_code}\n{output.read_text()}")
        return usage


def count_instructions(command: Sequence[str | Path], **environment: str) -> int | None:
    """Return how many instructions a command executes, which no neighbour on the machine changes.

    The processor counts them (`perf stat`). Where a virtual machine hides its counters, callgrind does, which takes 50
    times as long and knows no instructions of cryptography. None: neither is there.
    """
    with tempfile.TemporaryDirectory() as directory:
        told = Path(directory) / "told"
        hashes = {"PYTHONHASHSEED": "1", "PYTHONDONTWRITEBYTECODE": ""}
        for counter, pattern in (
            (["perf", "stat", "-x;", "-e", "instructions:u", "-o", told], r"^(\d+);"),
            (["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={told}"],
             r"Collected : (\d+)"),
        ):  # fmt: skip
            if shutil.which(str(counter[0])) is None:
                continue
            subprocess.run(
                [*counter, *command], cwd=ROOT, env={**os.environ, **hashes, **environment}, check=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            if found := re.search(pattern, told.read_text(), re.MULTILINE):
                return int(found[1])
    return None


def _peer(name: str) -> Callable[[Path], Sequence[str | Path]]:
    return lambda out: [PEERS_BIN / "python", HERE / "peers" / f"{name}.py", out]


def nimble(out: Path, *arguments: str, module: str = "etl", marts: bool = False) -> Sequence[str | Path]:
    """Return the command of one night of nimble-etl in a directory, or of another of its commands.

    Marts are left out where it stands beside peers, for they make none.
    """
    config = out / "config.yaml"
    datasets = "[studios, streaming_sessions]" if marts else "[streaming_sessions]"
    config.write_text(
        "source: {endpoint_url: null, account_id: '123456789012'}\n"
        f"datasets: {datasets}\nrun: {{concurrency: 16}}\n"
        f"marts: {{build: {str(marts).lower()}}}\n"
    )
    job = arguments or ("run", "--snapshot-date", DATE.isoformat())
    return [sys.executable, "-m", module, *job, "--config", config]


NIMBLE = Contender("nimble-etl", nimble)
SCRIPT = Contender("script", _peer("script"))
DLT = Contender("dlt", _peer("dlt_peer"))
SINGER = Contender("singer", _peer("singer"))
FLOOR = Contender("floor", _peer("floor"))
LOOP = Contender("loop", _peer("loop"))


@contextmanager
def bucket() -> Iterator[dict[str, str]]:
    """Yield the environment that leads nimble-etl to a warehouse in a bucket, served by a process of its own."""
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.bucket"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        settings = {
            "PATH": f"s3://{BUCKET}/warehouse",
            "S3__ENDPOINT_URL": server.stdout.readline().strip(),
            "S3__ADDRESSING": "path",
            "S3__REGION": REGION,
        }
        yield {f"NIMBLE_ETL_WAREHOUSE__{name}": value for name, value in settings.items()}
    finally:
        server.terminate()
        server.wait()


@contextmanager
def studio(recording: Path, sessions: int, studios: int = 1, latency_ms: float = 0) -> Iterator[dict[str, str]]:
    """Yield the environment that leads boto3 to a studio of so many sessions, served by a process of its own."""
    options = {"recording": recording, "sessions": sessions, "studios": studios, "latency-ms": latency_ms}
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.studio", *(f"--{name}={value}" for name, value in options.items())],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        key, secret = EmbeddedStudio.credentials
        yield {
            "AWS_ENDPOINT_URL": server.stdout.readline().strip(),
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-west-2",
            "AWS_DATA_PATH": str(ROOT / "etl" / "extract" / "service_models"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }
    finally:
        server.terminate()
        server.wait()
