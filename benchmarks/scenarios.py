"""The scenarios: each measures one or more lines of the table, on a directory and a studio of its own."""

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contenders import (
    DATE,
    DLT,
    FLOOR,
    HERE,
    LOOP,
    NIMBLE,
    PEERS_BIN,
    ROOT,
    SCRIPT,
    SINGER,
    Contender,
    Usage,
    bucket,
    count_instructions,
    measure,
    nimble,
    studio,
)  # fmt: skip
from benchmarks.content import count_differences, session_files
from benchmarks.demo_scale import SPARK, on_spark
from benchmarks.nights import spend_nights
from benchmarks.studio import PAGE_SESSIONS, record
from benchmarks.table import Row, at_least, at_most
from etl.read.query import ask, bind
from etl.sqlfiles import sql_files
from etl.storage.disk import Disk

CACHE = ROOT / ".bench"
_WHOLE = 200_000
"""Sessions from which on the slowest peer takes part too."""
_LATENCY_MS = 40
_ANSWER_MS = 100
_NOISY = 1.25
"""If repetitions of one process differ by more, its neighbours are measured, too."""
_SHOWN_ROWS = 8_000
_ON_A_TERMINAL = (
    sys.executable, "-c", "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
)  # fmt: skip

_LIBRARIES = {
    "`--help`": "typer",
    "`status`": "typer, pydantic, pyarrow, deltalake, duckdb",
    "a night": "typer, pydantic, pyarrow, deltalake, duckdb, boto3, msgspec, tenacity",
}
"""What a command imports besides nimble-etl, the limit of its start-up."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a scenario works, and how much.

    Attributes:
        directory: empty, and removed afterwards.
        sessions: how many are exported, where the scenario does not say.
        repetitions: of which the median counts.
    """

    directory: Path
    sessions: int
    repetitions: int

    def fresh(self, name: str) -> Path:
        """Return an empty directory."""
        path = self.directory / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path


def recording(sessions: int) -> Path:
    """Return the recording of so many sessions, made if it is not there yet."""
    path = CACHE / f"pages-{sessions}"
    if not path.exists():
        say(f"recording {sessions:,} sessions")
        CACHE.mkdir(exist_ok=True)
        record(path, sessions)
    return path


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def ratios(bench: Bench) -> list[Row]:
    """Whole processes side by side: CPU, memory, bytes, and the same content."""
    slowest = [SINGER] if bench.sessions >= _WHOLE else []
    usages = _side_by_side(bench, [NIMBLE, FLOOR, SCRIPT, DLT, *slowest])
    cpu_us = {name: median(usage.cpu_s for usage in some) / bench.sessions * 1e6 for name, some in usages.items()}
    own = cpu_us.pop("nimble-etl")
    rows = [
        at_least(f"CPU per session, {bench.sessions:,} sessions, against {name}", limit, cpu_us[name] / own,
                 detail=f" ({own:.0f} µs : {cpu_us[name]:.0f} µs)")
        for name, limit in (("script", 12), ("dlt", 15))
    ]  # fmt: skip
    rows += [
        Row(f"… against {peer.name}", "", f"{cpu_us[peer.name] / own:.1f} times ({cpu_us[peer.name]:.0f} µs)")
        for peer in slowest
    ]
    rows.append(
        at_most("… against the floor", 2.0, own / cpu_us["floor"], "{:.2f} times", f" ({cpu_us['floor']:.0f} µs)")
    )
    differences = {
        name: count_differences(("nimble-etl", bench.directory / "nimble-etl"), (name, bench.directory / name))
        for name in cpu_us
    }
    merged = differences.pop("dlt") // 2  # it makes columns of tags, and its names for them merge `Name` and `name`
    rows.append(
        Row("rows whose content differs from nimble-etl's", "0",
            ", ".join(f"{name} {count}" for name, count in differences.items()) + f" (dlt {merged}: merged tags)",
            not any(differences.values()))
    )  # fmt: skip
    return [*rows, *_bytes_per_row(bench), *_peaks(usages), _noise(usages)]


