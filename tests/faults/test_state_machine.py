"""Any order of pages, throttling, expired tokens, changes, crashes, reruns: readers see exactly what a model says.

The model is told what is about to be done, and predicts it page by page; it never looks at the job.
"""

import datetime as dt
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support.job import NIGHT, job_at
from support.studios import SESSIONS, studio_of
from support.thorough import THOROUGH
from torture.check import by_place, read_catalog, read_delta
from torture.model import Content, digest

from etl.emulator import World

WORLD = World(studios=2, sessions_per_studio=12, epoch=dt.date(2026, 1, 1))
PAGE_SIZE = 5
TABLES = ("streaming_sessions", "streaming_session_tags")
MALFORMED = ("html", "empty-object", "truncate")

WALKING = ("page.received", "page.stored", "slice.walked")
PUBLISHING = ("publication.planned", "table.staged", "table.committed", "snapshot.read_back", "publication.marked")
PUBLISHED = ("facts.published", "catalog.built")
SHOWN = ("catalog.swapped", "run.closed")


class CrashError(Exception):
    """The model's own end, where the job's is SIGKILL."""


@dataclass
class Walk:
    """How far the walk of one studio has come: what is kept, and where the next page starts."""

    records: list[dict] = field(default_factory=list)
    page: int = 1
    position: int | None = 0
    skip: int = 0

    def ahead(self, at: dt.datetime, studio_id: str, most: int | None) -> Iterator["Walk"]:
        """Yield how far it comes with each page, up to `most` records more."""
        walk = self
        while walk.position is not None and (most is None or most > 0):
            listed = WORLD.page(SESSIONS, {"studioId": studio_id}, at, walk.position, PAGE_SIZE)
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


@dataclass
class Night:
    """What one date holds: in the Delta tables, and the run that is open."""

    run: Run | None = None
    tables: dict[str, list[dict]] = field(default_factory=dict)


@dataclass
class Start:
    """What one start of the job is told, and what disturbs it.

    Attributes:
        most: records of each studio, for `--max-items`.
        expire: studio and page whose token is refused once.
        crash: failpoint and the time at which it kills.
        fresh: begin a new run.
    """

    most: int | None = None
    expire: tuple[str, int] | None = None
    crash: tuple[str, int] | None = None
    fresh: bool = False
    reached: Counter[str] = field(default_factory=Counter)

    def reach(self, step: str) -> None:
        self.reached[step] += 1
        if (step, self.reached[step]) == self.crash:
            raise CrashError

    def dies_in(self, steps: tuple[str, ...]) -> bool:
        return self.crash is not None and self.crash[0] in steps

    def walk(self, run: Run, studio_id: str, at: dt.datetime) -> None:
        """Walk one studio; a token that is refused makes it begin again."""
        for walk in run.walks[studio_id].ahead(at, studio_id, self.most):
            if self.expire == (studio_id, run.walks[studio_id].page):
                self.expire = None
                run.walks[studio_id] = Walk()
                self.walk(run, studio_id, at)
                return
            self.reach("page.received")
            run.walks[studio_id] = walk
            self.reach("page.stored")


@dataclass
class Predictor:
    """The plain in-memory model."""

    nights: dict[dt.date, Night] = field(default_factory=dict)
    catalog: dict[tuple[dt.date, str], list[dict]] = field(default_factory=dict)
    half_published: tuple[dt.date, dict[str, list[dict]]] | None = None

    def delta(self) -> dict[tuple[dt.date, str], list[dict]]:
        """Return what the Delta tables hold."""
        return {(date, name): records for date, night in self.nights.items() for name, records in night.tables.items()}

    def start(self, date: dt.date, at: dt.datetime, start: Start) -> int:
        """Predict one start of the job; return its exit code."""
        self.settle()
        night = self.nights.setdefault(date, Night())
        if night.run is None or start.fresh:
            night.run = Run()
        try:
            self._walk_all(night.run, at, start)
        except CrashError:
            return -signal.SIGKILL
        return self._publish(date, night, start)

    def settle(self) -> None:
        """What a killed run began to publish is there as a whole, before anything else happens."""
        if self.half_published:
            date, ready = self.half_published
            self.nights[date].tables |= ready
            self.half_published = None

    def _walk_all(self, run: Run, at: dt.datetime, start: Start) -> None:
        if not run.listed_studios:
            start.reach("page.received")
            run.listed_studios = True
            start.reach("page.stored")
            start.reach("slice.walked")
        for studio_id in WORLD.studio_ids:
            if run.walks.setdefault(studio_id, Walk()).position is not None:
                start.walk(run, studio_id, at)
                start.reach("slice.walked")

    def _publish(self, date: dt.date, night: Night, start: Start) -> int:
        run = night.run
        complete = {name: walk.records for name, walk in run.walks.items() if walk.position is None}
        ready = {name: records for name, records in complete.items() if name not in run.published}
        finished = len(complete) == len(WORLD.studio_ids)
        run.published |= ready.keys()
        if ready and start.dies_in(PUBLISHING):
            self.half_published = date, ready
            return -signal.SIGKILL
        night.tables |= ready
        if run.published:
            if start.dies_in(PUBLISHED):
                return -signal.SIGKILL
            self.catalog = self.delta()
            if start.dies_in(("catalog.swapped",)):
                return -signal.SIGKILL
        if finished:
            night.run = None
            if start.dies_in(("run.closed",)):
                return -signal.SIGKILL
        return 0 if finished else 3


