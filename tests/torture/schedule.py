"""What is done to a few nights of exports, all of it decided by one seed."""

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from etl.emulator import World
from etl.emulator.faults import ENDING
from etl.events import STEPS

FIRST_DATE = dt.date(2026, 11, 20)

AT_ONCE = (
    *("html", "empty-body", "empty-object", "null-list", "missing-list", "wrong-type", "truncate", "bad-gzip"),
    *("bad-utf8", "expired-credentials", "empty-page", "odd-timestamps", "duplicate", "conflict"),
)
"""Faults that a repetition cures without a pause, or that need no cure. Rows are the same with them and without."""

AFTER_A_PAUSE = ("throttle", "internal-error", "unavailable", "reset")
"""Faults that boto3 waits after, up to seconds: few of them."""

TOKENS = (
    *("expired-token", "repeat-token", "cycle-tokens", "endless-tokens", "empty-token", "null-token"),
    *("token-none", "token-underscores", "token-scalar", "token-long", "token-symbols"),
)
REFUSALS = ("vanish", "access-denied", "quota", "clock-skew", "expired-credentials")
EDITS = ("newer-duplicate", "unknown-enum", "unknown-member", "bad-timestamp", "nested-type")
"""Faults that change rows; the model knows how, as long as each walk is followed page by page."""

SESSIONS = "operation=ListStreamingSessions"

UPKEEP = ("compact", "vacuum", "replay")
KILLS_UPKEEP = tuple(step for step in STEPS if step.startswith(("table", "snapshot", "publication.marked", "catalog")))

Act = Literal["kill", "terminate", "cut"]
"""SIGKILL, SIGTERM, or all connections to the studio break."""


@dataclass(frozen=True)
class Step:
    """One start of the job: for which date, what the studio lists and does, and how the process is disturbed.

    Attributes:
        date: snapshot date.
        at: instant at which the world stands, aware.
        command: run, compact, vacuum, or replay: of everything.
        arguments: of `run`, the date apart.
        faults: rules of the studio.
        dies_at: failpoint, as step:time.
        act: done when the studio has received the request with the number `at_request`, before it answers; 0: the
            request that stalls.
        at_request: from 1.
        finishes: start again, undisturbed, until everything is published.
        machine: where it is started. Each machine has a state directory of its own; the warehouse is one.
    """

    date: dt.date
    at: dt.datetime
    command: str = "run"
    arguments: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    dies_at: str | None = None
    act: Act | None = None
    at_request: int = 0
    finishes: bool = False
    machine: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        """What the command line is told."""
        if self.command == "run":
            return ("run", "--snapshot-date", self.date.isoformat(), *self.arguments)
        return ("replay", "--since", FIRST_DATE.isoformat()) if self.command == "replay" else (self.command,)

    @property
    def narrowed_to(self) -> str:
        """The only studio that is exported; empty for all."""
        return self.arguments[1] if "--studio-id" in self.arguments else ""

    @property
    def request(self) -> str:
        """Return what tells requests apart that another run answers."""
        return f"{self.narrowed_to}@{self.machine}" if self.machine else self.narrowed_to


@dataclass(frozen=True)
class Schedule:
    """Consecutive nights of one job.

    Attributes:
        asks_account: the job asks STS for it; otherwise it stands in the configuration.
        lists_studios: the studios are exported too, and not only walked because their sessions are.
        still: dates on which the listing does not change between two starts; on them `--max-items` may cut pages.
    """

    seed: int
    world: World
    page_size: int
    concurrency: int
    asks_account: bool
    lists_studios: bool
    still: frozenset[dt.date]
    steps: tuple[Step, ...]

    @classmethod
    def make(cls, seed: int, *, is_short: bool = False) -> "Schedule":
        """Return the schedule of a seed; a short one has two nights, and few disturbed starts."""
        chance = Random(f"schedule {seed}")
        world = World(
            seed=chance.randrange(1000),
            studios=chance.choice((1, 2) if is_short else (1, 2, 2, 3, 4)),
            sessions_per_studio=chance.randint(10, 80),
            epoch=dt.date(2026, 1, 1),
        )
        page_size = chance.randint(5, 25)
        nights = 2 if is_short else chance.choice((2, 2, 2, 2, 3, 4))
        dates = [FIRST_DATE + dt.timedelta(number) for number in range(nights)]
        still = frozenset(date for date in dates if chance.random() < 0.35)
        steps: list[Step] = []
        late: list[Step] = []
        for date in dates:
            night = _Night(chance, world, page_size, date, is_still=date in still)
            begun, finish = night.export((0, 1) if is_short and steps else (1,) if is_short else (0, 1, 1, 1, 2, 3))
            steps += begun
            if date != dates[-1] and chance.random() < 0.15:
                late.append(finish)
                continue
            steps.append(finish)
            if not is_short and chance.random() < 0.3:  # a rerun of what is published already
                begun, finish = night.export((0, 1, 1))
                steps += begun
                (late if date != dates[-1] and chance.random() < 0.3 else steps).append(finish)
            steps += late
            late = []
        machines = Random(f"machines {seed}")
        if not is_short and machines.random() < 0.3:
            machine = 0
            for number, step in enumerate(steps):
                # A machine that has run nothing has nothing to replay.
                machine = machine if step.command == "replay" else machines.randint(0, 1)
                steps[number] = replace(step, machine=machine)
        return cls(
            seed=seed,
            world=world,
            page_size=page_size,
            concurrency=chance.choice((1, 1, 4)),
            asks_account=chance.random() < 0.15,
            lists_studios=chance.random() < 0.6,
            still=still,
            steps=tuple(steps),
        )

    @property
    def machines(self) -> int:
        """Return how many machines there are."""
        return 1 + max(step.machine for step in self.steps)

    def __str__(self) -> str:
        world = self.world
        size = f"{world.studios} studios of {world.sessions_per_studio} sessions (world {world.seed})"
        lines = [f"seed {self.seed}: {size}, {self.page_size} on a page, concurrency {self.concurrency}"]
        for number, step in enumerate(self.steps, start=1):
            what = [step.command, *step.arguments, *step.faults]
            what += [f"dies at {step.dies_at}"] if step.dies_at else []
            what += [f"{step.act} at request {step.at_request or 'that stalls'}"] if step.act else []
            what += ["until published"] if step.finishes else []
            what += [f"on machine {step.machine}"] if self.machines > 1 else []
            lines.append(f"{number:3} {step.date} {step.at:%m-%d %H:%M} {' '.join(what)}")
        return "\n".join(lines)


