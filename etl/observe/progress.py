"""Progress of the walks as log lines."""

import logging

from etl.events import Event, PageStored

log = logging.getLogger(__name__)

_LINE_EVERY_PAGES = 100


def log_pages(event: Event) -> None:
    """Log every hundredth page of a slice, and its last."""
    if isinstance(event, PageStored):
        if event.page.next_starting_token is None:
            log.info("%s: page %d is the last", event.slice, event.page.number)
        elif event.page.number % _LINE_EVERY_PAGES == 0:
            log.info("%s: %d pages", event.slice, event.page.number)