def instructions(bench: Bench) -> list[Row]:
    """Count what each further session costs in instructions: a busy machine changes nothing about that."""
    few, many = 200, 5_000
    costs: dict[str, float] = {}
    counted = Contender("nimble-etl", partial(nimble, module="benchmarks.counted"))
    for contender in (counted, FLOOR, SCRIPT, DLT):
        counts = []
        for sessions in (few, many):
            with studio(recording(sessions), sessions) as environment:
                measure(contender.command(bench.fresh(contender.name)), **environment)  # which compiles what it imports
                command = contender.command(bench.fresh(contender.name))
                counts.append(count_instructions(command, **environment))
            say(f"{contender.name}, {sessions:,} sessions: {counts[-1]} instructions")
        if None in counts:
            return [Row("instructions a session", "", "not counted: neither `perf stat` nor valgrind works here")]
        costs[contender.name] = (counts[1] - counts[0]) / (many - few)
    own = costs["nimble-etl"]
    return [
        *(at_least(f"instructions a session, against {name}", limit, costs[name] / own,
                   detail=f" ({own / 1000:.0f} k : {costs[name] / 1000:.0f} k)")
          for name, limit in (("script", 12), ("dlt", 15))),
        at_most("… against the floor", 2.0, own / costs["floor"], "{:.2f} times", f" ({costs['floor'] / 1000:.0f} k)"),
    ]  # fmt: skip


def _side_by_side(bench: Bench, contenders: Sequence[Contender]) -> Mapping[str, list[Usage]]:
    """Return what each contender costs each time; they take turns, so that a busy machine is busy for all."""
    usages: dict[str, list[Usage]] = {contender.name: [] for contender in contenders}
    with studio(recording(bench.sessions), bench.sessions) as environment:
        for repetition in range(bench.repetitions):
            for contender in contenders:
                usage = measure(contender.command(bench.fresh(contender.name)), **environment)
                usages[contender.name].append(usage)
                say(f"{repetition + 1}/{bench.repetitions} {contender.name}: {usage.cpu_s:.1f} s of CPU")
    return usages


def _bytes_per_row(bench: Bench) -> list[Row]:
    """Return the Parquet bytes of a session with its tags. The script has those in a file of their own."""

    def size(name: str) -> float:
        out = bench.directory / name
        files = [*session_files(name, out), *([out / "tags.parquet"] if name == "script" else [])]
        return sum(Path(file).stat().st_size for file in files) / bench.sessions

    own = size("nimble-etl")
    return [
        at_most(f"bytes per session in Parquet, tags included, against {name}", 0.62, own / size(name), "{:.2f} times",
                f" ({own:.0f} : {size(name):.0f})")
        for name in ("script", "dlt")
    ]  # fmt: skip


def _peaks(usages: Mapping[str, Sequence[Usage]]) -> list[Row]:
    peaks = ", ".join(f"{name} {median(usage.peak_mib for usage in some):.0f}" for name, some in usages.items())
    return [Row("peak memory of each, MiB", "", peaks)]


def _noise(usages: Mapping[str, Sequence[Usage]]) -> Row:
    """Return how much the repetitions of one contender differ: if by much, no ratio of this run says anything."""
    spread, name = max(
        (max(usage.cpu_s for usage in some) / min(usage.cpu_s for usage in some), name) for name, some in usages.items()
    )
    row = at_most("CPU of one contender, slowest to quickest repetition", _NOISY, spread, "{:.2f} times", f" ({name})")
    return row if row.is_met else replace(row, measured=f"{row.measured}: too noisy to judge")


def memory(bench: Bench) -> list[Row]:
    """Peak memory, and that it does not grow with the studio."""
    peaks = {}
    for sessions in (200_000, 2_000_000):
        say(f"{sessions:,} sessions")
        samples = bench.directory / f"{sessions}.csv"
        with studio(recording(200_000), sessions) as environment:
            command = nimble(bench.fresh("nimble-etl"), module="benchmarks.sampled")
            peaks[sessions] = measure(command, **environment, SAMPLES=str(samples)).peak_mib
    subprocess.run(
        [PEERS_BIN / "python", HERE / "picture.py", bench.directory / "2000000.csv", HERE / "memory.png"], check=True
    )
    grown = peaks[2_000_000] / peaks[200_000]
    return [
        at_most("peak memory, 200,000 sessions", 270, peaks[200_000], "{:.0f} MiB"),
        at_most("peak memory, 2,000,000 sessions", 290, peaks[2_000_000], "{:.0f} MiB", f" ({grown:.2f} times)"),
    ]  # fmt: skip