@dataclass
class _Night:
    """Draws the steps of one date."""

    chance: Random
    world: World
    page_size: int
    date: dt.date
    is_still: bool

    def __post_init__(self) -> None:
        self._hours = 2.0
        self._narrowed = False
        self._begun = False
        pages = math.ceil(self.world.sessions_per_studio / self.page_size)
        self._pages = pages
        self._requests = 1 + self.world.studios * pages

    def export(self, counts: tuple[int, ...]) -> tuple[list[Step], Step]:
        """Return disturbed starts, one of these many, and those that finish what they leave."""
        return [self._step() for _ in range(self.chance.choice(counts))], self._finish()

    def _finish(self) -> Step:
        self._begun = True
        # Runs of one studio and of all may both be unfinished: nobody could say which is published last.
        arguments = ("--fresh",) if self._narrowed or self.chance.random() < 0.1 else ()
        self._narrowed = False
        return Step(self.date, self._later(), arguments=arguments, finishes=True)

    def _step(self) -> Step:
        chance = self.chance
        if self._begun and chance.random() < 0.15:
            dies_at = f"{chance.choice(KILLS_UPKEEP)}:{chance.randint(1, 6)}" if chance.random() < 0.6 else None
            return Step(self.date, self._later(), chance.choice(UPKEEP), dies_at=dies_at)
        self._begun = True
        faults = tuple(self._faults())
        dies_at, act, at_request = None, None, 0
        if any(fault.startswith("stall") for fault in faults):
            act = "kill"
        else:
            match chance.choices(("", "failpoint", "kill", "terminate", "cut"), (25, 40, 15, 12, 8))[0]:
                case "failpoint":
                    dies_at = self._failpoint()
                case "kill" | "terminate" | "cut" as act:
                    at_request = chance.randint(1, self._requests)
        return Step(self.date, self._later(), "run", self._arguments(), faults, dies_at, act, at_request)

    def _later(self) -> dt.datetime:
        if not self.is_still and self.chance.random() < 0.6:
            self._hours += self.chance.choice((0.25, 3, 6, 9))
        midnight = dt.datetime.combine(self.date, dt.time(), dt.UTC)
        return midnight + dt.timedelta(hours=min(self._hours, 23.75))

    def _arguments(self) -> tuple[str, ...]:
        chance = self.chance
        if self.is_still and chance.random() < 0.5:
            return ("--max-items", str(chance.randint(1, self.world.sessions_per_studio)))
        draw = chance.random()
        if draw < 0.1:
            return ("--fresh",)
        if draw < 0.2:
            return ("--max-duration", chance.choice(("0s", "0.02s", "0.1s")))
        if draw < 0.27:
            self._narrowed = True
            return ("--studio-id", chance.choice(self.world.studio_ids))
        return ()

    def _failpoint(self) -> str:
        step = self.chance.choice(STEPS)
        most = 2
        if step.startswith("page"):
            most = self._requests
        elif step.startswith(("slice", "table")):
            most = 10
        return f"{step}:{self.chance.randint(1, most)}"

    def _faults(self) -> Iterator[str]:
        chance = self.chance
        kinds = chance.choices(
            ("", "seeded", AT_ONCE, TOKENS, REFUSALS, EDITS, AFTER_A_PAUSE, "stall", "for ever"),
            (20, 20, 20, 20, 10, 10, 5, 4, 1),
            k=chance.choice((1, 1, 2, 3)),
        )
        for kind in kinds:
            if kind == "seeded":
                rate = chance.choice((0.05, 0.2, 0.5))
                yield f"seed={chance.randrange(10**6)},rate={rate},kinds={'+'.join(AT_ONCE)}"
            elif kind == "for ever":
                yield f"{chance.choice(AT_ONCE[:9])}:{self._place()},times=ever"
            elif kind == "stall":
                yield f"stall:{self._place()}"
            elif kind and not (kind is EDITS and self.is_still):
                name = chance.choice(kind)
                yield f"{name}:{f'{SESSIONS},page=last' if name in ENDING else self._place()}{self._times(kind)}"

    def _place(self) -> str:
        """Return where a fault hits: mostly the sessions, of some studio or any, on some page or any."""
        chance = self.chance
        parts = [SESSIONS] if chance.random() < 0.9 else ["operation=ListStudios"]
        if chance.random() < 0.5:
            parts = [f"{SESSIONS},studio={chance.choice(self.world.studio_ids)}"]
        if chance.random() < 0.7:
            parts.append(f"page={chance.randint(1, self._pages)}")
        else:
            parts.append(f"request={chance.randint(1, self._requests)}")
        return ",".join(parts)

    def _times(self, kinds: tuple[str, ...]) -> str:
        if kinds is REFUSALS:
            return f",times={self.chance.choice((1, 'ever'))}"
        if kinds is AT_ONCE:
            return f",times={self.chance.randint(1, 4)}"
        return ""
