"""The scenarios: each measures one or more lines of the table, on a directory and a studio of its own."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

from benchmarks.contenders import DLT, FLOOR, NIMBLE, ROOT, SCRIPT, SINGER, Contender, Usage, measure, studio
from benchmarks.content import count_differences, session_files
from benchmarks.studio import record
from benchmarks.table import Row, at_least, at_most

CACHE = ROOT / ".bench"


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
    usages = _side_by_side(bench, [NIMBLE, FLOOR, SCRIPT, DLT, SINGER])
    cpu_us = {name: median(usage.cpu_s for usage in some) / bench.sessions * 1e6 for name, some in usages.items()}
    own = cpu_us.pop("nimble-etl")
    rows = [
        at_least(f"CPU per session, {bench.sessions:,} sessions, against {name}", limit, cpu_us[name] / own,
                 detail=f" ({own:.0f} µs : {cpu_us[name]:.0f} µs)")
        for name, limit in (("script", 8), ("dlt", 11))
    ]  # fmt: skip
    rows += [
        Row("… against the Singer tap", "", f"{cpu_us['singer'] / own:.1f} times ({cpu_us['singer']:.0f} µs)"),
        at_most("… against the floor", 2.5, own / cpu_us["floor"], "{:.2f} times", f" ({cpu_us['floor']:.0f} µs)"),
    ]
    differences = {
        name: count_differences(("nimble-etl", bench.directory / "nimble-etl"), (name, bench.directory / name))
        for name in cpu_us
    }
    rows.append(
        Row(
            "rows whose content differs from nimble-etl's", "0",
            ", ".join(f"{name} {count}" for name, count in differences.items()), not any(differences.values()),
        )
    )  # fmt: skip
    return rows + _bytes_per_row(bench) + _peaks(usages)


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
    """Return the Parquet bytes of a row of the sessions, files as they are on the disk."""

    def size(name: str) -> float:
        files = session_files(name, bench.directory / name)
        return sum(Path(file).stat().st_size for file in files) / sum(pq.read_metadata(file).num_rows for file in files)

    own = size("nimble-etl")
    return [
        at_most(f"bytes per session row in Parquet, against {name}", 0.5, own / size(name), "{:.2f} times",
                f" ({own:.0f} : {size(name):.0f})")
        for name in ("script", "dlt")
    ]  # fmt: skip


def _peaks(usages: Mapping[str, Sequence[Usage]]) -> list[Row]:
    peaks = ", ".join(f"{name} {median(usage.peak_mib for usage in some):.0f}" for name, some in usages.items())
    return [Row("peak memory of each, MiB", "", peaks)]


ALL: Mapping[str, Callable[[Bench], list[Row]]] = {"ratios": ratios}
"""The scenarios by name, in the order of the table."""