def latency(bench: Bench) -> list[Row]:
    """Wall time where the source takes 40 ms to answer, and what is left to do after a kill near the end."""
    rows = []
    pages = bench.sessions // PAGE_SESSIONS
    with studio(recording(bench.sessions), bench.sessions, latency_ms=_LATENCY_MS) as environment:
        usages, pauses_ms = [], {}
        for contender in (NIMBLE, FLOOR, LOOP):
            usages.append(measure(contender.command(bench.fresh(contender.name)), **environment))
            pauses_ms[contender.name] = median(_told(environment, "pauses")) * 1000
        whole, floor, loop = usages
        waited_s = pages * _LATENCY_MS / 1000
        rows.append(
            at_most("wall time, 40 ms latency, one studio, to pages x latency", 1.04, whole.wall_s / waited_s,
                    "{:.3f} times", f" ({whole.wall_s:.1f} s : {waited_s:.0f} s)")
        )  # fmt: skip
        rows.append(Row("… of the floor", "", f"{floor.wall_s / waited_s:.3f} times ({floor.wall_s:.1f} s)"))
        rows.append(
            Row("… of a loop that keeps nothing", "", f"{loop.wall_s / waited_s:.3f} times ({loop.wall_s:.1f} s)")
        )
        rows.append(
            Row("… from an answer to the next request, median", "",
                ", ".join(f"{name} {pause:.1f} ms" for name, pause in pauses_ms.items()))
        )  # fmt: skip
    with studio(recording(bench.sessions), bench.sessions, latency_ms=_LATENCY_MS) as environment:
        # The page of ListStudios is the first.
        command, stored = nimble(bench.fresh("killed")), pages * 9 // 10
        killed = measure(command, **environment, NIMBLE_ETL_FAILPOINT=f"page.stored:{stored + 1}")
        assert killed.exit_code < 0
        asked_before = _requests(environment)
        resumed = measure(command, **environment)
        asked_after = _requests(environment)[len(asked_before) :]
        assert len(asked_after) == pages - stored  # one of them was under way when the job was killed
        again = len({*asked_before[:stored]} & {*asked_after})
        rows += [
            at_most("resume after a kill at 90 %, to the wall time of the whole", 0.13, resumed.wall_s / whole.wall_s,
                    "{:.3f} times", f" ({resumed.wall_s:.1f} s : {whole.wall_s:.1f} s)"),
            Row("… stored pages fetched again", "0", str(again), again == 0),
        ]  # fmt: skip
    with studio(recording(bench.sessions), bench.sessions, studios=40, latency_ms=_LATENCY_MS) as environment:
        many = measure(nimble(bench.fresh("many")), **environment)
        bound_s = max(waited_s / 16, many.cpu_s)
        rows.append(
            at_most("wall time, 40 ms latency, 40 studios, concurrency 16, to the larger of waiting and CPU", 1.15,
                    many.wall_s / bound_s, "{:.2f} times", f" ({many.wall_s:.1f} s : {waited_s / 16:.1f} s waiting, "
                    f"{many.cpu_s:.1f} s of CPU)")
        )  # fmt: skip
    return rows


def checkpoints(bench: Bench) -> list[Row]:
    """What the ledger costs: the same job with pages that stay in memory."""
    with_ledger, without = Contender("with", nimble), Contender("without", _without_ledger)
    usages = _side_by_side(bench, [with_ledger, without])
    on, off = (median(usage.cpu_s for usage in usages[name]) for name in ("with", "without"))
    detail = f" ({on:.1f} s : {off:.1f} s)"
    return [at_most("CPU of checkpoints, to the rest", 0.15, on / off - 1, "{:.1%}", detail), _noise(usages)]


def startup(bench: Bench) -> list[Row]:
    """CPU of commands that have little to do."""
    rows = []
    with studio(recording(20_000), 100) as environment:
        for marts in (False, True):
            cpu_s = median(
                measure(nimble(bench.fresh("small"), marts=marts), **environment).cpu_s
                for _ in range(bench.repetitions)
            )
            if marts:
                rows.append(Row("… with marts, checks and dictionary", "", f"{cpu_s:.2f} s"))
            else:
                rows.append(at_most("CPU of a night of 100 sessions", 0.9, cpu_s, "{:.2f} s"))
    with studio(recording(20_000), _SHOWN_ROWS) as environment:
        out = bench.fresh("nimble-etl")
        measure(nimble(out), **environment)
    query = nimble(out, "sql", "from streaming_sessions")
    for name, command, limit in (
        ("`--help`", nimble(out, "--help")[:4], 0.08),
        ("`status`", nimble(out, "status"), 0.3),
        (f'`sql "from streaming_sessions"`, {_SHOWN_ROWS:,} rows, on a terminal', [*_ON_A_TERMINAL, *query], 1.0),
    ):
        cpu_s = median(measure(command).cpu_s for _ in range(2 * bench.repetitions + 1))
        rows.append(at_most(f"CPU of {name}", limit, cpu_s, "{:.2f} s"))
    for name, libraries in _LIBRARIES.items():
        command = [sys.executable, "-c", f"from etl.interpreter import set_up; set_up(); import {libraries}"]
        cpu_s = median(measure(command).cpu_s for _ in range(2 * bench.repetitions + 1))
        rows.append(Row(f"CPU of importing libraries for {name}: {libraries}", "", f"{cpu_s:.2f} s"))
    return rows


