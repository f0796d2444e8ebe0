"""Progress of the walks: bars on a terminal, log lines under cron."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from etl.model import Page, Slice

log = logging.getLogger(__name__)

_LINE_EVERY_PAGES = 100

OnPage = Callable[[Slice, Page], None]


@contextmanager
def bars() -> Iterator[OnPage]:
    """Yield what moves one line per slice that is walked, and one for all: pages, records, records per second."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[pages]} pages"),
        TextColumn("{task.completed:,.0f} records"),
        TextColumn("{task.speed:,.0f}/s", style="dim"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, transient=True, speed_estimate_period=5) as progress:
        total = progress.add_task("all slices", total=None, pages=0, start=True)
        tasks: dict[str, TaskID] = {}
        lock = threading.Lock()

        def on_page(part: Slice, page: Page) -> None:
            with lock:
                name = str(part)
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=None, pages=0)
                for task in (tasks[name], total):
                    pages = progress.tasks[progress.task_ids.index(task)].fields["pages"]
                    progress.update(task, advance=page.kept, pages=pages + 1)
                if page.next_starting_token is None:
                    progress.remove_task(tasks.pop(name))

        yield on_page


@contextmanager
def lines() -> Iterator[OnPage]:
    """Yield what writes a log line for every hundredth page of a slice, and for its last."""

    def on_page(part: Slice, page: Page) -> None:
        if page.next_starting_token is None:
            log.info("%s: page %d is the last", part, page.number)
        elif page.number % _LINE_EVERY_PAGES == 0:
            log.info("%s: %d pages", part, page.number)

    yield on_page
