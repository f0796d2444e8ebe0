"""What the nights have shown of each session, from the studio's own events: nothing that was exported is read."""

import datetime as dt
from collections.abc import Iterator, Sequence

from benchmarks.year.build import instant
from etl.emulator import World
from etl.emulator.sessions import EventKind, Record

Key = tuple[str, str]
"""Studio and session."""

Night = dict[Key, Record]
"""The sessions that are listed on one night, as records of the API."""


def observe(world: World, dates: Sequence[dt.date]) -> list[Night]:
    """Return the nights in the order of their dates."""
    nights: list[Night] = [{} for _ in dates]
    for studio_id in world.studio_ids:
        born = _born(world, studio_id, dates)
        events = iter(world.events(studio_id, instant(dates[-1])))
        listed: Night = {}
        event = next(events, None)
        for night, date in zip(nights, dates, strict=True):
            while event and event.at <= instant(date):
                key = (studio_id, event.session_id)
                if event.kind is EventKind.VANISHED:
                    listed.pop(key, None)
                elif event.session_id in born:
                    record = dict(listed.get(key) or born[event.session_id]) | event.changed
                    listed[key] = {name: value for name, value in record.items() if value is not None}
                event = next(events, None)
            night.update(listed)
    return nights


def _born(world: World, studio_id: str, dates: Sequence[dt.date]) -> dict[str, Record]:
    """Return what never changes about each session that a night shows; and its tags, until an event changes them."""
    found: dict[str, Record] = {}
    for date in dates:
        for record in world.records("ListStreamingSessions", {"studioId": studio_id}, instant(date)):
            if record["sessionId"] not in found:
                found[record["sessionId"]] = {name: record[name] for name in _constant(record)}
    return found


def _constant(record: Record) -> Iterator[str]:
    changing = {"state", "statusCode", "statusMessage", "startedAt", "startedBy", "stoppedAt", "stoppedBy", "stopAt"}
    changing |= {"terminateAt", "updatedAt", "updatedBy"}
    return (name for name in record if name not in changing)
