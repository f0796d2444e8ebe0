"""The table of results: measure, target, measured, verdict."""

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `is_met` is None where there is no target, only a figure."""

    measure: str
    target: str
    measured: str
    is_met: bool | None = None

    @property
    def verdict(self) -> str:
        """Return the last cell."""
        return {True: "met", False: "**missed**", None: ""}[self.is_met]


def at_most(measure: str, limit: float, found: float, text: str = "{:.2f}", detail: str = "") -> Row:
    """Return a line whose figure must be below a limit."""
    return Row(measure, f"under {text.format(limit)}", text.format(found) + detail, found < limit)


def at_least(measure: str, limit: float, found: float, text: str = "{:.1f} times", detail: str = "") -> Row:
    """Return a line whose figure must not be below a limit."""
    return Row(measure, text.format(limit), text.format(found) + detail, found >= limit)


def markdown(rows: Iterable[Row]) -> str:
    """Return the table as people and GitHub read it."""
    lines = ["| measure | target | measured | verdict |", "|---|---|---|---|"]
    lines += [f"| {row.measure} | {row.target} | {row.measured} | {row.verdict} |" for row in rows]
    return "\n".join(lines)


def machine() -> str:
    """Return what was measured on, and with which versions."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("nimble-etl", "boto3", "msgspec", "pyarrow", "deltalake", "duckdb")
    peers = ("boto3", "pandas", "pyarrow", "dlt", "singer-sdk")
    site = next(Path(".venv-bench/lib").glob("python*/site-packages"))
    there = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions(path=[str(site)])}
    return "\n".join([
        f"Machine: {os.cpu_count()} cores of {cpu}, {memory_gib:.0f} GiB, Linux {platform.release()}",
        f"Python {platform.python_version()}; "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages),
        "Peers: " + ", ".join(f"{name} {there[name]}" for name in peers),
    ])  # fmt: skip
