"""Embedded studios as tests have them, what they list, and what they were asked and did."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

from etl.emulator import EmbeddedStudio, StudioSettings, World
from support.job import NIGHT

SESSIONS = "ListStreamingSessions"
LIST = f"operation={SESSIONS}"
"""Of a fault rule: it is for requests for sessions only."""


def studio_of(
    world: World, *, page_size: int = 20, at: dt.datetime = NIGHT, latency_s: float = 0, **options: Any
) -> EmbeddedStudio:
    """Return a running studio of a world as it is in that night, 20 records on a page."""
    settings = StudioSettings(page_size=page_size, instant=at, latency_s=latency_s)
    return EmbeddedStudio(world, settings, **options)


def first(studio: EmbeddedStudio) -> str:
    """Return the id of the first studio."""
    return studio.world.studio_ids[0]


def listed_sessions(world: World, at: dt.datetime = NIGHT, **filters: str) -> Iterator[dict[str, Any]]:
    """Yield the sessions that all studios of a world list at an instant; filters as the API names them."""
    for studio_id in world.studio_ids:
        yield from world.records(SESSIONS, {"studioId": studio_id, **filters}, at)


def fired(studio: EmbeddedStudio) -> set[str]:
    """Return the kinds of the faults that did fire."""
    return {fault.kind for fault in studio.fired}


def asked_for_sessions(studio: EmbeddedStudio, since: int = 0) -> list[str | None]:
    """Return the page token of each request for sessions, from a number of requests on."""
    return [request.token for request in studio.requests[since:] if request.operation == SESSIONS]
