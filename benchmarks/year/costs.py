"""What sessions cost, once more in plain Python, from the runs and the nights of `expected.py`."""

import calendar
import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from benchmarks.year.build import Priced
from etl.emulator.sessions import Record

if TYPE_CHECKING:
    from benchmarks.year.expected import Expected, Run

Row = tuple[Any, ...]
DAY = dt.timedelta(days=1)
NO_PRICE = "without a price are not part of the cost"


def region_of(studio: str) -> str:
    """Return the Region of a studio: its id begins with it."""
    return studio.rpartition("-")[0]


class Rounded(float):
    """A number that the query rounds: what it answers may differ by half of its last digit."""

    within: float

    @classmethod
    def to(cls, digits: int, value: float | None) -> "Rounded | None":
        """Return a value that is rounded to so many digits; None stays None."""
        if value is None:
            return None
        rounded = cls(value)
        rounded.within = 0.5 / 10**digits + 1e-6
        return rounded


@dataclass
class Sums:
    """What some sessions have used and cost on some days. A cost is None while nothing had a price."""

    running: float = 0.0
    priced: float = 0.0
    unpriced: float = 0.0
    instance_cost: float | None = None
    idle: float = 0.0
    idle_cost: float | None = None
    volume_days: int = 0
    gib_days: int = 0
    extra_iops: int = 0
    extra_throughput: int = 0
    unpriced_volumes: int = 0
    storage_cost: float | None = None

    def add(self, other: "Sums") -> None:
        """Add up."""
        for name in (field.name for field in fields(self)):
            more = getattr(other, name)
            if more is not None:
                setattr(self, name, (getattr(self, name) or 0) + more)

    @property
    def cost(self) -> float | None:
        """Return instances and storage together."""
        known = [cost for cost in (self.instance_cost, self.storage_cost) if cost is not None]
        return sum(known) if known else None

    def as_row(self) -> Row:
        """Return everything in the order of the columns of daily_costs; times in seconds."""
        return (*(getattr(self, field.name) for field in fields(self)), self.cost)

    @property
    def note(self) -> str | None:
        """Return what a query says about the cost."""
        left_out = [name for name, many in (("hours", self.unpriced), ("volumes", self.unpriced_volumes)) if many]
        return f"{' and '.join(left_out)} {NO_PRICE}" if left_out else None


@dataclass(frozen=True)
class Part:
    """One session on one day: its run, or its volume."""

    day: dt.date
    session: tuple[str, str]
    record: Record
    seconds: float = 0.0
    idle: float = 0.0
    volume: Mapping[str, int] | None = None

    @property
    def studio(self) -> str:
        """Return the studio."""
        return self.session[0]

    @property
    def region(self) -> str:
        """Return the Region."""
        return region_of(self.studio)


