"""What the report shows, in order: sections of charts and tables, each of which answers a file of sql/report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture.

    Attributes:
        name: that of its file; no two are the same.
        title: what it shows.
        unit: of its values.
        question: the file of sql/report that answers it.
        kind: bars over dates, or one bar per row of the answer, the first on top.
        over: column of dates, or of the names of the bars.
        values: columns of numbers, stacked in this order, with what they are called.
        by: column whose values are stacked, in the order of the answer, where there is only one column of numbers.
        colours: places in the palette, in the order of the stack.
    """

    name: str
    title: str
    unit: str
    question: str
    kind: Literal["dates", "ranks"]
    over: str
    values: Mapping[str, str]
    by: str | None = None
    colours: tuple[int, ...] = (0, 1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for reading: columns with their headings.

    Attributes:
        title: what it shows.
        question: the file of sql/report that answers it. Its column `total` says how many rows there are in all.
        columns: with their headings, in order.
        nothing: what an answer without rows means.
        more: the command that prints all rows.
    """

    title: str
    question: str
    columns: Mapping[str, str]
    nothing: str
    more: str


@dataclass(frozen=True, slots=True)
class Section:
    """Charts and tables on one subject."""

    title: str
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...] = ()

    @property
    def parts(self) -> tuple[Chart | Table, ...]:
        """Return all of it."""
        return (*self.charts, *self.tables)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the catalog says: `rows` by question. A question is not asked where tables that it reads are `missing`."""

    rows: Mapping[str, Rows]
    missing: Mapping[str, frozenset[str]]

    def lacking(self, parts: Iterable[Chart | Table]) -> list[str]:
        """Return the tables for want of which some parts are not shown."""
        return sorted({name for part in parts for name in self.missing[part.question]})


_STUDIO = {"studio_id": "Studio"}

SECTIONS = (
    Section(
        "The last 30 nights",
        (
            Chart(
                "nights-duration",
                "Duration of the nights",
                "seconds",
                "nights",
                "dates",
                "snapshot_date",
                {"seconds": ""},
            ),
            Chart(
                "nights-records", "Records published", "records", "nights", "dates", "snapshot_date", {"records": ""}
            ),
            Chart(
                "nights-faults",
                "Faults, survived or not",
                "times",
                "nights",
                "dates",
                "snapshot_date",
                {
                    "retries": "requests repeated",
                    "restarts": "walks begun again",
                    "resumptions": "runs resumed",
                    "failed_slices": "walks failed",
                },
                colours=(0, 3, 1, 4),
            ),
        ),
        (
            Table(
                "Walks that did not reach their last page",
                "unfinished_walks",
                {"snapshot_date": "Night", "dataset": "Dataset", "slice": "Slice", "state": "State", "error": "Why"},
                "Every walk of these nights reached its last page.",
                "nimble-etl status",
            ),
            Table(
                "Checks that found something",
                "failed_checks",
                {"check_name": "Check", "severity": "Severity", "failures": "Rows", "meaning": "What should hold"},
                "Every check of the newest snapshot passed.",
                'nimble-etl sql "from etl_checks where failures > 0"',
            ),
        ),
    ),
    Section(
        "Changes last night",
        (
            Chart(
                "changes",
                "Changes by night",
                "sessions",
                "changes_by_night",
                "dates",
                "snapshot_date",
                {"appeared": "appeared", "changed": "changed", "vanished": "vanished"},
                colours=(2, 0, 4),
            ),
        ),
        (
            Table(
                "Last night, studio by studio",
                "changes_last_night",
                {**_STUDIO, "appeared": "Appeared", "changed": "Changed", "vanished": "Vanished"},
                "Nothing was compared last night.",
                "nimble-etl query changes_by_night --nights 1",
            ),
        ),
    ),
    Section(
        "Sessions",
        (
            Chart(
                "sessions-by-state",
                "Sessions by state",
                "sessions",
                "states_by_night",
                "dates",
                "snapshot_date",
                {
                    "running": "running",
                    "stopped": "stopped",
                    "in_progress": "in progress",
                    "failed": "failed",
                    "others": "others",
                },
                colours=(2, 0, 1, 4, 5),
            ),
            Chart(
                "idle-times",
                "Running sessions by idle time",
                "sessions",
                "idle_times",
                "ranks",
                "span",
                {"sessions": ""},
            ),
            Chart(
                "planned-ends",
                "Sessions about to end",
                "sessions",
                "planned_ends",
                "ranks",
                "ahead",
                {"stopping": "stopping", "terminating": "terminating"},
                colours=(0, 4),
            ),
        ),
        (
            Table(
                "Idle for 12 hours or more",
                "idle_sessions",
                {
                    **_STUDIO,
                    "session_id": "Session",
                    "owned_by": "Owner",
                    "ec2_instance_type": "Instance type",
                    "idle_hours": "Idle hours",
                },
                "No running session is idle.",
                "nimble-etl query idle_sessions",
            ),
            Table(
                "Ending within 24 hours",
                "ending_sessions",
                {
                    **_STUDIO,
                    "session_id": "Session",
                    "owned_by": "Owner",
                    "ending": "Will",
                    "ends_at": "At (UTC)",
                },
                "No session is about to end.",
                "nimble-etl query ending_sessions",
            ),
        ),
    ),
    Section(
        "Hours of the last 30 days",
        (
            Chart(
                "hours-by-studio",
                "Running hours by studio",
                "hours",
                "hours_by_studio",
                "dates",
                "day",
                {"running_hours": ""},
                by="studio_id",
            ),
            Chart(
                "hours-by-instance-type",
                "Running hours by instance type",
                "hours",
                "hours_by_instance_type",
                "ranks",
                "ec2_instance_type",
                {"running_hours": ""},
            ),
            Chart(
                "top-owners",
                "Top owners by running hours",
                "hours",
                "top_owners",
                "ranks",
                "owned_by",
                {"running_hours": ""},
            ),
        ),
    ),
    Section(
        "Storage held",
        (
            Chart(
                "storage-by-studio",
                "Storage by studio",
                "TiB",
                "storage_by_night",
                "dates",
                "snapshot_date",
                {"volume_tib": ""},
                by="studio_id",
            ),
            Chart(
                "storage-by-owner",
                "Storage by owner, the largest",
                "GiB",
                "storage_by_owner",
                "ranks",
                "owned_by",
                {"volume_gib": ""},
            ),
        ),
    ),
)
