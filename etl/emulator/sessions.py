"""Lives of streaming sessions, event by event.

A studio has a fixed number of *slots*. Each slot hosts one session after another: the next is created the
morning after the last was deleted. A `Life` is one session in one slot. Everything about it follows from
keyed hashes of (slot, generation, day), so any session at any instant is found without computing another, and
nothing is remembered.

An `Event` says which members of the record it sets. The record at an instant is what is left when the events
up to that instant are laid over each other; `Life.record_at` gets there by looking at the last few only.

Of the API's states, STOP_FAILED, DELETE_FAILED and DELETED do not occur: a deleted session leaves the
listing.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple

Record = dict[str, Any]
"""One item of a listing: API member names; instants are aware datetimes of whole seconds."""

DAY_S = 86_400
NEVER = 2**31
"""The day on which the next generation is born where nothing is ever deleted."""

CREATE_FAILURES = (
    ("ACTIVE_DIRECTORY_DOMAIN_JOIN_ERROR", "The workstation could not join the domain."),
    ("INITIALIZATION_SCRIPT_ERROR", "An initialization script exited with status 1."),
    ("AMI_VALIDATION_ERROR", "The image has no NICE DCV server."),
    ("DECRYPT_STREAMING_IMAGE_ERROR", "The key of the streaming image is disabled."),
)
START_FAILURES = (
    ("INSUFFICIENT_CAPACITY", "No capacity for this instance type in the subnet's Availability Zone."),
    ("NETWORK_CONNECTION_ERROR", "The workstation did not report back."),
    ("NETWORK_INTERFACE_ERROR", "The subnet has no free addresses."),
    ("INTERNAL_ERROR", "Internal error."),
)
TAGS = (
    ("Project", ("Nightfall", "Überflug", "夜の海", "atlas-2", "ACME Spot")),
    ("Shot", ("sq010_sh0020", "sq010_sh0040", "sq120_sh0310", "sq200_sh0005")),
    ("Department", ("anim", "comp", "fx", "lighting", "layout")),
    ("CostCenter", ("4100", "4200", "0042", "n/a")),
    ("Artist level", ("junior", "senior", "lead")),
    ("aws:createdBy", ("portal", "pipeline")),
    ("Note", ("", "🎬 final week", "keep until wrap", "a=b, c=d")),
)


class EventKind(StrEnum):
    """What happened to a session. STARTED also stands for a restart: a start after a stop."""

    CREATED = "created"  # enters CREATE_IN_PROGRESS: the instant of createdAt
    STARTED = "started"  # enters START_IN_PROGRESS: the instant of startedAt
    READY = "ready"  # a start has succeeded
    FAILED = "failed"  # a creation became CREATE_FAILED, or a start START_FAILED
    STOPPED = "stopped"  # enters STOP_IN_PROGRESS: the instant of stoppedAt
    RESTED = "rested"  # a stop has succeeded: enters STOPPED
    RETAGGED = "retagged"  # has other tags
    DELETED = "deleted"  # enters DELETE_IN_PROGRESS
    VANISHED = "vanished"  # is no longer listed


class Event(NamedTuple):
    """One thing that happened to one session.

    Attributes:
        at: UTC, whole seconds. No two events of a session share an instant.
        session_id: unique within the studio.
        kind: what happened.
        changed: members of the record that it sets; None takes the member away.
    """

    at: datetime
    session_id: str
    kind: EventKind
    changed: Record


Moment = tuple[int, EventKind]
"""When something happened, as a Unix time in seconds, and what: the seed of an `Event`.

