"""Progress of the walks: bars on a terminal, log lines under cron."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from etl.events import Event, Listener, PageStored

log = logging.getLogger(__name__)

_LINE_EVERY_PAGES = 100


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="dim", justify="right")


@contextmanager
def bars() -> Iterator[Listener]:
    """Yield what moves one line per slice being walked, and one for all: pages, records, records per second."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[pages]:,} pages", justify="right"),
        TextColumn("{task.completed:,.0f} records", justify="right"),
        _Rate(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress, _logs_above_the_bars():
        pages: dict[TaskID, int] = {}
        tasks: dict[str, TaskID] = {}
        lock = threading.Lock()

        def task_of(name: str) -> TaskID:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=None, pages=0)
                pages[tasks[name]] = 0
            return tasks[name]

        def on_event(event: Event) -> None:
            if not isinstance(event, PageStored):
                return
            slice_, page = event.slice, event.page
            with lock:
                for task in (task_of("all slices"), task_of(str(slice_))):
                    pages[task] += 1
                    progress.update(task, advance=page.kept, pages=pages[task])
                if page.next_starting_token is None:
                    progress.remove_task(tasks.pop(str(slice_)))

        yield on_event


@contextmanager
def lines() -> Iterator[Listener]:
    """Yield what writes a log line for every hundredth page of a slice, and for its last."""

    def on_event(event: Event) -> None:
        if not isinstance(event, PageStored):
            return
        slice_, page = event.slice, event.page
        if page.next_starting_token is None:
            log.info("%s: page %d is the last", slice_, page.number)
        elif page.number % _LINE_EVERY_PAGES == 0:
            log.info("%s: %d pages", slice_, page.number)

    yield on_event


@contextmanager
def _logs_above_the_bars() -> Iterator[None]:
    """Let log lines go through rich's stand-in for stderr while bars are shown; they would tear them otherwise."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
    former = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, former, strict=True):
            handler.setStream(stream or sys.__stderr__)