def slices(bench: Bench) -> list[Row]:
    """CPU of many small studios beside that of a few large ones with as many sessions."""
    cpu_s: dict[int, list[float]] = {10: [], 1_000: []}
    with ExitStack() as running:
        places = {
            studios: running.enter_context(studio(recording(100_000), 100_000, studios=studios)) for studios in cpu_s
        }
        for _ in range(bench.repetitions):
            for studios, environment in places.items():
                cpu_s[studios].append(measure(nimble(bench.fresh("nimble-etl")), **environment).cpu_s)
    few_s, many_s = map(median, cpu_s.values())
    return [
        at_most("CPU of 1,000 studios of 100 sessions, to 10 of 10,000", 1.5, many_s / few_s, "{:.2f} times",
                f" ({many_s:.1f} s : {few_s:.1f} s)")
    ]  # fmt: skip


def unchanged(bench: Bench) -> list[Row]:
    """CPU of a night in which nothing has changed, beside that of the first."""
    first, second = [], []
    with studio(recording(20_000), 20_000) as environment:
        for _ in range(bench.repetitions):
            out = bench.fresh("nimble-etl")
            first.append(measure(nimble(out), **environment).cpu_s)
            following = (DATE + dt.timedelta(days=1)).isoformat()
            second.append(measure(nimble(out, "run", "--snapshot-date", following), **environment).cpu_s)
    return [
        Row("CPU of a night of 20,000 sessions of which none has changed, to the first night", "",
            f"{median(second) / median(first):.2f} times ({median(second):.2f} s : {median(first):.2f} s)")
    ]  # fmt: skip


def objects(bench: Bench) -> list[Row]:
    """CPU of a night whose warehouse is in a bucket, beside one on a disk."""
    cpu_s: dict[str, list[float]] = {"disk": [], "bucket": []}
    with studio(recording(200_000), 200_000) as environment:
        for _ in range(bench.repetitions):
            cpu_s["disk"].append(measure(nimble(bench.fresh("disk")), **environment).cpu_s)
            with bucket() as place:
                cpu_s["bucket"].append(measure(nimble(bench.fresh("bucket")), **environment, **place).cpu_s)
    disk_s, bucket_s = median(cpu_s["disk"]), median(cpu_s["bucket"])
    return [
        at_most("CPU of a night of 200,000 sessions into a bucket, to a disk", 1.2, bucket_s / disk_s, "{:.2f} times",
                f" ({bucket_s:.1f} s : {disk_s:.1f} s)")
    ]  # fmt: skip


def engines(bench: Bench) -> list[Row]:
    """CPU of a night that two worker processes walk and stage, beside threads of one process."""
    cpu_s: dict[str, list[float]] = {"threads": [], "processes": []}
    with studio(recording(200_000), 200_000, studios=40) as environment:
        for _ in range(bench.repetitions):
            for kind, found in cpu_s.items():
                settings = {"KIND": kind, "WORKERS": "2", "TASKS": "8"}
                engine = {f"NIMBLE_ETL_ENGINE__{name}": value for name, value in settings.items()}
                found.append(measure(nimble(bench.fresh(kind)), **environment, **engine).cpu_s)
        of_spark = _on_spark(bench, environment)
    threads_s, processes_s = median(cpu_s["threads"]), median(cpu_s["processes"])
    return [
        at_most("CPU of a night of 200,000 sessions done by workers, to threads", 1.15, processes_s / threads_s,
                "{:.2f} times", f" ({processes_s:.1f} s : {threads_s:.1f} s)"),
        *of_spark,
    ]  # fmt: skip