A plain tuple: a page of 100 sessions makes a thousand of them.
"""


@dataclass(frozen=True)
class SessionTemplate:
    """What a launch profile decides about its sessions.

    Attributes:
        constant: members that are equal in every session of the profile.
        instance_types: EC2 instance types that a session may have.
        image_ids: streaming images that it may run.
        max_length_s: running time after which a session is stopped, in seconds.
        max_stopped_s: stopped time after which it is terminated, in seconds; None where it never is.
    """

    constant: Record
    instance_types: tuple[str, ...]
    image_ids: tuple[str, ...]
    max_length_s: int
    max_stopped_s: int | None


@dataclass(frozen=True)
class SessionRules:
    """What all sessions of a studio have in common.

    Attributes:
        key: of the hashes; another key gives other sessions. At most 64 bytes.
        arn_prefix: what precedes the session id in its ARN.
        day_zero_s: Unix time of the studio's midnight before its first working day, in seconds.
        first_weekday: weekday of day zero; Monday is 0.
        life_days: mean length of a life, in days; None: nobody is ever deleted.
        daily_change: share of sessions that are worked on per day from Monday to Friday; a fifth of it at
            weekends.
        templates: one per launch profile.
        users: user ids of those who own sessions.
        admins: user ids of those who create sessions for others.
    """

    key: bytes
    arn_prefix: str
    day_zero_s: int
    first_weekday: int
    life_days: int | None
    daily_change: float
    templates: tuple[SessionTemplate, ...]
    users: tuple[str, ...]
    admins: tuple[str, ...]

    def draw(self, slot: int, generation: int, day: int, size: int) -> bytes:
        """Return `size` random bytes (at most 64) that always are the same for these numbers."""
        return blake2b(b"%d.%d.%d" % (slot, generation, day), digest_size=size, key=self.key).digest()

    def day_of(self, unix_s: int) -> int:
        """Return the studio's day of a Unix time in seconds; day 0 is the first."""
        return (unix_s - self.day_zero_s) // DAY_S

    def birth_day(self, slot: int, generation: int) -> int:
        """Return the day on which a slot's session of this generation is created.

        Generation 0 is there from day 0. Later births fall on a random day of the generation's own stretch of
        `life_days` days, so that equally many happen on every day.
        """
        if not generation:
            return 0
        if self.life_days is None:
            return NEVER
        offset = int.from_bytes(self.draw(slot, generation, -1, 4)) * self.life_days >> 32
        return (generation - 1) * self.life_days + 1 + offset

    def life_on(self, slot: int, day: int) -> "Life":
        """Return the life that the slot hosts on a day >= 0."""
        generation = 0 if self.life_days is None else (day - 1) // self.life_days + 1
        born = self.birth_day(slot, generation)
        if born <= day:
            return Life(self, slot, generation, born, self.birth_day(slot, generation + 1) - 1)
        return Life(self, slot, generation - 1, self.birth_day(slot, generation - 1), born - 1)

    def life_at(self, slot: int, at: datetime) -> "Life | None":
        """Return the session that the slot lists at an instant, if any."""
        day = self.day_of(int(at.timestamp()))
        if day < 0:
            return None
        life = self.life_on(slot, day)
        return life if life.created_at <= at < life.vanished_at else None

    def lives(self, slot: int, since: datetime, until: datetime) -> Iterator["Life"]:
        """Yield, oldest first, the lives of a slot that touch [since, until]."""
        day = max(0, self.day_of(int(since.timestamp())))
        life = self.life_on(slot, day)
        while life.created_at <= until:
            if life.vanished_at >= since:
                yield life
            if life.is_endless:
                return
            life = self.life_on(slot, life.last_day + 1)


