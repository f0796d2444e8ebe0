"""The key figures on top of the report: the last week, and how much it differs from the week before."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from etl.read.report.contents import Rows
from etl.read.report.stacks import number, plain

FIGURES = {
    "week": ("Sessions", "Hours", "Storage", "Failures"),
    "costs_of_week": ("Cost", "Idle cost"),
}
"""Question -> what it answers, for a page that has no answer to it."""
_WEEK = 7
_NO_WEEK = "no week before yet"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        title: what it says.
        unit: unit of its value, behind it.
        values: pairs of studio and value, one for each studio that has one.
        before: the same for the week before; empty if there is none.
        note: what else is to be known.
    """

    title: str
    unit: str
    values: list[tuple[str, float]]
    before: list[tuple[str, float]]
    note: str = ""

    @property
    def text(self) -> str:
        """Return its value."""
        return _brief(sum(value for _, value in self.values))

    @property
    def comparison(self) -> str:
        """Return how much it differs from the week before, in words."""
        now, then = (sum(value for _, value in pairs) for pairs in (self.values, self.before))
        if not self.before:
            return _NO_WEEK
        if now == then:
            return "as the week before"
        if not then:
            return "0 the week before"
        percent = round((now / then - 1) * 100)
        sign = "+" if percent > 0 else "\N{MINUS SIGN}" if percent < 0 else "\N{PLUS-MINUS SIGN}"
        return f"{sign}{abs(percent):,} % on {_brief(then)}"

    def as_json(self) -> dict[str, Any]:
        """Return what the page's script needs to sum up the studios that are chosen."""
        return asdict(self)


def key_figures(rows: Mapping[str, Rows]) -> list[Figure]:
    """Return the figures whose questions are answered, in the order of the page."""
    return [*_of_sessions(rows.get("week", ())), *_of_costs(rows.get("costs_of_week", ()))]


def _of_sessions(week: Rows) -> Iterator[Figure]:
    if not week:
        return
    period = _period(week)
    yield _figure(week, "sessions", "Sessions")
    yield _figure(week, "running_hours", "Hours", "h", note=period)
    yield _figure(week, "volume_tib", "Storage", "TiB")
    yield _figure(week, "failures", "Failures", note=period)


def _of_costs(costs: Rows) -> Iterator[Figure]:
    """Yield the figures of each currency."""
    for currency in sorted({row["currency"] for row in costs} - {None}):
        own = [row for row in costs if row["currency"] == currency]
        yield _figure(own, "cost", "Cost", currency, note=_period(own))
        yield _figure(own, "idle_cost", "Idle cost", currency, note=_period(own))


def _period(rows: Rows) -> str:
    days = max(row["days"] for row in rows)
    return f"{days} days" if days >= _WEEK else f"{days} day{'s' if days > 1 else ''} so far"


def _brief(value: float) -> str:
    """Return a number as a producer reads it: millions from a million on."""
    return f"{value / 1e6:,.1f} M" if value >= 1e6 else number(value)  # noqa: PLR2004  a million


def _figure(rows: Rows, column: str, title: str, unit: str = "", note: str = "") -> Figure:
    now, then = (
        [(plain(row["studio_id"]), float(row[name])) for row in rows if row[name] is not None]
        for name in (column, f"{column}_before")
    )
    return Figure(title, unit, now, then, note)
