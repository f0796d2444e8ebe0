"""Every mart, macro and named query once more, in plain Python, from what the nights have shown."""

import datetime as dt
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from benchmarks.year.build import Priced
from benchmarks.year.costs import Costs, region_of
from benchmarks.year.observed import Key, Night
from etl.emulator.sessions import Record

Row = tuple[Any, ...]
OFF = {"STOPPED", "DELETE_IN_PROGRESS", "DELETED"}


def midnight(date: dt.date) -> dt.datetime:
    """Return 00:00 UTC of a date."""
    return dt.datetime.combine(date, dt.time(), dt.UTC)


@dataclass
class Run:
    """One start of a session."""

    studio: str
    session: str
    started_at: dt.datetime
    stopped_at: dt.datetime | None = None
    last_date: dt.date = dt.date.min
    record: Record = field(default_factory=dict)
    before: "Run | None" = None
    failed: bool = False
    off: bool = False
    listed: bool = False

    @property
    def ended_at(self) -> dt.datetime:
        """Return when it stopped, or until when it is counted."""
        return self.stopped_at or max(self.started_at, midnight(self.last_date))

    @property
    def ending(self) -> str:
        """Return what is known of its end."""
        return "stopped" if self.stopped_at else "running" if self.listed else "unseen"

    @property
    def seconds(self) -> float:
        """Return how long it ran."""
        return (self.ended_at - self.started_at).total_seconds()

    def days(self) -> Iterator[tuple[dt.date, float]]:
        """Yield each UTC day that it touches, and its seconds on it."""
        day = self.started_at.date()
        while midnight(day) < self.ended_at:
            until = min(self.ended_at, midnight(day + dt.timedelta(days=1)))
            seconds = (until - max(self.started_at, midnight(day))).total_seconds()
            if seconds:
                yield day, seconds
            day += dt.timedelta(days=1)


