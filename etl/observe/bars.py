"""Progress of the walks as bars on a terminal."""

import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from etl.events import Event, Listener, PageStored


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="dim", justify="right")


@contextmanager
def bars() -> Iterator[Listener]:
    """Yield a listener that shows pages, records and records per second of each slice, and of all slices together."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[pages]:,} pages", justify="right"),
        TextColumn("{task.completed:,.0f} records", justify="right"),
        _Rate(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress, _logs_above_the_bars():
        tasks: dict[str, TaskID] = {}
        pages: Counter[TaskID] = Counter()
        lock = threading.Lock()

        def on_event(event: Event) -> None:
            if not isinstance(event, PageStored):
                return
            with lock:
                for name in ("all slices", str(event.slice)):
                    if name not in tasks:
                        tasks[name] = progress.add_task(name, total=None, pages=0)
                    pages[tasks[name]] += 1
                    progress.update(tasks[name], advance=event.page.kept, pages=pages[tasks[name]])
                if event.page.next_starting_token is None:
                    progress.remove_task(tasks.pop(str(event.slice)))

        yield on_event


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