@dataclass
class Costs:
    """What is right."""

    expected: "Expected"
    prices: list[Priced]

    # Prices

    def _holding(self, item: str, kind: str, region: str, day: dt.date) -> Priced | None:
        """Return the price that holds: that of the Region first, then the newest."""
        known = [
            price
            for price in self.prices
            if (price.item, price.kind) == (item, kind)
            and price.region in {"", region}
            and (price.since or dt.date.min) <= day
        ]
        return max(known, key=lambda price: (price.region, price.since or dt.date.min), default=None)

    @cached_property
    def _cached(self) -> dict[Row, Row]:
        return {}

    def prices_on(self, day: dt.date, region: str, kind: str) -> Row:
        """Return currency, and the prices of an hour, a GiB, an operation/s and a MiB/s."""
        if (day, region, kind) not in self._cached:
            names = {(price.item, price.kind) for price in self.prices}
            held = {name: self._holding(*name, region, day) for name in names}
            currencies = {price.currency for price in held.values() if price}
            assert len(currencies) <= 1
            items = ("volume_gib_month", "volume_iops_month", "volume_throughput_month")
            found = [held.get(name) for name in (("instance_hour", kind), *((item, "") for item in items))]
            values = (float(price.price) if price else None for price in found)
            self._cached[day, region, kind] = (next(iter(currencies), None), *values)
        return self._cached[day, region, kind]

    def price_periods(self) -> Iterator[Row]:
        """Region, type, first day, day after the last, currency, prices of an hour, a GiB, an operation/s, a MiB/s."""
        records = ((region_of(key[0]), one) for night in self.expected.nights.values() for key, one in night.items())
        for region, kind in {(region, one["ec2InstanceType"]) for region, one in records}:
            begins = {price.since or dt.date.min for price in self.prices if price.region in {"", region}}
            for first, then in pairwise([*sorted(begins), dt.date.max]):
                yield region, kind, first, then, *self.prices_on(first, region, kind)

    # Use

    def _idle_spans(self) -> dict[Row, list[tuple[dt.datetime, dt.datetime]]]:
        """Return studio, session and start -> spans from the last update to 00:00 of the last night that shows it."""
        last: dict[Row, dict[dt.datetime, dt.date]] = defaultdict(dict)
        for date, night in self.expected.nights.items():
            for key, record in night.items():
                if record["state"] == "READY":
                    last[*key, record["startedAt"]][record["updatedAt"]] = date
        found: dict[Row, list[tuple[dt.datetime, dt.datetime]]] = defaultdict(list)
        for run in self.expected.runs:
            key = (run.studio, run.session, run.started_at)
            for updated, date in last[key].items():
                begin = max(updated, run.started_at)
                end = min(dt.datetime.combine(date, dt.time(), dt.UTC), run.ended_at)
                if end > begin:
                    found[key].append((begin, end))
        return found

    @cached_property
    def idle_spans(self) -> dict[Row, list[tuple[dt.datetime, dt.datetime]]]:
        """Return them, computed once."""
        return self._idle_spans()

    @cached_property
    def parts(self) -> list[Part]:
        """Return all runs and volumes, day by day."""
        return [*self._runs(), *self._volumes()]

    def _runs(self) -> Iterator[Part]:
        for run in self.expected.runs:
            spans = self.idle_spans.get((run.studio, run.session, run.started_at), [])
            for day, seconds in run.days():
                idle = sum((_within(day, *span) for span in spans), 0.0)
                yield Part(day, (run.studio, run.session), run.record, seconds, idle)

    def _volumes(self) -> Iterator[Part]:
        dates = self.expected.dates
        for date, following in pairwise([*dates, None]):
            now, then = self.expected.nights[date], self.expected.nights.get(following, {})
            for key, record in now.items():
                if volume := record.get("volumeConfiguration"):
                    day = date
                    while day == date or (key in then and day < following):
                        yield Part(day, key, record, volume=volume)
                        day += DAY

    def _sums(self, part: Part) -> tuple[str | None, Sums]:
        """Return the currency of a part, and what it used and cost."""
        currency, hour, gib, iops, throughput = self.prices_on(part.day, part.region, part.record["ec2InstanceType"])
        if part.volume is None:
            found = Sums(running=part.seconds, idle=part.idle)
            if hour is None:
                found.unpriced = part.seconds
            else:
                found.priced = part.seconds
                found.instance_cost = part.seconds / 3600 * hour
                found.idle_cost = part.idle / 3600 * hour
            return currency, found
        size, more_iops = part.volume["size"], max(part.volume["iops"] - 3000, 0)
        more_throughput = max(part.volume["throughput"] - 125, 0)
        found = Sums(volume_days=1, gib_days=size, extra_iops=more_iops, extra_throughput=more_throughput)
        whole = gib is not None and not (more_iops and iops is None) and not (more_throughput and throughput is None)
        found.unpriced_volumes = int(not whole)
        if gib is not None:
            month = size * gib + more_iops * (iops or 0) + more_throughput * (throughput or 0)
            found.storage_cost = month / calendar.monthrange(part.day.year, part.day.month)[1]
        return currency, found

    def _by(self, keys: Callable[[Part], Iterator[Row]]) -> dict[Row, Sums]:
        """Return sums by the keys of each part, which the currency ends."""
        found: dict[Row, Sums] = defaultdict(Sums)
        for part in self.parts:
            currency, sums = self._sums(part)
            for key in keys(part):
                found[*key, currency].add(sums)
        return found

    # Marts

    def volume_periods(self) -> Iterator[Row]:
        """First day, last day, studio, session, owner, GiB: days in a row on which all that it costs by is the same."""
        days: dict[Row, list[Part]] = defaultdict(list)
        for part in self._volumes():
            days[part.session].append(part)
        for parts in days.values():
            parts.sort(key=lambda part: part.day)
            first = parts[0]
            for part, then in pairwise([*parts, None]):
                if then is None or then.day != part.day + DAY or _costs_by(then) != _costs_by(part):
                    yield first.day, part.day, *part.session, part.record["ownedBy"], (part.volume or {})["size"]
                    first = then or first

    def monthly_costs(self) -> Iterator[Row]:
        """Month, studio, type, owner, profile, tags, currency, and all sums."""

        def key(part: Part) -> Iterator[Row]:
            own = part.record
            tags = tuple((own.get("tags") or {}).items()) if own.get("tags") is not None else None
            yield (
                part.day.replace(day=1),
                part.studio,
                own["ec2InstanceType"],
                own["ownedBy"],
                own["launchProfileId"],
                tags,
            )

        for found, sums in self._by(key).items():
            *keys, tags, currency = found
            yield *keys, None if tags is None else dict(tags), currency, *sums.as_row()

    def volume_days(self) -> Iterator[Row]:
        """Day, studio, session, type, owner, profile, tags, GiB, operations/s, MiB/s."""
        for part in self._volumes():
            own, volume = part.record, part.volume or {}
            yield (
                part.day, *part.session, own["ec2InstanceType"], own["ownedBy"], own["launchProfileId"],
                own.get("tags"), volume["size"], volume["iops"], volume["throughput"],
            )  # fmt: skip

    def _with_idle(self) -> Iterator[tuple["Run", dt.datetime, dt.datetime]]:
        for run in self.expected.runs:
            for span in self.idle_spans.get((run.studio, run.session, run.started_at), []):
                yield run, *span

    def idle_periods(self) -> Iterator[Row]:
        """Studio, session, start, from, until."""
        return ((run.studio, run.session, run.started_at, *span) for run, *span in self._with_idle())

    def idle_days(self) -> Iterator[Row]:
        """Day, studio, session, from, seconds, seconds before."""
        for run, begin, end in self._with_idle():
            before, day = 0.0, begin.date()
            while seconds := _within(day, begin, end):
                yield day, run.studio, run.session, begin, seconds, before
                before, day = before + seconds, day + DAY

    def session_costs(self) -> Iterator[Row]:
        """Day, studio, session, currency, and all sums."""
        for part in self.parts:
            currency, sums = self._sums(part)
            yield part.day, *part.session, currency, *sums.as_row()[:-1]

    def daily_costs(self) -> Iterator[Row]:
        """Day, studio, type, owner, profile, currency, and all sums."""

        def key(part: Part) -> Iterator[Row]:
            own = part.record
            yield part.day, part.studio, own["ec2InstanceType"], own["ownedBy"], own["launchProfileId"]

        return ((*found, *sums.as_row()) for found, sums in self._by(key).items())

    def daily_costs_by_tag(self) -> Iterator[Row]:
        """Day, studio, tag, value, currency, and all sums."""

        def keys(part: Part) -> Iterator[Row]:
            return ((part.day, part.studio, *tag) for tag in (part.record.get("tags") or {}).items())

        return ((*found, *sums.as_row()) for found, sums in self._by(keys).items())

    # Queries

    def _monthly(self, keys: Callable[[Part], Row]) -> Iterator[Row]:
        for key, sums in self._by(lambda part: iter([(part.day.replace(day=1), *keys(part))])).items():
            yield (
                *key, Rounded.to(1, sums.running / 3600), Rounded.to(1, sums.unpriced / 3600), sums.unpriced_volumes,
                Rounded.to(2, sums.instance_cost), Rounded.to(2, sums.storage_cost), Rounded.to(2, sums.cost),
                sums.note,
            )  # fmt: skip

    def by_month(self) -> Iterator[Row]:
        """Month, studio, currency, hours, unpriced hours, unpriced volumes, costs, note."""
        return self._monthly(lambda part: (part.studio,))

    def by_owner(self) -> Iterator[Row]:
        """Month, studio, owner, currency, and so on."""
        return self._monthly(lambda part: (part.studio, part.record["ownedBy"]))

    def by_tag(self, tag: str) -> Iterator[Row]:
        """Month, value, whether there is one, currency, and so on."""

        def key(part: Part) -> Row:
            value = (part.record.get("tags") or {}).get(tag)
            return value, value is not None

        return self._monthly(key)

    def unpriced_hours(self) -> Iterator[Row]:
        """Region, type, first day, last day, hours, note."""
        days: dict[Row, list[dt.date]] = defaultdict(list)
        seconds: Counter[Row] = Counter()
        for part in self.parts:
            if unpriced := self._sums(part)[1].unpriced:
                key = (part.region, part.record["ec2InstanceType"])
                days[key].append(part.day)
                seconds[key] += unpriced
        for key, found in days.items():
            yield *key, min(found), max(found), Rounded.to(1, seconds[key] / 3600), f"hours {NO_PRICE}"

    def idle_costs(self, hours: int) -> Iterator[Row]:
        """Month, studio, currency, sessions, hours, unpriced hours, cost, note."""
        sessions: dict[Row, set[str]] = defaultdict(set)
        sums: dict[Row, Sums] = defaultdict(Sums)
        for run, begin, end in self._with_idle():
            limit = begin + dt.timedelta(hours=hours)
            day = limit.date()
            while seconds := _within(day, limit, end):
                part = Part(day, (run.studio, run.session), run.record, seconds)
                currency, found = self._sums(part)
                key = (day.replace(day=1), run.studio, currency)
                sessions[key].add(run.session)
                sums[key].add(found)
                day += DAY
        for key, found in sums.items():
            yield (
                *key, len(sessions[key]), Rounded.to(1, found.running / 3600), Rounded.to(1, found.unpriced / 3600),
                Rounded.to(2, found.instance_cost), found.note,
            )  # fmt: skip


def _costs_by(part: Part) -> tuple[object, ...]:
    """Return what a volume is shown and summed up by."""
    own = part.record
    return own["ec2InstanceType"], own["ownedBy"], own["launchProfileId"], own.get("tags"), part.volume


def _within(day: dt.date, begin: dt.datetime, end: dt.datetime) -> float:
    """Return how many seconds of a span lie on a day; 0: none."""
    morning = dt.datetime.combine(day, dt.time(), dt.UTC)
    return max((min(end, morning + DAY) - max(begin, morning)).total_seconds(), 0.0)
