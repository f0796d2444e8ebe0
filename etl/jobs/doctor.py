"""Looks whether a night could work here: the machine, the directories, the way to AWS, and what may be listed there.

Nothing is exported. Of each dataset, the first page of one slice is asked for.
"""

import contextlib
import datetime as dt
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

from etl.config import Settings
from etl.errors import EtlError
from etl.extract.clients import Clients
from etl.extract.reach import proxies, reach
from etl.extract.source import Source
from etl.jobs.origin import source_of
from etl.jobs.warehouse import store_of
from etl.jobs.workplace import plan_of
from etl.ledger.directory import new_run_id
from etl.ledger.ledger import Ledger
from etl.model import Slice
from etl.pipeline.plan import Plan
from etl.pipeline.walks import Stop, Walks
from etl.storage.disk import check_writable
from etl.version import VERSION

_LIBRARIES = ("boto3", "botocore", "duckdb", "deltalake", "pyarrow")
_LEAST_BYTES = 1 << 30
"""Less room than that is soon used up; 200,000 sessions take a tenth of it each night."""
_MOST_CLOCK_S = 300
"""AWS refuses requests that are signed by a clock further off. Source: IAM User Guide, "Signature Version 4"."""


class Verdict(StrEnum):
    """What was found about one thing."""

    OK = "ok"
    DOUBT = "doubt"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at: its verdict, and a sentence on what was found and what to do."""

    about: str
    verdict: Verdict
    found: str


def versions() -> Diagnosis:
    """Return what is installed."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Diagnosis("versions", Verdict.OK, f"nimble-etl {VERSION}, {system}, {libraries}")


def diagnose(settings: Settings) -> Iterator[Diagnosis]:
    """Yield what was found about one thing after the other. What fails is a diagnosis, not an error."""
    yield _tried("state_dir", lambda: _directory(settings.state_dir, "state_dir"))
    yield _tried("warehouse", lambda: _warehouse(settings))
    given = ", ".join(f"{name}={value}" for name, value in proxies().items())
    yield Diagnosis("proxy", Verdict.OK, given or "none is named in the environment")
    today, stop = dt.datetime.now(dt.UTC).date(), Stop()
    with contextlib.ExitStack() as opened:
        try:
            source = opened.enter_context(source_of(settings.source, settings.emulator, today, stop))
            plan = plan_of(settings, source.operation, source.endpoint_of)
        except EtlError as exc:
            yield Diagnosis("datasets", Verdict.PROBLEM, str(exc))
            return
        yield Diagnosis("datasets", Verdict.OK, f"{', '.join(plan.datasets)} from {plan.origin}")
        yield from _endpoints(settings, source, plan)
        credentials = _tried("credentials", lambda: (Verdict.OK, f"they are of account {source.account_id}"))
        yield credentials
        if credentials.verdict is Verdict.OK:
            ledger = opened.enter_context(Ledger.temporary(new_run_id(), today))
            yield from _listings(plan, source, ledger, Walks(plan, source, settings.run, stop, None))


def _tried(about: str, look: Callable[[], tuple[Verdict, str]]) -> Diagnosis:
    try:
        return Diagnosis(about, *look())
    except EtlError as exc:
        return Diagnosis(about, Verdict.PROBLEM, str(exc))


def _directory(path: Path, setting: str) -> tuple[Verdict, str]:
    """Look whether a directory can be written, and how much room it has."""
    check_writable(path, setting)
    free = shutil.disk_usage(path).free
    found = f"{path}: can be written, {free / (1 << 30):,.1f} GiB are free"
    if free < _LEAST_BYTES:
        return Verdict.DOUBT, f"{found}; expected at least {_LEAST_BYTES / (1 << 30):g} GiB: make room"
    return Verdict.OK, found


def _warehouse(settings: Settings) -> tuple[Verdict, str]:
    store = store_of(settings)
    store.check_writable()
    if store.local:
        return _directory(store.local, "warehouse.path")
    return Verdict.OK, f"{store.uri}: can be written, and keeps to conditions"


def _endpoints(settings: Settings, source: Source, plan: Plan) -> Iterator[Diagnosis]:
    """Yield whether each service answers, and how far this machine's clock is from the first one's."""
    clients, clock_s = Clients(settings.source, source.endpoint), None
    for service in dict.fromkeys(dataset.service for dataset in plan.datasets.values()):
        try:
            reached = reach(clients, service, plan.places.home(service))
        except EtlError as exc:
            yield Diagnosis(f"endpoint of {service}", Verdict.PROBLEM, str(exc))
            continue
        found = f"{reached.url}: answers in {reached.answered_in_s * 1000:.0f} ms"
        yield Diagnosis(f"endpoint of {service}", Verdict.OK, found)
        clock_s = reached.clock_s if clock_s is None else clock_s
    if clock_s is not None:
        is_right = abs(clock_s) < _MOST_CLOCK_S
        found = f"{clock_s:+.0f} s from the server's"
        then = "" if is_right else f"; AWS refuses more than {_MOST_CLOCK_S} s: set it right"
        yield Diagnosis("clock", Verdict.OK if is_right else Verdict.PROBLEM, f"{found}{then}")


def _listings(plan: Plan, source: Source, ledger: Ledger, walks: Walks) -> Iterator[Diagnosis]:
    """Yield whether the first page of one slice of each dataset can be had, parents before their children."""
    first: dict[str, Slice] = {}
    for found in walks.begin(ledger, ()):
        first.setdefault(found.dataset, found)
    for name in (*plan.places.listings, *plan.datasets):
        dataset = plan.dataset(name)
        slice_ = first.get(name)
        if slice_ is None:
            yield Diagnosis(name, Verdict.DOUBT, "not tried: the first pages tell of no slice of it")
            continue
        try:
            page = source.fetch_page(dataset, slice_, 1, None, None)
        except EtlError as exc:
            yield Diagnosis(name, Verdict.PROBLEM, str(exc))
            continue
        yield Diagnosis(name, Verdict.OK, f"{slice_}: the first page has {page.kept} records")
        ledger.add_slices([(slice_, None)])
        ledger.store_page(slice_, page)
        for child in plan.following(ledger, slice_):
            first.setdefault(child.dataset, child)
