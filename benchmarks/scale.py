"""What an organization of ten thousand accounts costs a night, computed from unit costs that are measured here.

    python -m benchmarks.scale --measure    measure the unit costs, write scale.json, print the tables: some minutes
    python -m benchmarks.scale              print the tables from scale.json

docs/scale.md shows these tables. A test compares them with what this module computes from scale.json.
"""

import argparse
import datetime as dt
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from unittest import mock

RECORDED = Path(__file__).with_name("scale.json")

PAGE_RECORDS = 100
"""Records that list APIs return at once, if nothing else is asked for."""
ANSWER_S = 0.1
"""How long an answer is waited for. An assumption: it depends on the service."""
CONCURRENCY = 16
"""Walks at a time, as `run.concurrency` says by default."""
TABLES = 4
"""Tables about runs: etl_runs, etl_slices, etl_pages, etl_rejects."""
TABLES_OF_DATASET = 3
"""Of sessions: records, tags, change log."""
REQUESTS, TABLES_ASKED = 40, 7
"""Requests to a bucket besides data files, of a night with so many tables: tests/e2e/test_object_store.py."""
FILE_BYTES = 256 * 2**20
"""A data file is closed when it is larger: etl/load/delta/stage.py."""
COMPARED_DATES, COMPARISONS = 35, 2
"""Dates that a night compares with each other, and how often: etl/pipeline/losses.py, etl/jobs/workplace.py."""
UPLOAD_BYTES = 5 * 2**30
"""The most that S3 takes in one put, so the largest ledger that can have a copy. Source: S3 API, PutObject."""
NIGHTS_KEPT = 30

PUT_USD, GET_USD = 0.005 / 1000, 0.0004 / 1000
"""Of S3 Standard, us-east-1. Source: https://aws.amazon.com/s3/pricing/. Put these four right for your Region."""
GB_MONTH_USD = 0.023
CPU_HOUR_USD = 0.0408
"""A quarter of m7g.xlarge on demand, us-east-1: 4 virtual CPUs. Source: https://aws.amazon.com/ec2/pricing/on-demand/."""

_GB = 10**9


@dataclass(frozen=True, slots=True)
class Units:
    """What one of each costs, on the machine that `machine` describes.

    CPU in microseconds: to plan a slice, to walk and publish one, for a page of 100 records of a slice that is there
    (request, checkpoint, rows and all), and to compare a slice and date with what was published. Bytes: of the run's
    ledger for a slice and for a page; of Parquet for a record, a slice and a page. `plan_bytes` and `facts_bytes` are
    memory for each slice: while slices wait, and while they are published. `start_cpu_s` is a night of next to nothing.
    """

    machine: str
    start_cpu_s: float
    plan_us: float
    slice_us: float
    page_us: float
    compare_us: float
    plan_bytes: float
    facts_bytes: float
    base_mib: float
    ledger_slice_bytes: float
    ledger_page_bytes: float
    record_bytes: float
    slice_bytes: float
    page_bytes: float


@dataclass(frozen=True, slots=True)
class Estate:
    """What is exported each night."""

    accounts: int
    regions: int
    datasets: int
    records: int

    @property
    def slices(self) -> int:
        """Return one for each account, Region and dataset."""
        return self.accounts * self.regions * self.datasets

    @property
    def pages(self) -> int:
        """Return how many there are if all slices are alike: at least one each."""
        return self.slices * ceil(self.records / self.slices / PAGE_RECORDS)


ESTATES = {
    "1 account": Estate(1, 20, 10, 10**5),
    "1,000 accounts": Estate(1_000, 20, 10, 10**8),
    "10,000 accounts": Estate(10_000, 20, 10, 10**9),
}