class Machine(RuleBasedStateMachine):
    """The job, and beside it the model."""

    @initialize()
    def begin(self):
        self.directory = tempfile.TemporaryDirectory()
        self.studio = studio_of(WORLD, page_size=PAGE_SIZE)
        self.job = job_at(
            Path(self.directory.name),
            self.studio,
            source="  account_id: '123456789012'",
            rest="run: {concurrency: 1}\ndatasets: [streaming_sessions]",
        )
        self.model = Predictor()
        self.at = NIGHT
        self.date = NIGHT.date()

    def teardown(self):
        if hasattr(self, "studio"):
            self.studio.close()
            self.directory.cleanup()

    def go(self, start=None, faults=()):
        start = start or Start()
        if self.model.half_published and start.dies_in(PUBLISHING):
            return  # it would die while it settles: at which of two commits to a table, the model cannot tell
        arguments = (["--max-items", str(start.most)] if start.most else []) + (["--fresh"] if start.fresh else [])
        environment = {"NIMBLE_ETL_FAILPOINT": "{}:{}".format(*start.crash)} if start.crash else {}
        if start.expire:
            faults = ["expired-token:operation={},studio={},page={}".format(SESSIONS, *start.expire)]
        self.studio.set_instant(self.at)
        self.studio.set_faults(faults)
        predicted = self.model.start(self.date, self.at, start)
        exit_code = self.job.finish("run", "--snapshot-date", self.date.isoformat(), *arguments, **environment)
        assert exit_code == predicted, self.job.log
        if self.model.half_published and digests(read_delta(self.warehouse)) != shown(self.model.delta()):
            self.model.nights[self.date].tables |= self.model.half_published[1]

    @property
    def warehouse(self):
        return self.job.directory / "warehouse"

    @rule(most=st.integers(1, 14))
    def page(self, most):
        self.go(Start(most=most))

    @rule(kind=st.sampled_from(MALFORMED), request=st.integers(1, 6))
    def misbehave(self, kind, request):
        self.go(faults=[f"{kind}:request={request},times=2"])

    @rule(request=st.integers(1, 4))
    def throttle(self, request):
        self.go(Start(most=6), faults=[f"throttle:request={request}"])

    @rule(studio_id=st.sampled_from(WORLD.studio_ids), page=st.integers(2, 3))
    def expire_tokens(self, studio_id, page):
        self.go(Start(expire=(studio_id, page)))

    @rule(hours=st.sampled_from((7, 9, 13)))
    def change_the_listing(self, hours):
        self.at += dt.timedelta(hours=hours)

    @rule(
        crash=st.one_of(
            st.tuples(st.sampled_from(WALKING), st.integers(1, 7)),
            st.tuples(st.sampled_from((*PUBLISHING, *PUBLISHED, *SHOWN)), st.just(1)),
        ),
        most=st.sampled_from((None, None, 8)),
    )
    def crash(self, crash, most):
        self.go(Start(most=most, crash=crash))

    @rule()
    def run_or_resume(self):
        self.go()

    @rule()
    def begin_anew(self):
        self.go(Start(fresh=True))

    @rule(date=st.sampled_from((NIGHT.date(), NIGHT.date() + dt.timedelta(days=1))))
    def another_date(self, date):
        self.date = date

    @invariant()
    def readers_see_what_the_model_says(self):
        if hasattr(self, "model"):
            assert digests(read_delta(self.warehouse)) == shown(self.model.delta())
            assert digests(read_catalog(self.warehouse)) == shown(self.model.catalog)


def digests(tables):
    """Return what readers see: date and studio -> a digest of each table."""
    return {
        place: tuple(digest(table, found.get(table, ())) for table in TABLES)
        for place, found in by_place(tables).items()
    }


def shown(snapshots):
    """Return what they should see of these records."""
    contents = {place: Content.of(SESSIONS, records) for place, records in snapshots.items()}
    return {place: tuple(content.digests()[table] for table in TABLES) for place, content in contents.items()}


def test_fault_3_9_29_to_35_readers_see_exactly_what_a_plain_model_predicts():
    """Derandomised: the same sequences each time; a failure prints the shortest that fails."""
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=10 if THOROUGH else 6,
            stateful_step_count=10,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
