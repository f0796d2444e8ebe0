"""What exists in the embedded studio: studios and their ten listings at any instant.

Everything is a pure function of the `World`'s settings and an instant; there is no clock, no file and no
memory. Records carry the API's own member names, with instants as aware datetimes, so that they equal what
boto3 parses.

Sessions are the bulk and live in `sessions.py`; a page of them costs the same wherever it lies in a listing
of millions. The other listings are short, and live in `studio.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from operator import attrgetter
from random import Random
from typing import NamedTuple

from etl.emulator.sessions import Event, Record
from etl.emulator.studio import Studio, UnknownResourceError, before, id22

Parameters = Mapping[str, str | list[str]]
"""Parameters of an operation, path and query together, by API name."""

Test = Callable[[Record], bool]
"""Decides whether a record passes a filter."""

SCAN_LIMIT = 10_000
"""Most positions one filtered page looks at. Such a page may be short, or empty, and still carry a token."""

EULAS = ("NICE DCV", "Blender and plug-ins", "Third-party software")


class Page(NamedTuple):
    """One page of a listing.

    Attributes:
        records: in listing order, possibly none.
        next_position: where the next page starts; None on the last page.
    """

    records: list[Record]
    next_position: int | None


class Listing(NamedTuple):
    """A listing by position: `record(i)` for 0 <= i < size, None where a position is vacant."""

    size: int
    record: Callable[[int], Record | None]


@dataclass(frozen=True)
class World:
    """Studios of one account in one Region. Equal settings are equal worlds.

    Attributes:
        seed: of everything that looks random.
        studios: number of studios.
        sessions_per_studio: number of session slots of each; nearly all are taken at any instant.
        daily_churn: share of sessions deleted, and of sessions created, per day; 0 to 1.
        daily_change: share of sessions worked on per weekday (a fifth of it at weekends); 0 to 1. Sessions
            that would be terminated after four idle days are worked on at least every third day; with 0 there
            are none of those.
        epoch: first day of the world; before it no session exists.
        account_id: 12 digits.
        region: of every studio.
    """

    seed: int = 7
    studios: int = 2
    sessions_per_studio: int = 2_000
    daily_churn: float = 0.02
    daily_change: float = 0.5
    epoch: date = date(2024, 1, 1)
    account_id: str = "123456789012"
    region: str = "us-west-2"

    @cached_property
    def studio_ids(self) -> tuple[str, ...]:
        """Ids of the studios, in listing order."""
        return tuple(self._studios)

    @cached_property
    def _studios(self) -> dict[str, Studio]:
        studios = (Studio(self, index) for index in range(self.studios))
        return {studio.studio_id: studio for studio in studios}

    def _studio(self, studio_id: object) -> Studio:
        try:
            return self._studios[str(studio_id)]
        except KeyError:
            raise UnknownResourceError(f"studio {studio_id!r}") from None

    def page(self, operation: str, parameters: Parameters, at: datetime, position: int, size: int) -> Page:
        """Return up to `size` records of a listing from a position on.

        Args:
            operation: for example ListStreamingSessions.
            parameters: studioId, launchProfileId and filters; others are ignored.
            at: the instant, aware.
            position: 0, or the `next_position` of the page before.
            size: most records on the page, at least 1.

        Raises:
            UnknownResourceError: no such studio or launch profile.
        """
        listing = self._listing(operation, parameters, at)
        keep = self._filter(parameters)
        end = min(listing.size, position + SCAN_LIMIT) if keep else listing.size
        records: list[Record] = []
        for candidate in range(position, end):
            record = listing.record(candidate)
            if record is None or (keep and not keep(record)):
                continue
            if len(records) == size:
                return Page(records, candidate)
            records.append(record)
        return Page(records, end if end < listing.size else None)

    def records(self, operation: str, parameters: Parameters, at: datetime) -> Iterator[Record]:
        """Yield a whole listing, one record at a time.

        Raises:
            UnknownResourceError: no such studio or launch profile.
        """
        listing = self._listing(operation, parameters, at)
        keep = self._filter(parameters)
        for position in range(listing.size):
            record = listing.record(position)
            if record is not None and (not keep or keep(record)):
                yield record

    def events(self, studio_id: str, until: datetime, since: datetime | None = None) -> list[Event]:
        """Return what happened to the sessions of a studio, in the order of instants.

        Args:
            studio_id: the studio.
            until: last instant, inclusive.
            since: leaves out sessions that had vanished by then; those that had not come with all their
                events. Without it, everything since the epoch: expect seconds per thousand sessions and year.

        Raises:
            UnknownResourceError: no such studio.
        """
        rules = self._studio(studio_id).rules
        first = since or datetime.combine(self.epoch, time(), UTC) - timedelta(days=1)
        events = (
            event
            for slot in range(self.sessions_per_studio)
            for life in rules.lives(slot, first, until)
            for event in life.events(until)
        )
        return sorted(events, key=attrgetter("at", "session_id"))

    def _listing(self, operation: str, parameters: Parameters, at: datetime) -> Listing:
        if at.tzinfo is None:
            raise ValueError(f"instant {at} has no time zone")
        if operation == "ListStudios":
            return _listing([studio.record for studio in self._studios.values()])
        if operation == "ListEulas":
            return _listing(self.eulas)
        studio = self._studio(parameters["studioId"])
        match operation:
            case "ListStreamingSessions":
                return Listing(self.sessions_per_studio, lambda slot: studio.session(slot, at))
            case "ListStreamingSessionBackups":
                return Listing(self.sessions_per_studio, lambda slot: studio.backup(slot, at))
            case "ListLaunchProfiles":
                return _listing(studio.profiles_at(at))
            case "ListLaunchProfileMembers":
                return _listing(studio.profile_members(str(parameters["launchProfileId"])))
            case "ListStreamingImages":
                return _listing(studio.images_at(at))
            case "ListStudioComponents":
                return _listing(studio.components)
            case "ListStudioMembers":
                return _listing([studio.member(user_id, "ADMINISTRATOR") for user_id in studio.admins])
            case "ListEulaAcceptances":
                return _listing(studio.eula_acceptances)
        raise UnknownResourceError(f"operation {operation!r}")

    def _filter(self, parameters: Parameters) -> Test | None:
        """Return what decides whether a record passes all filters; None where there is no filter."""
        tests = [test for name, value in parameters.items() if (test := self._test(name, value, parameters))]
        return (lambda record: all(test(record) for test in tests)) if tests else None

    def _test(self, name: str, value: str | list[str], parameters: Parameters) -> Test | None:
        """Return the test of one filter; None where the parameter is no filter."""
        match name:
            case "createdBy" | "ownedBy" | "owner":
                return lambda record: record.get(name) == value
            case "states" | "types" | "eulaIds":
                return lambda record: record[name.removesuffix("s")] in value
            case "sessionIds":
                session_ids = str(value).split(",")
                return lambda record: record["sessionId"] in session_ids
            case "principalId":
                profile_ids = self._studio(parameters["studioId"]).profiles_of(str(value))
                return lambda record: record["launchProfileId"] in profile_ids
        return None

    @cached_property
    def eulas(self) -> list[Record]:
        """Licence agreements: the same for all studios."""
        random = Random(f"{self.seed} eulas")
        return [
            {
                "content": f"{name}: use it for making pictures.",
                "createdAt": before(self.epoch, days=400 - index),
                "eulaId": id22(random),
                "name": name,
                "updatedAt": before(self.epoch, days=300 - index),
            }
            for index, name in enumerate(EULAS)
        ]


def _listing(records: list[Record]) -> Listing:
    return Listing(len(records), records.__getitem__)
