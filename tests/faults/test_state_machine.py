"""Any order of pages, faults, changes, crashes and reruns, on one machine and on two that share a warehouse.

Readers see exactly what a model says. The model (support/predictor.py) is told what is about to be done, and predicts
it step by step.
"""

import datetime as dt
import tempfile
from collections import defaultdict
from itertools import chain
from pathlib import Path

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support.job import CLOCK_AHEAD, NIGHT, finished
from support.machines import held_at, machines, wait_until_it_waits
from support.predictor import OWN_COMMITS, TABLES, Machine, Predictor, Start, shown
from support.studios import SESSIONS, studio_of
from support.thorough import THOROUGH
from torture.check import check_changes, check_facts, read_catalog, read_delta
from torture.model import digest

from etl.emulator import World

WORLD = World(studios=2, sessions_per_studio=12, epoch=dt.date(2026, 1, 1))
PAGE_SIZE = 5
MALFORMED = ("html", "empty-object", "truncate")
DATES = (NIGHT.date(), NIGHT.date() + dt.timedelta(days=1))

WALKING = ("page.received", "page.stored", "slice.walked")
COMMITTING = ("table.synced", "table.committed", "table.durable")
ONCE = (
    *("tables.noted", "table.staged", "publication.planned", "snapshot.read_back", "publication.marked"),
    *("facts.published", "tables.whole", "catalog.built", "catalog.swapped"),
)

walking = st.tuples(st.sampled_from(WALKING), st.integers(1, 7))
publishing = st.one_of(
    st.tuples(st.sampled_from(COMMITTING), st.integers(1, len(OWN_COMMITS))),
    st.tuples(st.sampled_from(ONCE), st.just(1)),
)
crashes = st.one_of(walking, publishing, publishing, st.just(("run.closed", 1)))


class Nights(RuleBasedStateMachine):
    """The job on some machines, and beside it the model."""

    MACHINES = 1

    @initialize(ahead_s=st.sampled_from((-240, -60, 240)))
    def begin(self, ahead_s):
        self.directory = tempfile.TemporaryDirectory()
        self.studio = studio_of(WORLD, page_size=PAGE_SIZE)
        self.jobs = machines(
            Path(self.directory.name),
            *[self.studio] * self.MACHINES,
            source=f"  account_id: '{WORLD.account_id}'",
            rest="run: {concurrency: 1}\ndatasets: [streaming_sessions]",
        )
        self.clocks = [{}, {CLOCK_AHEAD: str(ahead_s)}]
        self.warehouse = Path(self.directory.name) / "warehouse"
        self.model = Predictor(WORLD, PAGE_SIZE, [Machine() for _ in self.jobs])
        self.at = NIGHT
        self.holds = True

    def teardown(self):
        if hasattr(self, "studio"):
            try:
                if self.holds:  # otherwise it is over, and a state that is wrong says nothing more
                    self.at_last_every_machine_proves_its_snapshots()
            finally:
                self.studio.close()
                self.directory.cleanup()

    def disturb(self, *faults):
        self.holds = False
        self.studio.set_instant(self.at)
        self.studio.set_faults(faults)

    def go(self, start, machine=0, faults=()):
        expired = (
            ["expired-token:operation={},studio={},page={}".format(SESSIONS, *start.expire)] if start.expire else []
        )
        self.disturb(*faults, *expired)
        environment = {"NIMBLE_ETL_FAILPOINT": "{}:{}".format(*start.crash)} if start.crash else {}
        predicted = self.model.start(machine, self.at, start)
        assert finished(self.start(machine, start, **environment)) == predicted, self.jobs[machine].log

    def start(self, machine, start, **environment):
        words = ("run", "--snapshot-date", start.date.isoformat(), *start.words)
        return self.jobs[machine].start(*words, **environment, **self.clocks[machine])

    def at_last_every_machine_proves_its_snapshots(self):
        for machine, _ in enumerate(self.jobs):
            self.settle(machine, {0}, "compact")
        self.readers_see_what_the_model_says()
        for job in self.jobs:
            assert job.problems() == []

    def settle(self, machine, codes, *words):
        self.holds = False
        self.model.settle(machine)
        job = self.jobs[machine]
        assert job.finish(*words, **self.clocks[machine]) in codes, job.log

    @rule(hours=st.sampled_from((7, 9, 13)))
    def change_the_listing(self, hours):
        self.at += dt.timedelta(hours=hours)

    @invariant()
    def readers_see_what_the_model_says(self):
        if hasattr(self, "model"):
            assert self.seen() == self.predicted()
            self.holds = True

    def predicted(self):
        """Return what readers of the Delta tables and of the catalog must see, table by table."""
        delta = {table: shown(self.model.in_table(table), table) for table in TABLES}
        return delta, {table: shown(self.model.catalog, table) for table in TABLES}

    def seen(self):
        """Return what they see, which is nowhere a mixture of two runs."""
        delta, catalog = read_delta(self.warehouse), read_catalog(self.warehouse)
        # Between two commits, each table is whole, and no more is promised to who reads the tables themselves.
        together = [(catalog, TABLES), *((delta, [table]) for table in TABLES)] + [(delta, TABLES)] * (
            not self.model.half
        )
        for tables, names in together:
            assert [place for place, runs in runs_of(tables, names).items() if len(runs) > 1] == [], names
        assert [*check_facts(catalog), *check_changes(catalog)] == []
        return tuple({table: digests(tables, table) for table in TABLES} for tables in (delta, catalog))


