"""What must be in the warehouse: plain dictionaries out of the studio's world and its request log.

Nothing of the job's own code is used. A listing that stands still is `World.records`. In one that changes, a walk is
followed through the requests that the studio answered: a page asked for again was not kept, a page asked for without
a token begins the walk again.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from etl.emulator import LoggedRequest, World

Record = dict[str, Any]
Row = dict[str, Any]
Key = tuple[Any, ...]
Place = tuple[dt.date, str]
"""Snapshot date and slice: the id of a studio, or STUDIOS."""

STUDIOS = ""
"""The slice that lists the studios themselves."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "studios": ("studio_id",),
    "studio_tags": ("studio_id", "key"),
    "streaming_sessions": ("session_id",),
    "streaming_session_tags": ("session_id", "key"),
}
"""What identifies a row of a table within a snapshot."""

SHOWN: Mapping[str, tuple[str, ...]] = {
    "studios": ("studio_id", "updated_at", "state"),
    "studio_tags": ("studio_id", "key", "value"),
    "streaming_sessions": ("session_id", "updated_at", "state"),
    "streaming_session_tags": ("session_id", "key", "value"),
}
"""The columns that readers look at; equal digests of them are equal snapshots."""

NO_PAGE = frozenset({
    "html", "empty-body", "empty-object", "null-list", "missing-list", "wrong-type", "truncate", "bad-gzip", "bad-utf8",
    "repeat-token", "cycle-tokens",
})  # fmt: skip
"""Faults of status 200 whose reply must not be kept."""

SAME_PAGE_NEXT = ("empty-page", "endless-tokens")
MISFITS = ("bad-timestamp", "nested-type")
EDITS: Mapping[str, Callable[[Record], Record]] = {
    "unknown-enum": lambda record: {**record, "state": "HIBERNATED"},
    "unknown-member": lambda record: {**record, "gpu": {"model": "A10G", "count": 1}},
}
NEIGHBOURS: Mapping[str, Callable[[Record], Record]] = {
    "duplicate": lambda record: record,
    "conflict": lambda record: {**record, "statusMessage": "another version of the same instant"},
    "newer-duplicate": lambda record: {
        **record,
        "updatedAt": record["updatedAt"] + dt.timedelta(seconds=1),
        "statusMessage": "a newer version",
    },
}
"""Faults that repeat the first record of the next page, as it is or as another version."""


@dataclass(frozen=True)
class Content:
    """One slice as one complete walk saw it.

    Attributes:
        tables: table -> key -> row, without nulls and without the columns that say where a row comes from.
        rejects: records that do not fit.
        duplicates: records left out because a better one has the same key.
        records: all of them.
    """

    tables: Mapping[str, Mapping[Key, Row]]
    rejects: int
    duplicates: int
    records: int

    @classmethod
    def of(cls, operation: str, records: Iterable[Record], rejects: int = 0) -> "Content":
        """Lay records in the order of the walk out as rows; of those with one key the newest stays, then the later."""
        main, tall = TABLES[operation]
        best: dict[str, Record] = {}
        count = 0
        for record in records:
            count += 1
            key = record[ID[operation]]
            if key not in best or record["updatedAt"] >= best[key]["updatedAt"]:
                best[key] = record
        (name,) = KEYS[main]
        tags = {(key, label): text for key, record in best.items() for label, text in record.get("tags", {}).items()}
        return cls(
            tables={
                main: {(key,): _row(record) for key, record in best.items()},
                tall: {key: dict(zip((name, "key", "value"), (*key, text), strict=True)) for key, text in tags.items()},
            },
            rejects=rejects,
            duplicates=count - len(best),
            records=count + rejects,
        )

    def digests(self) -> dict[str, str | None]:
        """Return the digest of each table; None where it has no rows."""
        return {table: digest(table, rows.values()) for table, rows in self.tables.items()}


@dataclass(frozen=True)
class _Page:
    token: str | None
    position: int
    next_position: int | None
    records: Sequence[Record]
    rejects: int


@dataclass
class _Walk:
    """The pages that a walk has kept so far."""

    pages: list[_Page] = field(default_factory=list)
    was_refused: bool = False

    def expects(self, request: LoggedRequest) -> int | None:
        """Return the position that an answered request asked for; None if the answer is not kept."""
        if request.status == 400 and request.token is not None:
            self.was_refused = True
        if request.status != 200 or request.fault in NO_PAGE:
            return None
        judged, self.was_refused = self.was_refused, False
        if request.token is None:
            if judged:
                return None  # after a refused token, the first page only tells whether the request works without one
            self.pages.clear()
            return 0
        if request.token == self.pages[-1].token:
            return self.pages.pop().position  # asked for again: it was not kept
        position = self.pages[-1].next_position
        assert position is not None, f"{request} follows the last page"
        return position


