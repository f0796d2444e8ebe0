"""Events: what happens in a job. Progress, notifications and kill points listen to them.

A room tells what happened and does not know the listeners. A listener is called at once, in the same thread, and must
be quick. An error that it raises ends the job.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from etl.model import Page, Slice

Step = Literal[
    "ledger.created", "page.received", "page.stored", "slice.walked", "tables.noted", "publication.planned",
    "table.staged", "table.synced", "table.committed", "table.durable", "snapshot.read_back", "publication.marked",
    "facts.published", "tables.whole", "catalog.built", "catalog.swapped", "run.closed",
]  # fmt: skip
STEPS: tuple[Step, ...] = get_args(Step)
"""Steps of an export at which tests kill it. The state of the disk differs between any two of them."""
ForgetStep = Literal["forget.noted", "ledger.rewritten"]
"""Steps that only `forget` has; then come those of tables and catalog."""
CopyStep = Literal["copy.fetched", "copy.sent", "copy.buried"]
"""Steps of jobs whose ledgers have copies elsewhere."""
IcebergStep = Literal["iceberg.registered"]
"""The step of jobs whose tables are in a catalog of Iceberg, once for each table."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A job has reached a step."""

    step: Step | ForgetStep | CopyStep | IcebergStep


@dataclass(frozen=True, slots=True)
class PageStored(Reached):
    """A page and the starting token that follows it are durable."""

    slice: "Slice"
    page: "Page"


@dataclass(frozen=True, slots=True)
class Planned:
    """Slices were found that this run walks, or goes on with."""

    slices: "Sequence[Slice]"


@dataclass(frozen=True, slots=True)
class Walked:
    """A worker of an engine has walked slices; of their pages, nobody here was told."""

    slices: "Sequence[Slice]"


@dataclass(frozen=True, slots=True)
class Ended:
    """An invocation of `run` has ended. `runs` has the `Outcome.report` of each run that it worked on."""

    exit_code: int
    error: str | None
    runs: tuple[Mapping[str, Any], ...] = ()


def problems(run: Mapping[str, Any]) -> Iterator[str]:
    """Yield what went wrong in a run that `Ended` reports, then in its slices."""
    yield from (part["error"] for part in (run, *run["slices"]) if part["error"])


Event = Reached | Planned | Walked | Ended
Listener = Callable[[Event], None]

_LISTENERS: list[Listener] = []


_PLACE: ContextVar[Mapping[str, object]] = ContextVar("place", default={})  # noqa: B039  nobody changes it


@contextmanager
def working_on(**place: object) -> Iterator[None]:
    """Say what is worked on inside the block, such as run_id, dataset, slice and page; log lines in JSON carry it."""
    token = _PLACE.set({**_PLACE.get(), **place})
    try:
        yield
    finally:
        _PLACE.reset(token)


def worked_on() -> Mapping[str, object]:
    """Return what this thread works on, as `working_on` says."""
    return _PLACE.get()


@contextmanager
def listening(*listeners: Listener) -> Iterator[None]:
    """Call listeners for each event inside the block."""
    _LISTENERS.extend(listeners)
    try:
        yield
    finally:
        for listener in listeners:
            _LISTENERS.remove(listener)


def tell(event: Event) -> None:
    """Tell all listeners about an event."""
    for listener in _LISTENERS:
        listener(event)


def reach(step: Step | ForgetStep | CopyStep | IcebergStep) -> None:
    """Tell all listeners that a step is reached."""
    tell(Reached(step))
