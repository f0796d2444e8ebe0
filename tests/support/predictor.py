"""What machines with one warehouse must come to, predicted step by step from what each start of the job is told.

Plain dictionaries; the model never looks at the job. It follows the order of steps in docs/design.md: a start settles
what is left over, walks, commits table after table under a note, and builds the catalog.
"""

import datetime as dt
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from torture.model import Content, Place, Record

from etl.emulator import World
from support.studios import SESSIONS

TABLES = ("streaming_sessions", "streaming_session_tags")
OWN_COMMITS = ("streaming_session_tags", "streaming_sessions")
"""Those of a publication, in their order; the change log and the facts follow.

Every studio has sessions with tags, so each of them has rows. No record is rejected, so etl_rejects has no commit.
"""

LONGEST_FACTS = 3
"""Commits of facts: of pages, slices and runs."""

Slices = Mapping[str, list[Record]]
"""Studio -> the records of its sessions."""


class CrashError(Exception):
    """The model's own end, where the job's is SIGKILL."""


@dataclass(frozen=True)
class Walk:
    """How far the walk of one studio has come: what is kept, and where the next page starts."""

    records: list[Record] = field(default_factory=list)
    page: int = 1
    position: int | None = 0
    skip: int = 0

    def ahead(
        self, world: World, page_size: int, at: dt.datetime, studio_id: str, most: int | None
    ) -> Iterator["Walk"]:
        """Yield how far it comes with each page, up to `most` records more."""
        walk = self
        while walk.position is not None and (most is None or most > 0):
            listed = world.page(SESSIONS, {"studioId": studio_id}, at, walk.position, page_size)
            kept = listed.records[walk.skip :][:most]
            records = [*walk.records, *kept]
            if walk.skip + len(kept) < len(listed.records):
                walk = Walk(records, walk.page, walk.position, walk.skip + len(kept))
            else:
                walk = Walk(records, walk.page + 1, listed.next_position)
            most = None if most is None else most - len(kept)
            yield walk


@dataclass
class Run:
    """An unfinished run: its walks, and the studios that it has published."""

    listed_studios: bool = False
    walks: dict[str, Walk] = field(default_factory=dict)
    published: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Begun:
    """A publication that a ledger has begun and not confirmed."""

    date: dt.date
    slices: Slices


@dataclass
class Machine:
    """What one state directory holds: the open runs, each of a date and a studio or all, and what is to be settled."""

    runs: dict[tuple[dt.date, str | None], Run] = field(default_factory=dict)
    begun: Begun | None = None


@dataclass
class Start:
    """What one start of the job is told, and what disturbs it.

    Attributes:
        date: snapshot date.
        studio_id: the only studio that is exported; None for all.
        most: records of each studio, for `--max-items`.
        expire: studio and page whose token is refused once.
        crash: failpoint and the time at which it kills.
        pause: step and time at which `meanwhile` is called.
        fresh: begin a new run.
    """

    date: dt.date
    studio_id: str | None = None
    most: int | None = None
    expire: tuple[str, int] | None = None
    crash: tuple[str, int] | None = None
    pause: tuple[str, int] | None = None
    meanwhile: Callable[[], None] | None = None
    fresh: bool = False
    reached: Counter[str] = field(default_factory=Counter)

    @property
    def words(self) -> tuple[str, ...]:
        """What the command line is told after `run`, the date apart."""
        arguments = ("--max-items", str(self.most)) if self.most else ()
        arguments += ("--studio-id", self.studio_id) if self.studio_id else ()
        return (*arguments, "--fresh") if self.fresh else arguments

    def reach(self, step: str) -> None:
        """Count a step; it may be where the job is held, or killed."""
        self.reached[step] += 1
        here = step, self.reached[step]
        if here == self.pause and self.meanwhile:
            self.meanwhile()
        if here == self.crash:
            raise CrashError