class Life:
    """One session from its creation until it is no longer listed.

    Attributes:
        session_id: unique within the studio.
        owner: user id.
        creator: user id; mostly the owner's.
        first_day: the studio's day on which it is created.
        last_day: the studio's day on which it is deleted.
        created_at: first instant at which it is listed.
        vanished_at: first instant at which it is no longer.
    """

    def __init__(self, rules: SessionRules, slot: int, generation: int, first_day: int, last_day: int) -> None:
        draw = rules.draw(slot, generation, -2, 48)
        self.slot = slot
        self.generation = generation
        self.session_id = base64.urlsafe_b64encode(draw[:16])[:22].decode()
        self.owner = rules.users[int.from_bytes(draw[16:19]) % len(rules.users)]
        self.creator = rules.admins[draw[19] % len(rules.admins)] if draw[20] < 26 else self.owner
        self._rules = rules
        self._draw = draw
        self._template = rules.templates[draw[21] % len(rules.templates)]
        self.first_day = first_day
        self.last_day = last_day
        self._created_s = self._second(self.first_day, 7.0 + draw[22] / 51.2) + draw[23] % 60
        self._deleted_s = self._second(self.last_day, 21.75 + draw[24] / 170.7) + draw[25] % 60
        self._vanished_s = self._deleted_s + 120 + draw[26]
        self._never_comes_up = draw[44] == 0
        self.created_at = _utc(self._created_s)
        self.vanished_at = _FOREVER if self.is_endless else _utc(self._vanished_s)

    @property
    def is_endless(self) -> bool:
        """Whether the session is never deleted."""
        return self.last_day == NEVER - 1

    def events(self, until: datetime) -> Iterator[Event]:
        """Yield the events of the life in order, up to an instant, inclusive."""
        retagged = self._retagged()
        until_s = int(until.timestamp())
        for day in range(self.first_day, min(self.last_day, self._rules.day_of(until_s)) + 1):
            moments = self._moments(day)
            if retagged and self._rules.day_of(retagged[0]) == day:
                moments = sorted((*moments, retagged))
            for at_s, kind in moments:
                if at_s <= until_s:
                    yield Event(_utc(at_s), self.session_id, kind, self._changed(at_s, kind))

    def record_at(self, at: datetime) -> Record:
        """Return the session as the API lists it.

        Args:
            at: an instant with `created_at <= at < vanished_at`.
        """
        at_s = int(at.timestamp())
        seen: list[Moment] = []
        for day in range(min(self._rules.day_of(at_s), self.last_day), self.first_day - 1, -1):
            todays = [moment for moment in self._moments(day) if moment[0] <= at_s]
            seen = todays + seen
            # What came before a start and a stop can no longer be seen, but for the tags.
            if any(kind is EventKind.STOPPED for _, kind in todays):
                break
        retagged = self._retagged()
        if retagged and retagged[0] <= at_s:
            seen.append(retagged)
        record = self._born()
        newest_of_kind = {kind: (at_s, kind) for at_s, kind in seen}
        for moment in sorted(newest_of_kind.values()):
            record.update(self._changed(*moment))
        for name in ("statusMessage", "stopAt", "terminateAt", "tags"):
            if record.get(name, name) is None:
                del record[name]
        return record

    def _second(self, day: int, hour: float) -> int:
        return self._rules.day_zero_s + day * DAY_S + int(hour * 3600)

    def _moments(self, day: int) -> list[Moment]:
        """Return what happens on one day, in order, without the retagging.

        It may reach into the next morning. Hours are the studio's: created 7:00 to 12:00, started 7:30 to
        10:30, perhaps a break around half past one, stopped 16:30 to 21:30 or, left on overnight, 6:00 to 7:00;
        deleted 21:45 to 23:15.
        """
        draw = self._rules.draw(self.slot, self.generation, day, 12)
        moments: list[Moment] = []
        if day == self.first_day:
            moments.append((self._created_s, EventKind.CREATED))
            if self._never_comes_up:
                moments.append((self._created_s + 400, EventKind.FAILED))
        if not self._never_comes_up and self._is_worked_on(day, draw):
            moments += self._shifts(day, draw)
        if day == self.last_day:
            moments.append((self._deleted_s, EventKind.DELETED))
            moments.append((self._vanished_s, EventKind.VANISHED))
        return moments

    def _is_worked_on(self, day: int, draw: bytes) -> bool:
        weekend = (day + self._rules.first_weekday) % 7 > 4
        share = self._rules.daily_change / 5 if weekend else self._rules.daily_change
        if draw[0] * 256 + draw[1] < share * 65_536 or day == self.first_day:
            return True
        # Left alone for four days it would be terminated: somebody comes by every third day.
        return self._template.max_stopped_s is not None and (day + self._draw[45]) % 3 == 0

    def _shifts(self, day: int, draw: bytes) -> list[Moment]:
        """Return the starts and stops of a day: one of each, or two around a break; or a start that fails."""
        start_s = self._second(day, 7.5 + draw[2] / 85.4) + draw[3] % 60
        if day == self.first_day:
            start_s = self._created_s + 150 + draw[2]
        ready_s = start_s + 60 + draw[10] % 64
        if draw[11] == 0:  # one start in 256
            return [(start_s, EventKind.STARTED), (ready_s, EventKind.FAILED)]
        overnight = draw[6] < 26 and day < self.last_day
        stop_s = self._second(day, 30 + draw[4] / 256 if overnight else 16.5 + draw[4] / 51.2) + draw[5] % 60
        moments = [(start_s, EventKind.STARTED), (ready_s, EventKind.READY)]
        if draw[7] < 26:
            break_s, resume_s = self._second(day, 13) + draw[8] * 7, self._second(day, 14) + draw[9] * 7
            moments += [
                (break_s, EventKind.STOPPED),
                (break_s + 45, EventKind.RESTED),
                (resume_s, EventKind.STARTED),
                (resume_s + 75, EventKind.READY),
            ]
        moments += [(stop_s, EventKind.STOPPED), (stop_s + 30 + draw[10] % 64, EventKind.RESTED)]
        return moments

    def _retagged(self) -> Moment | None:
        """Return when the session got other tags, between 15:00 and 16:00: a third of them do, once."""
        draw = self._draw
        if draw[40] >= 85 or not self._rules.daily_change:
            return None
        span_days = min(self.last_day - self.first_day + 1, 180)
        day = self.first_day + int.from_bytes(draw[41:43]) % span_days
        return (self._second(day, 15) + draw[43] * 14, EventKind.RETAGGED)

    def _born(self) -> Record:
        """Return the members that stay as creation set them, and the first tags."""
        draw, template = self._draw, self._template
        record = {
            "arn": self._rules.arn_prefix + self.session_id,
            "sessionId": self.session_id,
            "createdAt": self.created_at,
            "createdBy": self.creator,
            "ownedBy": self.owner,
            "ec2InstanceType": template.instance_types[draw[27] % len(template.instance_types)],
            "streamingImageId": template.image_ids[draw[28] % len(template.image_ids)],
            "tags": _tags(draw[32:40]),
            **template.constant,
        }
        if draw[29] < 8:
            record["startedFromBackupId"] = base64.urlsafe_b64encode(draw[3:19])[:22].decode()
        return record

    def _changed(self, at_s: int, kind: EventKind) -> Record:
        """Return the members of the record that an event sets."""
        at, template = _utc(at_s), self._template
        match kind:
            case EventKind.STARTED:
                return {
                    "state": "START_IN_PROGRESS",
                    "statusCode": "STREAMING_SESSION_START_IN_PROGRESS",
                    "statusMessage": None,
                    "startedAt": at,
                    "startedBy": self.owner,
                    "stopAt": _utc(at_s + template.max_length_s),
                    "terminateAt": None,
                    "updatedAt": at,
                    "updatedBy": self.owner,
                }
            case EventKind.READY:
                return {"state": "READY", "statusCode": "STREAMING_SESSION_READY", "updatedAt": at}
            case EventKind.STOPPED:
                stopped_s = template.max_stopped_s
                return {
                    "state": "STOP_IN_PROGRESS",
                    "statusCode": "STREAMING_SESSION_STOP_IN_PROGRESS",
                    "stoppedAt": at,
                    "stoppedBy": self.owner,
                    "stopAt": None,
                    "terminateAt": None if stopped_s is None else _utc(at_s + stopped_s),
                    "updatedAt": at,
                    "updatedBy": self.owner,
                }
            case EventKind.RESTED:
                return {"state": "STOPPED", "statusCode": "STREAMING_SESSION_STOPPED", "updatedAt": at}
            case EventKind.FAILED:
                what, reasons = ("CREATE", CREATE_FAILURES) if self._never_comes_up else ("START", START_FAILURES)
                code, message = reasons[at_s % len(reasons)]
                failure = {"state": f"{what}_FAILED", "statusCode": code, "statusMessage": message}
                return failure | {"stopAt": None, "updatedAt": at}
            case EventKind.RETAGGED:
                tags = _tags(b"\xff" + self._draw[33:40][::-1])
                return {"tags": tags, "updatedAt": at, "updatedBy": self.creator}
            case EventKind.CREATED:
                return {
                    "state": "CREATE_IN_PROGRESS",
                    "statusCode": "STREAMING_SESSION_CREATE_IN_PROGRESS",
                    "updatedAt": at,
                    "updatedBy": self.creator,
                }
            case EventKind.DELETED:
                return {
                    "state": "DELETE_IN_PROGRESS",
                    "statusCode": "STREAMING_SESSION_DELETE_IN_PROGRESS",
                    "statusMessage": None,
                    "stopAt": None,
                    "terminateAt": None,
                    "updatedAt": at,
                    "updatedBy": self.creator,
                }
            case EventKind.VANISHED:
                return {}


def _tags(draw: bytes) -> dict[str, str] | None:
    """Return the labels that 8 random bytes stand for: absent, empty, or one to seven."""
    if draw[0] < 38:
        return None
    if draw[0] < 64:
        return {}
    tags = {}
    for position in range(1 + draw[1] % 6):
        key, values = TAGS[(draw[2] + position) % len(TAGS)]
        tags[key] = values[draw[3 + position % 4] % len(values)]
    if draw[7] < 13:  # keys are case-sensitive
        tags |= {"Name": "Workstation", "name": "ws-042"}
    return tags


def _utc(unix_s: int) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


_FOREVER = datetime(9999, 12, 31, tzinfo=UTC)