class OneMachine(Nights):
    """A machine and a studio that misbehaves."""

    @initialize()
    def begin_a_night(self):
        self.date = DATES[0]

    @rule(most=st.integers(1, 14))
    def page(self, most):
        self.go(Start(self.date, most=most))

    @rule(kind=st.sampled_from(MALFORMED), request=st.integers(1, 6))
    def misbehave(self, kind, request):
        self.go(Start(self.date), faults=[f"{kind}:request={request},times=2"])

    @rule(request=st.integers(1, 4))
    def throttle(self, request):
        self.go(Start(self.date, most=6), faults=[f"throttle:request={request}"])

    @rule(studio_id=st.sampled_from(WORLD.studio_ids), page=st.integers(2, 3))
    def expire_tokens(self, studio_id, page):
        self.go(Start(self.date, expire=(studio_id, page)))

    @rule(crash=crashes, most=st.sampled_from((None, None, 8)))
    def crash(self, crash, most):
        self.go(Start(self.date, most=most, crash=crash))

    @rule()
    def run_or_resume(self):
        self.go(Start(self.date))

    @rule()
    def begin_anew(self):
        self.go(Start(self.date, fresh=True))

    @rule(date=st.sampled_from(DATES))
    def another_date(self, date):
        self.date = date


MACHINE = st.sampled_from((0, 1))
SOME = {"date": st.sampled_from((*DATES, DATES[0])), "studio_id": st.sampled_from((None, None, *WORLD.studio_ids))}
"""What a machine exports: the slices of both machines may be the same or not."""


class TwoMachines(Nights):
    """Two machines, whose clocks are minutes apart, publish into one warehouse."""

    MACHINES = 2

    @rule(machine=MACHINE, most=st.sampled_from((None, None, 8)), fresh=st.booleans(), **SOME)
    def run(self, machine, most, fresh, **some):
        self.go(Start(most=most, fresh=fresh, **some), machine)

    @rule(machine=MACHINE, crash=crashes, fresh=st.booleans(), **SOME)
    def crash(self, machine, crash, fresh, **some):
        self.go(Start(crash=crash, fresh=fresh, **some), machine)

    @rule(machine=MACHINE)
    def compact(self, machine):
        self.settle(machine, {0}, "compact")

    @rule(machine=MACHINE)
    def replay(self, machine):
        assume(any(self.jobs[machine].directory.glob("state/runs/*.sqlite")))
        self.settle(machine, {0, 1, 3, 5}, "replay", "--since", DATES[0].isoformat())

    @rule(
        machine=MACHINE,
        pause=st.one_of(walking, publishing),
        dies=st.booleans(),
        fresh=st.booleans(),
        other=st.fixed_dictionaries(SOME),
        **SOME,
    )
    def one_goes_on_while_the_other_is_in_the_middle(self, machine, pause, dies, fresh, other, **some):
        """One is held at a step. If it holds the lock there, the other waits for its end; otherwise it overtakes."""
        first, second = machine, 1 - machine
        later = Start(fresh=True, **other)
        between, codes = [], []

        def meanwhile():
            if pause[0] in WALKING:
                codes.append(self.model.start(second, self.at, later))
            between.append(self.predicted())

        start = Start(fresh=fresh, pause=pause, meanwhile=meanwhile, crash=pause if dies else None, **some)
        self.disturb()
        code = self.model.start(first, self.at, start)
        if not between:  # it does not come to that step
            assert finished(self.start(first, start)) == code
            return
        job = self.jobs[second]
        (job.directory / "log").touch()
        told = len(job.log)
        held = held_at(self.jobs[first], "{}:{}".format(*pause), *start.words, date=start.date, **self.clocks[first])
        with held as process:
            overtaking = self.start(second, later)
            if codes:
                assert finished(overtaking) == codes[0], job.log
            else:
                wait_until_it_waits(job, overtaking, told)
            assert self.seen() == between[0]
            if dies:
                process.kill()
                process.join()
        assert finished(process) == code, self.jobs[first].log
        if not codes:
            code = self.model.start(second, self.at, later)
            assert finished(overtaking) == code, job.log


def runs_of(tables, names):
    """Return date and studio -> the runs whose rows some tables hold."""
    found = defaultdict(set)
    for row in chain.from_iterable(tables.get(name, ()) for name in names):
        found[row["snapshot_date"], row["studio_id"]].add(row["run_id"])
    return found


def digests(tables, table):
    """Return date and studio -> a digest of the rows of a table."""
    found = defaultdict(list)
    for row in tables.get(table, ()):
        found[row["snapshot_date"], row["studio_id"]].append(row)
    return {place: digest(table, rows) for place, rows in found.items()}


def explore(machine, examples):
    """Try sequences of steps, the same each time; a failure prints the shortest that fails."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=10,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_fault_3_9_29_to_35_readers_see_exactly_what_a_plain_model_predicts():
    explore(OneMachine, 10 if THOROUGH else 6)


def test_fault_32_42_43_65_68_two_machines_publish_exactly_what_a_plain_model_predicts():
    explore(TwoMachines, 40 if THOROUGH else 4)
