"""What happens in a job, told to whoever listens: progress, kill points, notifications, and metrics next.

A room says what happened and does not know who listens. A listener is called at once, in the thread in which it
happened, and must be quick; what it raises ends the job.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from etl.model import Page, Slice

Step = Literal[
    "ledger.created", "page.received", "page.stored", "slice.walked", "publication.planned", "table.staged",
    "table.synced", "table.committed", "table.durable", "snapshot.read_back", "publication.marked",
    "facts.published", "catalog.built", "catalog.swapped", "run.closed",
]  # fmt: skip
STEPS: tuple[Step, ...] = get_args(Step)
"""Where a process may die. Between any two of them, what is on the disk differs."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A job has reached a step."""

    step: Step


@dataclass(frozen=True, slots=True)
class PageStored(Reached):
    """A page, and the starting token that follows it, are durable."""

    slice: "Slice"
    page: "Page"


@dataclass(frozen=True, slots=True)
class Ended:
    """An invocation of `run` is over. `runs` has a report for each run it worked on, as `Outcome.report` says."""

    exit_code: int
    error: str | None
    runs: tuple[Mapping[str, Any], ...] = ()


Event = Reached | Ended
Listener = Callable[[Event], None]

_LISTENERS: list[Listener] = []


@contextmanager
def listening(*listeners: Listener) -> Iterator[None]:
    """Let listeners hear what happens meanwhile."""
    _LISTENERS.extend(listeners)
    try:
        yield
    finally:
        for listener in listeners:
            _LISTENERS.remove(listener)


def tell(event: Event) -> None:
    """Tell all listeners what happened."""
    for listener in _LISTENERS:
        listener(event)


def reach(step: Step) -> None:
    """Tell all listeners that a step is reached."""
    tell(Reached(step))
