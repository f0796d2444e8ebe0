"""Progress of a run as bars on a terminal: one for all slices, and one for each of those that are walked now."""

import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from etl.events import Event, Listener, PageStored, Planned, Reached, Walked
from etl.model import Slice

_MOST_SLICES = 8
"""So many slices have a bar; the others are counted."""
_STEPS = {
    "tables.noted": "publishing",
    "facts.published": "publishing: the facts about the run",
    "tables.whole": "building the catalog",
    "run.closed": "done",
}
"""What a job does from a step on."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="dim", justify="right")


def _short(slice_: Slice) -> str:
    """Return the name of a slice, what tells it from others first: the rest may not fit."""
    place = (slice_.account_id, slice_.region) if slice_.is_of_many else ()
    return " ".join([*slice_.parameters.values(), *place, slice_.dataset])


class _Bars:
    """What the bars show. `expected` has slice id -> how many pages the slice may have."""

    def __init__(self, progress: Progress, expected: Mapping[str, int]) -> None:
        self._progress = progress
        self._expected = expected
        self._lock = threading.Lock()
        self._all = progress.add_task("all slices", total=None, records="")
        self._slices: dict[str, TaskID] = {}
        self._totals: dict[TaskID, int] = {}
        self._pages, self._records = Counter[TaskID](), Counter[TaskID]()
        self._planned, self._walked, self._tables = 0, 0, 0

    def on_event(self, event: Event) -> None:
        """Show what has happened."""
        with self._lock:
            if isinstance(event, Planned):
                self._planned += len(event.slices)
                if self._expected:  # a slice that is new is taken for one page
                    pages = sum(self._expected.get(slice_.slice_id, 1) for slice_ in event.slices)
                    self._totals[self._all] = self._totals.get(self._all, 0) + pages
                self._advance(self._all, 0)
                self._tell_slices(0)
            elif isinstance(event, Walked):
                self._advance(self._all, sum(self._expected.get(slice_.slice_id, 1) for slice_ in event.slices))
                self._tell_slices(len(event.slices))
            elif isinstance(event, PageStored):
                self._store(event)
            elif isinstance(event, Reached):
                self._reach(event.step)

    def _store(self, event: PageStored) -> None:
        name, is_last = event.slice.slice_id, event.page.next_starting_token is None
        if name not in self._slices and len(self._slices) < _MOST_SLICES and not is_last:
            self._slices[name] = task = self._progress.add_task(_short(event.slice), total=None, records="")
            if pages := self._expected.get(name):
                self._totals[task] = pages
        self._advance(self._all, 1, event.page.kept)
        if name in self._slices:
            self._advance(self._slices[name], 1, event.page.kept)
        if is_last:
            self._tell_slices(1)
            if name in self._slices:
                self._progress.remove_task(self._slices.pop(name))

    def _advance(self, task: TaskID, pages: int, records: int = 0) -> None:
        self._pages[task] += pages
        self._records[task] += records
        if task in self._totals:
            self._totals[task] = max(self._totals[task], self._pages[task])
        told = f"{self._records[task]:,} records" if self._records[task] else ""  # workers do not tell
        self._progress.update(task, completed=self._pages[task], total=self._totals.get(task), records=told)

    def _tell_slices(self, walked: int) -> None:
        self._walked += walked
        self._progress.update(self._all, description=f"{self._walked:,} of {self._planned:,} slices")

    def _reach(self, step: str) -> None:
        if step == "table.committed":
            self._tables += 1
            self._progress.update(self._all, description=f"publishing: {self._tables} tables")
        elif step in _STEPS:
            self._progress.update(self._all, description=_STEPS[step])


@contextmanager
def bars(expected: Mapping[str, int]) -> Iterator[Listener]:
    """Yield a listener that shows how far a run is: slices, pages of those expected, records, rate, remaining time.

    Args:
        expected: slice id -> how many pages the slice may have, such as last night's.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        _Pages(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[records]}", justify="right", table_column=Column(no_wrap=True)),
        _Rate(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, expand=True) as progress, _logs_above_the_bars():
        yield _Bars(progress, expected).on_event


class _Pages(ProgressColumn):
    def render(self, task: Task) -> Text:
        expected = f" of {task.total:,.0f}" if task.total else ""
        return Text(f"{task.completed:,.0f}{expected} pages", justify="right")


@contextmanager
def _logs_above_the_bars() -> Iterator[None]:
    """Write log lines through rich's replacement of stderr. Otherwise they would tear the bars apart."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
    former = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, former, strict=True):
            handler.setStream(stream or sys.__stderr__)
