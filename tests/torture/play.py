"""Plays a schedule: real processes against a studio that misbehaves, and a check after each of them."""

import datetime as dt
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from deltalake import DeltaTable
from support.job import Job, job_at

from etl.emulator import EmbeddedStudio, LoggedRequest, StudioSettings
from etl.jobs.upkeep import show
from etl.jobs.verify import verify
from etl.ledger.directory import ledger_paths
from torture.check import check, check_changes, check_facts, read_catalog, read_delta, read_marts
from torture.model import KEYS, Content, Model, Place
from torture.readers import CatalogReader, DeltaReader, Report, judge, reading
from torture.schedule import Schedule, Step

READERS = (("catalog", "delta"), ("held",))
"""Two processes: within one, a catalog that is opened anew could be the one that is held."""

MARTS_EVERY = 5
"""Every fifth seed builds the marts too, which takes a second of every publish."""

LONGEST_S = 120
"""A start of the job that takes longer hangs."""

MOST_STARTS = 4
"""How many undisturbed starts may be needed until everything is published."""

MOST_TOLD = 12
"""Lines of a violation."""

EXPECTED_EXITS = {0, 1, 3, 5}


class ViolationError(AssertionError):
    """A promise was broken. Its lines say which."""


@dataclass
class Tally:
    """What was done, and what came of it."""

    schedules: int = 0
    nights: int = 0
    starts: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    recoveries: int = 0
    commits: int = 0
    snapshots: int = 0
    rows: int = 0
    looks: Counter[str] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Add what another schedule or hostile case did."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class RequestLog(list[LoggedRequest]):
    """The studio's log; tells of each request when it has arrived and is not answered yet."""

    on_request: Callable[[LoggedRequest], None] = staticmethod(lambda _request: None)

    def append(self, request: LoggedRequest) -> None:
        super().append(request)
        self.on_request(request)


@dataclass
class _Play:
    schedule: Schedule
    studio: EmbeddedStudio
    log: RequestLog
    jobs: list[Job]
    model: Model
    tally: Tally
    random_kills: Random | None
    tell: Callable[[str], None]
    published: set[Place] = field(default_factory=set)
    troubled: Counter[dt.date] = field(default_factory=Counter)
    states: list[object] = field(default_factory=lambda: [None, None])

    def step(self, number: int, step: Step) -> None:
        if not step.finishes:
            self.start(step)
            return
        for _ in range(MOST_STARTS):
            if self.start(step) == 0:
                self.tally.recoveries += self.troubled.pop(step.date, 0)
                return
            step = Step(step.date, step.at, finishes=True, machine=step.machine)  # --fresh once
        raise ViolationError(f"lost: {step.date}: not published after {MOST_STARTS} undisturbed starts, step {number}")

    def start(self, step: Step) -> int:
        """Start the job once, and check the warehouse after it. Returns the exit code."""
        self.studio.set_instant(step.at)
        self.studio.set_faults(step.faults)
        before = len(self.log)
        with self._disturbed(step) as started:
            environment = {"NIMBLE_ETL_FAILPOINT": step.dies_at} if step.dies_at else {}
            process = self.jobs[step.machine].start(
                *step.words, NIMBLE_ETL_SOURCE__RETRY__TIMEOUT="0.5s", **environment
            )
            started.set_result(process.pid)
            moment = self.random_kills.uniform(0, 1) if self.random_kills and not step.finishes else None
            process.join(moment or LONGEST_S)
            if process.is_alive():
                process.kill()
                process.join()
                if moment is None:
                    raise ViolationError(f"error: the job has not ended after {LONGEST_S} s")
                self.tell(f"killed {moment:.6f} s after its start")
        assert process.exitcode is not None
        self._count(step, process.exitcode)
        self.model.follow(step.date, step.request, step.at, self.log[before:])
        self._check(step, process.exitcode)
        return process.exitcode

    @contextmanager
    def _disturbed(self, step: Step) -> Iterator[Future[int]]:
        """Do to the process what the step says, at the request that it says. Yields where the process id must go."""
        before = len(self.log)
        started: Future[int] = Future()

        def on_request(request: LoggedRequest) -> None:
            is_it = len(self.log) - before == step.at_request if step.at_request else request.fault == "stall"
            if not is_it:
                return
            self.tally.kills[step.act or ""] += 1
            if step.act == "cut":
                for connection in tuple(self.studio._server.server_state.connections):
                    connection.transport.abort()
                return
            with suppress(ProcessLookupError):
                os.kill(started.result(), signal.SIGTERM if step.act == "terminate" else signal.SIGKILL)

        if step.act:
            self.log.on_request = on_request
        try:
            yield started
        finally:
            self.log.on_request = RequestLog.on_request

    def _count(self, step: Step, code: int) -> None:
        tally = self.tally
        tally.starts[step.command] += 1
        tally.exits[signal.Signals(-code).name if code < 0 else str(code)] += 1
        tally.faults.update(fault.kind for fault in self.studio.fired)
        if code:
            self.troubled[step.date] += 1
        if code == -signal.SIGKILL and step.dies_at:
            tally.kills[step.dies_at.partition(":")[0]] += 1
        # The operator's matter: credentials that are expired once more after they were renewed; a replay of nothing.
        is_expired = sum(fault.kind == "expired-credentials" for fault in self.studio.fired) > 1
        has_none = step.command == "replay" and not ledger_paths(self.jobs[step.machine].directory / "state")
        is_operators = code == 2 and (is_expired or has_none)
        if code not in EXPECTED_EXITS and code != -signal.SIGKILL and not is_operators:
            raise ViolationError(f"error: exit code {code}")

    def _check(self, step: Step, code: int) -> None:
        due: dict[Place, Content] = {}
        problems = []
        if code == 0 and step.command == "run":
            for place in self.model.places(step.date, step.narrowed_to):
                if not self.model.allowed(place):
                    problems.append(f"lost: {place}: exit code 0, and no walk of it was complete")
                elif content := self.model.due(place, step.request):
                    due[place] = content
                self.published.add(place)
        warehouse = self.jobs[0].directory / "warehouse"
        states = [DeltaReader(warehouse).state(), CatalogReader(warehouse).state()]
        are_new = [due or state != before for state, before in zip(states, self.states, strict=True)]
        self.states = states
        if are_new[0]:
            problems += check(read_delta(warehouse), self.model, due, self.published, apart=True)
        if are_new[1]:
            catalog = read_catalog(warehouse)
            found = check(catalog, self.model, due, self.published, apart=False)
            found += [*check_facts(catalog), *check_changes(catalog)]
            problems += [f"catalog: {line}" for line in found]
        _raise(problems)

    def finish(self, report: Report | None) -> None:
        """Check what only the end can tell."""
        problems = [
            f"{finding.what}: {finding.problem}"
            for job in self.jobs
            for finding in verify(job.settings())
            if finding.problem
        ]
        if report:
            digests = lambda place: [content.digests() for content in self.model.allowed(place)]  # noqa: E731
            problems += judge(report, digests)
            self.tally.looks.update(report.looks)
        warehouse = self.jobs[0].directory / "warehouse"
        if self.jobs[0].marts:
            carried_on = read_marts(warehouse)
            show(self.jobs[0].settings())
            anew = read_marts(warehouse)
            problems += [f"mart {name}: not as it is made anew" for name in anew if carried_on.get(name) != anew[name]]
        _raise(problems)
        self.tally.commits += sum(
            DeltaTable(log.parent).version() + 1 for log in warehouse.glob("*/_delta_log") if any(log.glob("*.json"))
        )
        self.tally.snapshots += len(self.published)
        delta = read_delta(warehouse)
        self.tally.rows += sum(len(delta[table]) for table in KEYS)