def costs(units: Units, estate: Estate) -> dict[str, str]:
    """Return the cost of a night of an estate, as text, by its name. All records count as one night's."""
    slices, pages = estate.slices, estate.pages
    account_calls = 2 * estate.accounts  # its Regions, and a role to assume
    requests = pages + account_calls
    walk_cpu_s = (units.plan_us + units.slice_us) * slices / 1e6 + units.page_us * pages / 1e6
    compare_cpu_s = units.compare_us * slices * COMPARED_DATES * COMPARISONS / 1e6
    cpu_h = (units.start_cpu_s + walk_cpu_s + compare_cpu_s) / 3600
    waiting_h = requests * ANSWER_S / CONCURRENCY / 3600
    place_s = pages / (estate.accounts * estate.regions) * ANSWER_S
    tables = TABLES + TABLES_OF_DATASET * estate.datasets
    data_bytes = units.record_bytes * estate.records
    facts_bytes = units.slice_bytes * slices + units.page_bytes * pages
    main_files = estate.datasets * ceil(data_bytes / estate.datasets / FILE_BYTES)
    files = main_files + tables - estate.datasets
    small = ceil(REQUESTS / TABLES_ASKED * tables)
    ledger_bytes = units.ledger_slice_bytes * slices + units.ledger_page_bytes * pages
    memory_mib = units.base_mib + slices * (units.plan_bytes + units.facts_bytes) / 2**20
    stored_gb = (data_bytes + facts_bytes) * NIGHTS_KEPT / _GB
    return {
        "slices": f"{slices:,}",
        "requests to AWS": f"{requests:,}",
        "pages": f"{pages:,}",
        "CPU of walking and publishing, hours": _number(walk_cpu_s / 3600),
        f"CPU of comparing {COMPARED_DATES} dates, hours": _number(compare_cpu_s / 3600),
        f"waiting, {CONCURRENCY} walks at a time, {ANSWER_S * 1000:.0f} ms an answer, hours": _number(waiting_h),
        "requests to one account and Region, one after the other, seconds": _number(place_s),
        "ledger of the run, GB": _number(ledger_bytes / _GB),
        "memory, all slices in one process, GiB": _number(memory_mib / 1024),
        "commits": f"{tables:,}",
        "data files": f"{files:,}",
        "requests to the bucket besides data files": f"{small:,}",
        "Parquet of records, GB": _number(data_bytes / _GB),
        "Parquet of facts, GB": _number(facts_bytes / _GB),
        "compute, USD": _number(cpu_h * CPU_HOUR_USD),
        "requests to S3, USD": _number((files + small) * PUT_USD),
        f"S3 storage of {NIGHTS_KEPT} nights, USD a month": _number(stored_gb * GB_MONTH_USD),
        "list requests to AWS, USD": "0",
    }


def _number(value: float) -> str:
    """Return a number with two digits that say something."""
    if value >= 10:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.2g}" if value >= 0.01 else "under 0.01"  # noqa: PLR2004


def unit_table(units: Units) -> str:
    """Return the unit costs as a table in Markdown."""
    rows = {
        "a night of next to nothing": f"{units.start_cpu_s:.1f} s of CPU, {units.base_mib:.0f} MiB",
        "to plan a slice": f"{units.plan_us:.0f} µs of CPU, {units.plan_bytes / 1024:.1f} KiB while it waits",
        "to walk and publish a slice": f"{units.slice_us:.0f} µs of CPU, {units.facts_bytes / 1024:.1f} KiB at the end",
        "a page of 100 records": f"{units.page_us:.0f} µs of CPU",
        "to compare a slice and date": f"{units.compare_us:.1f} µs of CPU",
        "in the ledger": f"{units.ledger_slice_bytes:.0f} bytes a slice, {units.ledger_page_bytes:,.0f} a page",
        "in Parquet": (
            f"{units.record_bytes:.0f} bytes a record, {units.slice_bytes:.0f} a slice, {units.page_bytes:.0f} a page"
        ),
    }
    return "\n".join(["| what | costs |", "|---|---|", *(f"| {name} | {cost} |" for name, cost in rows.items())])


def night_table(units: Units) -> str:
    """Return what a night of each estate costs, as a table in Markdown."""
    columns = [costs(units, estate) for estate in ESTATES.values()]
    lines = [f"| a night of | {' | '.join(ESTATES)} |", f"|---|{'---|' * len(ESTATES)}"]
    lines += [f"| {name} | {' | '.join(column[name] for column in columns)} |" for name in columns[0]]
    return "\n".join(lines)