def _on_spark(bench: Bench, environment: Mapping[str, str]) -> list[Row]:
    """Return what workers and JVM take for the same night on a Spark of this machine; nothing without a Spark."""
    if not (SPARK / "run").exists():
        return []
    engine = {"NIMBLE_ETL_ENGINE__KIND": "spark", "NIMBLE_ETL_ENGINE__TASKS": "8"}
    spent: dict[str, dict[str, int]] = {f"{SPARK}/pyspark/jars": {}, "pyspark.daemon": {}}
    is_over = threading.Event()

    def watch() -> None:
        """Write down what each process has spent without its children: Spark ends its workers uncounted."""
        while not is_over.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):  # it has ended
                    command = (process / "cmdline").read_bytes().decode(errors="replace")
                    for name in (name for name in spent if name in command):
                        fields = (process / "stat").read_text().rpartition(")")[2].split()
                        spent[name][process.name] = int(fields[11]) + int(fields[12])

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            measure(nimble(bench.fresh("spark")), **environment, **engine, **on_spark("local[2]"))
        finally:
            is_over.set()
        watching.result()
    jvm_s, workers_s = (sum(ticks.values()) / os.sysconf("SC_CLK_TCK") for ticks in spent.values())
    return [Row("… its workers on Spark, and the JVM beside them", "", f"{workers_s:.1f} s, {jvm_s:.1f} s of the JVM")]


def nights(bench: Bench) -> list[Row]:
    """What a night costs when a thousand lie before it, and how quickly the catalog of them answers.

    A hundredth of its sessions are not as they were in the night before.
    """
    seed, spent = bench.fresh("seed"), {9: bench.fresh("spent-9"), 999: bench.fresh("spent-999")}
    usages: dict[str, list[Usage]] = {"night 10": [], "night 1,000": []}
    with studio(recording(20_000), 20_000) as environment:
        measure(nimble(seed, marts=True), **environment)
        for count, directory in spent.items():
            say(f"{count} nights")
            spend_nights(directory / "warehouse", seed / "warehouse", DATE, count)
            measure(nimble(directory, "catalog", marts=True))  # which makes the packs
        for _ in range(2 * bench.repetitions + 1):
            for directory, taken in zip(spent.values(), usages.values(), strict=True):
                out = bench.fresh("night")
                shutil.copytree(directory, out, dirs_exist_ok=True)
                command = nimble(out, "run", "--snapshot-date", DATE.isoformat(), marts=True)
                measure(command, **environment, NIMBLE_ETL_FAILPOINT="slice.walked:2")
                taken.append(measure(command, **environment))
    few_s, many_s = (median(usage.cpu_s for usage in taken) for taken in usages.values())
    return [
        at_most("nightly publish, night 1,000 to night 10, 20,000 sessions", 1.10, many_s / few_s, "{:.2f} times",
                f" ({many_s:.1f} s : {few_s:.1f} s of CPU)"),
        _noise(usages),
        *_answers(out / "warehouse", bench.repetitions),
    ]  # fmt: skip


def _answers(warehouse: Path, repetitions: int) -> list[Row]:
    """Return how long each mart (all of its columns) and each named query takes, the slowest."""
    took_ms = {}
    queries: dict[str, tuple[str, dict[str, object]]] = {
        f"mart {name}": (f"select count(columns(*)) from {name}", {}) for name in (*sql_files("marts"), "snapshots")
    }
    queries |= {f"query {name}": (file.text, bind(file, {})) for name, file in sql_files("queries").items()}
    for name, (statement, parameters) in queries.items():
        times = []
        for _ in range(2 * repetitions + 1):
            began = time.perf_counter()
            ask(Disk(warehouse), statement, parameters)
            times.append(time.perf_counter() - began)
        took_ms[name] = median(times) * 1000
    slow = sorted(took_ms, key=lambda name: -took_ms[name])[:5]
    detail = ", ".join(f"{name} {took_ms[name]:.0f} ms" for name in slow)
    met = sum(took < _ANSWER_MS for took in took_ms.values())
    return [
        Row("marts and named queries over 1,000 nights, median of each", f"under {_ANSWER_MS} ms",
            f"{met} of {len(took_ms)} ({detail})", met == len(took_ms))
    ]  # fmt: skip


def _without_ledger(out: Path) -> Sequence[str | Path]:
    return nimble(out, module="benchmarks.without_ledger")


def _requests(environment: Mapping[str, str]) -> list[str]:
    """Return the requests for sessions that a studio was sent."""
    return [request for request in _told(environment, "requests") if "streaming-sessions" in request]


def _told(environment: Mapping[str, str], what: str) -> list[Any]:
    """Return a list that a studio keeps for the benchmark."""
    with urllib.request.urlopen(f"{environment['AWS_ENDPOINT_URL']}/{what}") as response:
        found: list[Any] = json.load(response)
        return found


ALL: Mapping[str, Callable[[Bench], list[Row]]] = {
    "ratios": ratios, "instructions": instructions, "memory": memory, "latency": latency, "checkpoints": checkpoints,
    "startup": startup, "slices": slices, "unchanged": unchanged, "objects": objects, "engines": engines,
    "nights": nights,
}  # fmt: skip
"""The scenarios by name, in the order of the table."""