class Model:
    """What each slice may hold on each date.

    Args:
        world: what the studio lists.
        page_size: of the studio.
        lists_studios: their listing is published too.
    """

    def __init__(self, world: World, page_size: int, *, lists_studios: bool = True) -> None:
        self._world = world
        self._page_size = page_size
        self._listings = {operation for operation in TABLES if lists_studios or operation != "ListStudios"}
        self._walks: dict[tuple[dt.date, str, str], _Walk] = {}
        self._complete: dict[Place, list[tuple[str, Content]]] = {}
        self._still: set[dt.date] = set()

    def stand_still(self, date: dt.date, at: dt.datetime) -> None:
        """Say that all walks for a date see the world at one instant."""
        self._still.add(date)
        for place, (operation, parameters) in self._slices(date).items():
            records = self._world.records(operation, parameters, at)
            self._complete[place] = [("", Content.of(operation, records))]

    def follow(self, date: dt.date, narrowed_to: str, at: dt.datetime, requests: Iterable[LoggedRequest]) -> None:
        """Take note of what the studio answered to one start of the job.

        Args:
            date: snapshot date of the start.
            narrowed_to: the studio that it was told to export, or nothing: another request is another run.
            at: instant at which the world stood.
            requests: of this start, in order.
        """
        if date in self._still:
            return
        for request in requests:
            if request.operation in self._listings:
                slice_ = str(request.parameters.get("studioId", STUDIOS))
                walk = self._walks.setdefault((date, slice_, narrowed_to), _Walk())
                position = walk.expects(request)
                if position is not None:
                    walk.pages.append(self._page(request, at, position))
                    if walk.pages[-1].next_position is None:
                        records = (record for page in walk.pages for record in page.records)
                        content = Content.of(request.operation, records, sum(page.rejects for page in walk.pages))
                        self._complete.setdefault((date, slice_), []).append((narrowed_to, content))

    def places(self, date: dt.date, narrowed_to: str = "") -> Iterator[Place]:
        """Yield the slices that a run for a date must publish."""
        for _, slice_ in self._slices(date):
            if not narrowed_to or slice_ in (STUDIOS, narrowed_to):
                yield date, slice_

    def allowed(self, place: Place) -> list[Content]:
        """Return what complete walks of the slice saw, the latest last."""
        return [content for _, content in self._complete.get(place, [])]

    def due(self, place: Place, narrowed_to: str) -> Content | None:
        """Return what a run that says *published* must have published; None where another run may have been later."""
        last_by, content = self._complete[place][-1]
        return content if last_by == narrowed_to or place[0] in self._still else None

    def _slices(self, date: dt.date) -> dict[Place, tuple[str, dict[str, str]]]:
        sessions = {
            (date, studio_id): ("ListStreamingSessions", {"studioId": studio_id})
            for studio_id in self._world.studio_ids
        }
        studios: dict[Place, tuple[str, dict[str, str]]] = {(date, STUDIOS): ("ListStudios", {})}
        return {**(studios if "ListStudios" in self._listings else {}), **sessions}

    def _page(self, request: LoggedRequest, at: dt.datetime, position: int) -> _Page:
        assert request.operation is not None
        page = self._world.page(request.operation, request.parameters, at, position, self._page_size)
        records, next_position, rejects = list(page.records), page.next_position, 0
        fault = request.fault or ""
        if fault in SAME_PAGE_NEXT:
            next_position = position
        if fault == "empty-page":
            records = []
        if fault in EDITS:
            records[0] = EDITS[fault](records[0])
        if fault == "bad-timestamp" or (fault in MISFITS and request.operation == "ListStreamingSessions"):
            rejects = 1
            del records[0]
        elif fault == "nested-type":
            records[0] = {**records[0], "volumeConfiguration": "gp3"}
        if fault in NEIGHBOURS:
            assert next_position is not None
            (neighbour,) = self._world.page(request.operation, request.parameters, at, next_position, 1).records
            records.append(NEIGHBOURS[fault](neighbour))
        return _Page(request.token, position, next_position, records, rejects)


TABLES: Mapping[str, tuple[str, str]] = {
    "ListStudios": ("studios", "studio_tags"),
    "ListStreamingSessions": ("streaming_sessions", "streaming_session_tags"),
}
ID: Mapping[str, str] = {"ListStudios": "studioId", "ListStreamingSessions": "sessionId"}
STRUCTURES = ("volumeConfiguration", "studioEncryptionConfiguration")


def digest(table: str, rows: Iterable[Row]) -> str | None:
    """Return a short text that tells sets of rows apart by the columns that readers look at; None for no rows."""
    shown = sorted(repr(tuple(_plain(row.get(name)) for name in SHOWN[table])) for row in rows)
    return blake2b("\n".join(shown).encode(), digest_size=12).hexdigest() if shown else None


def _plain(value: Any) -> Any:
    return round(value.timestamp() * 1_000_000) if isinstance(value, dt.datetime) else value


def _row(record: Record) -> Row:
    row: Row = {}
    extra = {}
    for name, value in record.items():
        if name in STRUCTURES and isinstance(value, dict):
            row |= {f"{_snake(name)}_{_snake(part)}": inner for part, inner in value.items()}
        elif name == "gpu" or (name in STRUCTURES and "sessionId" not in record):
            extra[name] = value
        else:
            row[_snake(name)] = value
    return {**row, **({"extra": extra} if extra else {})}


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