def play(
    schedule: Schedule,
    directory: Path,
    *,
    readers: tuple[tuple[str, ...], ...] = READERS,
    random_kills: bool = False,
    tell: Callable[[str], None] = lambda _line: None,
) -> Tally:
    """Play a schedule in a new directory.

    Args:
        schedule: what to do.
        directory: for configuration, state and warehouse.
        readers: groups of `torture.readers.READERS`, one process each.
        random_kills: kill also at moments that no replay can repeat.
        tell: gets a line for each step.

    Raises:
        ViolationError: a promise was broken; names the step.
    """
    settings = StudioSettings(page_size=schedule.page_size, instant=schedule.steps[0].at)
    with EmbeddedStudio(schedule.world, settings) as studio:
        log = studio._app.requests = RequestLog()
        jobs = [
            job_at(
                place,
                studio,
                source="" if schedule.asks_account else f"  account_id: '{schedule.world.account_id}'",
                rest=f"run: {{concurrency: {schedule.concurrency}, max_pages: 40}}\n"
                f"datasets: [{'studios, ' if schedule.lists_studios else ''}streaming_sessions]\n"
                f"warehouse: {{path: {directory / 'warehouse'}, vacuum_grace: {'2d' if readers else '0s'}}}",
                marts=schedule.seed % MARTS_EVERY == 0,
            )
            for place in (directory, directory / "other")[: schedule.machines]
        ]
        if schedule.machines > 1:
            # What one machine has half committed, another puts back: who reads the Delta tables themselves sees both.
            readers = tuple(kinds for group in readers if (kinds := tuple(kind for kind in group if kind != "delta")))
        play_ = _Play(
            schedule, studio, log, jobs,
            Model(schedule.world, schedule.page_size, lists_studios=schedule.lists_studios), Tally(schedules=1),
            Random(f"kills {schedule.seed}") if random_kills else None, tell,
        )  # fmt: skip
        play_.tally.nights = len({step.date for step in schedule.steps})
        for step in schedule.steps:
            if step.date in schedule.still:
                play_.model.stand_still(step.date, step.at)
        with reading(directory / "warehouse", readers) if readers else nullcontext() as report:
            for number, step in enumerate(schedule.steps, start=1):
                tell(f"step {number}")
                try:
                    play_.step(number, step)
                except ViolationError as exc:
                    raise ViolationError(
                        f"{schedule}\nstep {number}:\n{exc}\n{_last_lines(jobs[step.machine])}"
                    ) from exc
        try:
            play_.finish(report)
        except ViolationError as exc:
            raise ViolationError(f"{schedule}\nat the end:\n{exc}") from exc
        return play_.tally


def _raise(problems: list[str]) -> None:
    if problems:
        more = [f"... and {len(problems) - MOST_TOLD} more"] if len(problems) > MOST_TOLD else []
        raise ViolationError("\n".join([*problems[:MOST_TOLD], *more]))


def _last_lines(job: Job) -> str:
    lines = (job.directory / "log").read_text().splitlines()[-12:]
    return "\n".join(f"log: {re.sub(r'^[0-9T:+-]+ ', '', line)}" for line in lines)