@dataclass
class Expected:
    """What is right.

    Attributes:
        nights: by date.
        names: of the studios.
        received: when the page arrived that shows a session on the last night.
        pages: rows of etl_slices that no event tells: studio and date -> pages, seconds of the walk.
        prices: of the price table.
    """

    nights: Mapping[dt.date, Night]
    names: Mapping[str, str]
    received: Mapping[Key, dt.datetime]
    pages: Mapping[tuple[str, dt.date], tuple[int, int]]
    prices: list[Priced]

    @cached_property
    def costs(self) -> Costs:
        """Return what sessions cost."""
        return Costs(self, self.prices)

    @property
    def dates(self) -> list[dt.date]:
        """Return the dates of the nights."""
        return list(self.nights)

    @property
    def last(self) -> Night:
        """Return the newest night."""
        return self.nights[self.dates[-1]]

    def _listed_at(self, key: Key) -> dt.datetime:
        """Return when the newest snapshot was as it is: when the page arrived, on its date at the latest."""
        return min(self.received[key], midnight(self.dates[-1] + dt.timedelta(days=1)))

    @cached_property
    def runs(self) -> list[Run]:
        """Return every start that a night has shown."""
        found: dict[tuple[str, str, dt.datetime], Run] = {}
        newest: dict[Key, Run] = {}
        for date, night in self.nights.items():
            for (studio, session), record in night.items():
                if "startedAt" in record:
                    key = (studio, session, record["startedAt"])
                    run = found.setdefault(key, Run(*key, before=newest.get((studio, session))))
                    newest[studio, session] = run
                    run.record = record
                    run.failed |= record["state"] == "START_FAILED"
                    run.off |= record["state"] in OFF
                    run.listed = date == self.dates[-1] and not run.off
                    if not run.off:
                        run.last_date = date
                    stopped_at = record.get("stoppedAt")
                    if stopped_at and stopped_at >= run.started_at:
                        run.stopped_at = stopped_at
                    elif stopped_at and run.before and stopped_at >= run.before.started_at:
                        run.before.stopped_at = run.before.stopped_at or stopped_at
        return [run for run in found.values() if not run.failed]

    @cached_property
    def changes(self) -> list[tuple[dt.date, Key, str, Record, Record]]:
        """Return (date, key, change, record before, record now) of all that changed between two nights."""
        found = [(self.dates[0], key, "appeared", {}, record) for key, record in self.nights[self.dates[0]].items()]
        for before, date in pairwise(self.dates):
            then, now = self.nights[before], self.nights[date]
            for key in then.keys() | now.keys():
                if key not in then:
                    found.append((date, key, "appeared", {}, now[key]))
                elif key not in now:
                    found.append((date, key, "vanished", then[key], then[key]))
                elif then[key] != now[key]:
                    found.append((date, key, "changed", then[key], now[key]))
        return found

    # Marts

    def session_runs(self) -> Iterator[Row]:
        """Studio, session, start, end, ending, seconds, type, owner, profile, tags."""
        for run in self.runs:
            own = run.record
            yield (
                run.studio, run.session, run.started_at, run.ended_at, run.ending, run.seconds,
                own["ec2InstanceType"], own["ownedBy"], own["launchProfileId"], own.get("tags"),
            )  # fmt: skip

    def session_days(self) -> Iterator[Row]:
        """Day, studio, session, start, seconds."""
        for run in self.runs:
            for day, seconds in run.days():
                yield day, run.studio, run.session, run.started_at, seconds

    def daily_hours(self) -> Iterator[Row]:
        """Day, studio, type, owner, profile, sessions, seconds, cost, currency."""
        seconds: Counter[Row] = Counter()
        sessions: dict[Row, set[str]] = defaultdict(set)
        for run in self.runs:
            own = run.record
            for day, ran in run.days():
                key = (day, run.studio, own["ec2InstanceType"], own["ownedBy"], own["launchProfileId"])
                seconds[key] += ran
                sessions[key].add(run.session)
        for key, ran in seconds.items():
            currency, price = self.costs.prices_on(key[0], region_of(key[1]), key[2])[:2]
            cost = None if price is None else ran / 3600 * price
            yield *key, len(sessions[key]), ran, cost, None if price is None else currency

    def recent_hours(self) -> Iterator[Row]:
        """Day, days ago, studio, type, owner, seconds."""
        for day, studio, kind, owner, _, _, seconds, *_ in self.daily_hours():
            if self.dates[0] - dt.timedelta(days=1) <= day < self.dates[-1]:
                yield day, (self.dates[-1] - day).days, studio, kind, owner, seconds

    def daily_hours_by_tag(self) -> Iterator[Row]:
        """Day, studio, tag, value, sessions, seconds."""
        seconds: Counter[Row] = Counter()
        sessions: dict[Row, set[str]] = defaultdict(set)
        for run in self.runs:
            for tag, value in (run.record.get("tags") or {}).items():
                for day, ran in run.days():
                    seconds[day, run.studio, tag, value] += ran
                    sessions[day, run.studio, tag, value].add(run.session)
        for key, ran in seconds.items():
            yield *key, len(sessions[key]), ran

    def daily_states(self) -> Iterator[Row]:
        """Date, studio, state, sessions, GiB, operations/s, MiB/s."""
        for date, night in self.nights.items():
            for (studio, state), records in _grouped(night, lambda record: record["state"]).items():
                yield date, studio, state, len(records), *_volumes(records)

    def idle_times(self) -> Iterator[Row]:
        """Studio, session, owner, type, start, update, seconds, GiB."""
        for key, record in self.last.items():
            if record["state"] == "READY":
                idle = (self._listed_at(key) - record["updatedAt"]).total_seconds()
                gib = record.get("volumeConfiguration", {}).get("size")
                yield (
                    *key, record["ownedBy"], record["ec2InstanceType"], record["startedAt"], record["updatedAt"], idle,
                    gib,
                )  # fmt: skip

    def planned_ends(self) -> Iterator[Row]:
        """Studio, session, owner, state, ending, instant, seconds left."""
        for key, record in self.last.items():
            for ending, name in (("stop", "stopAt"), ("terminate", "terminateAt")):
                if name in record and (ending == "terminate" or record["state"] == "READY"):
                    left = (record[name] - self._listed_at(key)).total_seconds()
                    yield *key, record["ownedBy"], record["state"], ending, record[name], left

    def storage_held(self) -> Iterator[Row]:
        """Studio, owner, sessions, GiB, operations/s, MiB/s."""
        held = {key: record for key, record in self.last.items() if "volumeConfiguration" in record}
        for (studio, owner), records in _grouped(held, lambda record: record["ownedBy"]).items():
            yield studio, owner, len(records), *_volumes(records)

    def session_lifetimes(self) -> Iterator[Row]:
        """Studio, session, owner, creation, first start, wait, first and last date, listed, life, runs, seconds."""
        seen: dict[Key, list[tuple[dt.date, Record]]] = defaultdict(list)
        for date, night in self.nights.items():
            for key, record in night.items():
                seen[key].append((date, record))
        runs: dict[Key, list[Run]] = defaultdict(list)
        for run in self.runs:
            runs[run.studio, run.session].append(run)
        for key, shown in seen.items():
            (first, _), (last, record) = shown[0], shown[-1]
            created = record["createdAt"]
            starts = [(date, each["startedAt"]) for date, each in shown if "startedAt" in each]
            known = starts and starts[0][0] <= created.date() + dt.timedelta(days=1)
            start = min(at for _, at in starts) if known else None
            yield (
                *key, record["ownedBy"], created, start, start and (start - created).total_seconds(), first, last,
                last == self.dates[-1], (max(created, midnight(last)) - created).total_seconds(),
                len(runs[key]), float(sum(run.seconds for run in runs[key])),
            )  # fmt: skip

    def failures(self) -> Iterator[Row]:
        """Date, studio, state, code, failures."""
        firsts: dict[Row, dt.date] = {}
        for date, night in self.nights.items():
            for key, record in night.items():
                if record["state"].endswith("FAILED"):
                    failure = (*key, record["state"], record["statusCode"], record.get("startedAt"))
                    firsts.setdefault(failure, date)
        counts = Counter((date, studio, state, code) for (studio, _, state, code, _), date in firsts.items())
        return ((*key, count) for key, count in counts.items())

    def tag_usage(self) -> Iterator[Row]:
        """Studio, tag, sessions, share, values."""
        sessions = Counter(studio for studio, _ in self.last)
        values: dict[tuple[str, str], list[str]] = defaultdict(list)
        for (studio, _), record in self.last.items():
            for tag, value in (record.get("tags") or {}).items():
                values[studio, tag].append(value)
        for (studio, tag), found in values.items():
            yield studio, tag, len(found), len(found) / sessions[studio], len(set(found))

    def studio_names(self) -> Iterator[Row]:
        """Studio, name."""
        names = Counter((region_of(studio), name) for studio, name in self.names.items())
        for studio, name in self.names.items():
            yield studio, name if names[region_of(studio), name] == 1 else f"{name} {studio}"

    # Macros

    def as_of(self, at: dt.datetime) -> Iterator[Row]:
        """Studio, session, state, update, tags as the newest night until then has shown them."""
        date = max(date for date in self.dates if date <= at.astimezone(dt.UTC).date())
        for key, record in self.nights[date].items():
            yield *key, record["state"], record["updatedAt"], record.get("tags")

    def changes_between(self, first: dt.date, last: dt.date) -> Iterator[Row]:
        """Date, studio, session, change."""
        return ((date, *key, change) for date, key, change, _, _ in self.changes if first <= date <= last)

    # Named queries, with the values of their parameters

    def queries(self, session_id: str) -> dict[str, tuple[Mapping[str, str], Iterable[Row]]]:
        """Return query -> parameters and rows."""
        return {
            "changes_by_night": ({"nights": "30"}, self._changes_by_night(30)),
            "costs_by_month": ({}, self.costs.by_month()),
            "costs_by_owner": ({}, self.costs.by_owner()),
            "costs_by_tag": ({"tag": "Project"}, self.costs.by_tag("Project")),
            "idle_costs": ({"hours": "2"}, self.costs.idle_costs(2)),
            "unpriced_hours": ({}, self.costs.unpriced_hours()),
            "ending_sessions": ({"hours": "40"}, self._ending(40)),
            "failed_sessions": ({}, self._failed()),
            "idle_sessions": ({"hours": "12"}, self._idle(12)),
            "largest_studios": ({"studios": "1"}, self._largest(1)),
            "nights": ({"nights": "10"}, self._nights(10)),
            "session_history": ({"session_id": session_id}, self._history(session_id)),
            "sessions_by_instance_type": ({}, self._by_instance_type()),
            "sessions_by_state": ({}, self._by_state()),
            "sessions_by_tag": ({"tag": "Shot"}, self._by_tag("Shot")),
            "state_changes": ({"nights": "20"}, self._state_changes(20)),
            "stopped_sessions": ({"days": "3"}, self._stopped(3)),
            "storage_by_owner": ({}, self.storage_held()),
            "tag_coverage": ({}, ((*row[:3], _rounded(row[3], 3), row[4]) for row in self.tag_usage())),
            "untagged_sessions": ({"tag": "Project"}, self._untagged("Project")),
            "waits_to_start": ({}, self._waits()),
        }

    def _changes_by_night(self, nights: int) -> Iterator[Row]:
        counts: dict[tuple[dt.date, str], Counter[str]] = defaultdict(Counter)
        for date, (studio, _), change, _, _ in self.changes:
            if date > self.dates[0] and date > self.dates[-1] - dt.timedelta(days=nights):
                counts[date, studio][change] += 1
        for key, found in counts.items():
            yield *key, found["appeared"], found["changed"], found["vanished"]

    def _ending(self, hours: int) -> Iterator[Row]:
        for studio, session, owner, state, ending, at, left in self.planned_ends():
            if 0 <= left < hours * 3600:
                yield studio, session, owner, state, ending, at, int(left // 60)

    def _largest(self, studios: int) -> Iterator[Row]:
        counts, sizes = Counter[str](), Counter[str]()
        for (studio, _), record in self.last.items():
            counts[studio] += 1
            sizes[studio] += (record.get("volumeConfiguration") or {}).get("size", 0)
        for studio in sorted(counts, key=lambda name: (-counts[name], name))[:studios]:
            yield studio, counts[studio], sizes[studio]

    def _failed(self) -> Iterator[Row]:
        for key, record in self.last.items():
            if record["state"].endswith("FAILED"):
                yield (
                    *key, record["ownedBy"], record["ec2InstanceType"], record["state"], record["statusCode"],
                    record.get("statusMessage"), record["updatedAt"],
                )  # fmt: skip

    def _idle(self, hours: int) -> Iterator[Row]:
        for studio, session, owner, kind, _, updated, idle, gib in self.idle_times():
            if idle >= hours * 3600:
                yield studio, session, owner, kind, updated, gib, int(idle // 3600)

    def _nights(self, nights: int) -> Iterator[Row]:
        for date in (date for date in self.dates if (self.dates[-1] - date).days < nights):
            sessions = Counter(studio for studio, _ in self.nights[date])
            for studio, count in sessions.items():
                pages, seconds = self.pages[studio, date]
                yield date, studio, pages, count, count, 0, 0, seconds

    def _history(self, session_id: str) -> Iterator[Row]:
        own = [
            (date, change, key[0], record)
            for date, key, change, _, record in sorted(self.changes, key=lambda found: found[0])
            if key[1] == session_id
        ]
        following = [date for date, *_ in own[1:]] + [None]
        for (date, change, studio, record), until in zip(own, following, strict=True):
            if change != "vanished":
                yield (
                    date, until, studio, record["state"], record["statusCode"], record["ownedBy"],
                    record["ec2InstanceType"], record.get("startedAt"), record.get("stoppedAt"),
                    record.get("volumeConfiguration", {}).get("size"),
                )  # fmt: skip

    def _by_instance_type(self) -> Iterator[Row]:
        for (studio, kind), records in _grouped(self.last, lambda record: record["ec2InstanceType"]).items():
            yield studio, kind, len(records), sum(record["state"] == "READY" for record in records)

    def _by_state(self) -> Iterator[Row]:
        for (studio, state), records in _grouped(self.last, lambda record: record["state"]).items():
            yield self.names[studio], state, len(records), _volumes(records)[0]

    def _by_tag(self, tag: str) -> Iterator[Row]:
        by_value: dict[str | None, list[Record]] = defaultdict(list)
        for record in self.last.values():
            by_value[(record.get("tags") or {}).get(tag)].append(record)
        for value, records in by_value.items():
            yield value, len(records), sum(record["state"] == "READY" for record in records)

    def _state_changes(self, nights: int) -> Iterator[Row]:
        moved = [
            (date, before["state"], now["state"])
            for date, _, change, before, now in self.changes
            if change == "changed" and before["state"] != now["state"]
        ]
        counts = Counter((before, now) for date, before, now in moved if (self.dates[-1] - date).days < nights)
        return ((*states, count) for states, count in counts.items())

    def _stopped(self, days: int) -> Iterator[Row]:
        for key, record in self.last.items():
            if record["state"] == "STOPPED" and "volumeConfiguration" in record:
                stopped = (self._listed_at(key) - record["stoppedAt"]) // dt.timedelta(days=1)
                if stopped >= days:
                    yield *key, record["ownedBy"], record["stoppedAt"], record["volumeConfiguration"]["size"], stopped

    def _untagged(self, tag: str) -> Iterator[Row]:
        for key, record in self.last.items():
            if tag not in (record.get("tags") or {}):
                gib = record.get("volumeConfiguration", {}).get("size")
                yield *key, record["ownedBy"], record["state"], record["createdAt"], gib

    def _waits(self) -> Iterator[Row]:
        kinds = {key: record["ec2InstanceType"] for night in self.nights.values() for key, record in night.items()}
        waits: dict[tuple[str, str], list[float]] = defaultdict(list)
        for studio, session, _, _, start, wait, *_ in self.session_lifetimes():
            if start:
                waits[studio, kinds[studio, session]].append(wait / 60)
        for key, minutes in waits.items():
            yield *key, len(minutes), _rounded(statistics.median(minutes), 1), _rounded(max(minutes), 1)


def _rounded(value: float, digits: int) -> float:
    """Return a number rounded as DuckDB does: a half goes up."""
    return math.floor(value * 10**digits + 0.5) / 10**digits


def _grouped(night: Night, kind: Callable[[Record], str]) -> dict[tuple[str, str], Sequence[Record]]:
    found: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for (studio, _), record in night.items():
        found[studio, kind(record)].append(record)
    return found


def _volumes(records: Iterable[Record]) -> tuple[int, int, int]:
    volumes = [record["volumeConfiguration"] for record in records if "volumeConfiguration" in record]
    return tuple(sum(volume[name] for volume in volumes) for name in ("size", "iops", "throughput"))