def most_pages(units: Units) -> int:
    """Return how many pages a ledger has at most that can still be copied in one put, in whole 10,000s."""
    return int(UPLOAD_BYTES / units.ledger_page_bytes / 10_000) * 10_000


def recorded() -> Units:
    """Return the unit costs that were measured last."""
    return Units(**json.loads(RECORDED.read_text(encoding="utf-8")))


def main() -> None:
    """Measure, if that is asked for, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--measure", action="store_true", help="measure the unit costs anew, and write scale.json")
    parser.add_argument("--part", choices=_PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(_PARTS[options.part]()))
        return
    if options.measure:
        found = {name: round(value, 3) for name, value in measured().items()}
        RECORDED.write_text(json.dumps({"machine": _machine(), **found}, indent=2) + "\n", encoding="utf-8")
    print(unit_table(recorded()), night_table(recorded()), sep="\n\n")


def measured() -> dict[str, float]:
    """Return the unit costs by name: nights of this machine as processes of their own, and parts of a night."""
    found: dict[str, float] = {}
    for name in _PARTS:
        command = [sys.executable, "-m", "benchmarks.scale", "--part", name]
        found |= json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def _nights() -> dict[str, float]:
    """Return what slices and pages cost: a night of one page, one of 1,000 pages, and one of 1,000 slices."""
    from benchmarks.contenders import measure, nimble, studio  # noqa: PLC0415
    from benchmarks.scenarios import recording  # noqa: PLC0415

    many = 1_000
    sessions = many * PAGE_RECORDS
    usages, sizes = {}, {}
    for name, count, studios in (("none", PAGE_RECORDS, 1), ("pages", sessions, 1), ("slices", sessions, many)):
        with tempfile.TemporaryDirectory() as directory, studio(recording(sessions), count, studios) as environment:
            out = Path(directory)
            usages[name] = measure(nimble(out), **environment)
            (ledger,) = (out / "state" / "runs").glob("*.sqlite")
            tables = {path.name: _bytes_of(path) for path in (out / "warehouse").iterdir() if path.is_dir()}
            sizes[name] = {**tables, "ledger": ledger.stat().st_size}
    records = sizes["pages"]["streaming_sessions"] + sizes["pages"]["streaming_session_tags"]

    def each(name: str, of: str, to: str) -> float:
        return max(sizes[of][name] - sizes[to][name], 0) / (many - 1)

    return {
        "start_cpu_s": usages["none"].cpu_s,
        "base_mib": usages["pages"].peak_mib,
        "page_us": (usages["pages"].cpu_s - usages["none"].cpu_s) / (many - 1) * 1e6,
        "slice_us": max(usages["slices"].cpu_s - usages["pages"].cpu_s, 0) / (many - 1) * 1e6,
        "record_bytes": records / sessions,
        "slice_bytes": each("etl_slices", "slices", "none"),
        "page_bytes": each("etl_pages", "pages", "none"),
        "ledger_slice_bytes": each("ledger", "slices", "pages"),
        "ledger_page_bytes": each("ledger", "pages", "none"),
    }


def _bytes_of(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*.parquet") if "_delta_log" not in file.parts)


_A_PAGE = (
    "insert into page select slice_id, 1, 1, 2, hex(zeroblob(32)), 1, 0, 1, null, slice_id, 0,"
    " '2026-11-20T02:00:00+00:00', x'' from slice"
)


def _plan() -> dict[str, float]:
    """Return what it costs to plan a slice, and to have the facts about all of them in memory: 200,000 at once."""
    from etl.config import Run, SourceSettings  # noqa: PLC0415
    from etl.extract.service_model import describe_operation, model_session  # noqa: PLC0415
    from etl.ledger.ledger import Ledger  # noqa: PLC0415
    from etl.model import Dataset  # noqa: PLC0415
    from etl.pipeline.plan import Plan  # noqa: PLC0415
    from etl.pipeline.walks import Stop, Walks  # noqa: PLC0415

    class Nobody:
        account_id = "000000000001"

        def wait_s(self, *_: object) -> float:
            return 0.0

    regions = [f"{area}-{number}" for area in ("us-east", "us-west", "eu-west", "ap-southeast") for number in (1, 2)]
    accounts = [{"id": f"{number:012d}", "role": "reader"} for number in range(1, 2_501)]
    names = ["list_tables", "list_backups", "list_exports", "list_imports", "list_global_tables"]
    tables = Dataset(name="tables", service="dynamodb", operation=names[0], key=("value",))
    datasets = {f"{name}_{i}": tables.model_copy(update={"name": f"{name}_{i}"}) for i in (1, 2) for name in names}
    source = SourceSettings.model_validate({"region": "us-east-1", "regions": regions, "accounts": accounts})
    plan = Plan.make(datasets, list(datasets), partial(describe_operation, model_session()), source, None)
    stop = Stop()
    stop.set()  # nothing is walked
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "runs" / "20261120T020000Z-abcdef.sqlite"
        with Ledger.create(path, path.stem, dt.date(2026, 11, 20), "scale") as ledger:
            walks = Walks(plan, Nobody(), Run(), stop, None)  # type: ignore[arg-type]  nobody is asked for anything
            before, began = _resident_bytes(), time.process_time()
            walks.walk(ledger)
            cpu_s, planned = time.process_time() - began, _resident_bytes()
            with ledger.database.transaction() as connection:
                connection.execute(_A_PAGE)  # facts are known of slices with pages
            slices = ledger.slices()
            return {
                "plan_us": cpu_s / len(slices) * 1e6,
                "plan_bytes": (planned - before) / len(slices),
                "facts_bytes": (_resident_bytes() - planned) / len(slices),
            }


def _compare() -> dict[str, float]:
    """Return what it costs to compare what the facts say about a slice and date: 20,000 slices, 10 dates."""
    from etl.load.delta.stage import Stage  # noqa: PLC0415
    from etl.load.delta.tables import Replacement, Tables  # noqa: PLC0415
    from etl.pipeline.losses import find_losses  # noqa: PLC0415
    from etl.storage.disk import Disk  # noqa: PLC0415
    from etl.transform.facts import SLICES, batch  # noqa: PLC0415

    slices, nights = 20_000, 10
    at = dt.datetime(2026, 11, 20, 2, tzinfo=dt.UTC)
    facts = {
        **dict.fromkeys(SLICES.names), "dataset": "things", "account_id": "1", "region": "r", "parents": [],
        "filters": [], "is_filtered": False, "state": "complete", "is_published": True, "published_at": at,
        "pages_sha256": "0" * 64, "table_rows": [("things", 1), ("etl_rejects", 0)], "is_dropped": False,
        "is_partial": False, "records": 1, "rows": 1, "rejects": 0, "duplicates": 0, "drift": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as directory, mock.patch("os.fsync"):
        for night in range(nights):
            tables, date = Tables(Disk(Path(directory))), at.date() + dt.timedelta(days=night)
            stage = Stage(tables, "etl_slices", SLICES, Replacement(date, "run_id", (str(night),)), str(night))
            rows = [{**facts, "slice_id": f"{number:016x}", "publication": night + 1} for number in range(slices)]
            stage.write(batch(SLICES, date, str(night), rows))
            stage.commit("benchmark", night + 1)
        began = time.process_time()
        list(find_losses(Tables(Disk(Path(directory))), []))
        return {"compare_us": (time.process_time() - began) / slices / nights * 1e6}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _machine() -> str:
    lines: Sequence[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    system = ".".join(platform.release().split(".")[:2])
    return f"{os.cpu_count()} cores of {cpu}, Linux {system}, Python {platform.python_version()}"


_PARTS: Mapping[str, Callable[[], dict[str, float]]] = {"nights": _nights, "plan": _plan, "compare": _compare}
"""Each is measured in a process of its own."""


if __name__ == "__main__":
    main()