@dataclass
class Predictor:
    """The plain in-memory model.

    Attributes:
        tables: what the Delta tables hold, the publication apart whose note lies in the warehouse.
        catalog: what it shows.
        half: the publication whose note lies in the warehouse.
        landed: the tables to which it is committed.
    """

    world: World
    page_size: int
    machines: list[Machine]
    tables: dict[Place, list[Record]] = field(default_factory=dict)
    catalog: dict[Place, list[Record]] = field(default_factory=dict)
    half: Begun | None = None
    landed: set[str] = field(default_factory=set)

    def in_table(self, table: str) -> dict[Place, list[Record]]:
        """Return the records whose rows a Delta table holds."""
        return self.tables | self._half_published() if table in self.landed else self.tables

    def start(self, number: int, at: dt.datetime, start: Start) -> int:
        """Predict one start of `run` on a machine; return its exit code."""
        machine = self.machines[number]
        try:
            self._settle(machine, start)
            key = start.date, start.studio_id
            if key not in machine.runs or start.fresh:
                machine.runs[key] = Run()
            self._walk_all(machine.runs[key], at, start)
            return 0 if self._publish(machine, key, start) else 3
        except CrashError:
            return -signal.SIGKILL

    def settle(self, number: int) -> None:
        """Predict a command that publishes nothing new: it settles what is left over and builds the catalog."""
        self._settle(self.machines[number], Start(dt.date.min))
        self.catalog = dict(self.tables)

    def _half_published(self) -> dict[Place, list[Record]]:
        return {(self.half.date, name): records for name, records in self.half.slices.items()} if self.half else {}

    def _settle(self, machine: Machine, start: Start) -> None:
        """Put back what another machine has half published, and make whole what this one has begun."""
        if self.half is not machine.begun:
            self._put_back()
        if machine.begun:
            self._commit(machine, machine.begun, start)

    def _put_back(self) -> None:
        self.half = None
        self.landed.clear()

    def _walk_all(self, run: Run, at: dt.datetime, start: Start) -> None:
        if not run.listed_studios and start.studio_id is None:
            start.reach("page.received")
            run.listed_studios = True
            start.reach("page.stored")
            start.reach("slice.walked")
        for studio_id in (start.studio_id,) if start.studio_id else self.world.studio_ids:
            if run.walks.setdefault(studio_id, Walk()).position is not None:
                self._walk(run, studio_id, at, start)
                start.reach("slice.walked")

    def _walk(self, run: Run, studio_id: str, at: dt.datetime, start: Start) -> None:
        """Walk one studio; a token that is refused makes it begin again."""
        for walk in run.walks[studio_id].ahead(self.world, self.page_size, at, studio_id, start.most):
            if start.expire == (studio_id, run.walks[studio_id].page):
                start.expire = None
                run.walks[studio_id] = Walk()
                self._walk(run, studio_id, at, start)
                return
            start.reach("page.received")
            run.walks[studio_id] = walk
            start.reach("page.stored")

    def _publish(self, machine: Machine, key: tuple[dt.date, str | None], start: Start) -> bool:
        """Publish what is complete; tell whether nothing is left of the run."""
        run = machine.runs[key]
        complete = {name: walk.records for name, walk in run.walks.items() if walk.position is None}
        ready = {name: records for name, records in complete.items() if name not in run.published}
        finished = len(complete) == len(run.walks)
        if not (ready or run.published):
            start.reach("tables.noted")
            self._put_back()
            start.reach("tables.whole")
            return False
        self._commit(machine, Begun(start.date, ready), start, run)
        start.reach("catalog.built")
        self.catalog = dict(self.tables)
        start.reach("catalog.swapped")
        if finished:
            del machine.runs[key]
            start.reach("run.closed")
        return finished

    def _commit(self, machine: Machine, begun: Begun, start: Start, run: Run | None = None) -> None:
        """Publish slices, and facts about them: all or nothing, as soon as the note is gone."""
        start.reach("tables.noted")
        if begun.slices:
            start.reach("table.staged")
            machine.begun = self.half = begun
            if run:
                run.published |= begun.slices.keys()
            start.reach("publication.planned")
            for table in OWN_COMMITS:
                start.reach("table.synced")
                self.landed.add(table)
                start.reach("table.committed")
                start.reach("table.durable")
            start.reach("snapshot.read_back")
            start.reach("publication.marked")
        for _ in range(LONGEST_FACTS):
            for step in ("table.synced", "table.committed", "table.durable"):
                start.reach(step)
        if run:
            start.reach("facts.published")
        self.tables |= self._half_published()
        self._put_back()
        machine.begun = None  # the next start finds that it counts, and confirms it
        start.reach("tables.whole")


def shown(tables: Mapping[Place, list[Record]], table: str) -> dict[Place, str | None]:
    """Return the digest of the rows that a table must have of each slice and date; places without rows are left out."""
    found = {place: Content.of(SESSIONS, records).digests()[table] for place, records in tables.items()}
    return {place: digest for place, digest in found.items() if digest is not None}
