"""`python -m torture`: play seeded schedules, then judge seeded hostile cases, until the time is over.

It ends earlier if one breaks a promise.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from torture.judge import KINDS, Template, name_of, template
from torture.play import Tally, ViolationError, play
from torture.schedule import Schedule
from torture.work import Played, judge_one, play_seed, readers_of

TOLD_EVERY_S = 60

HOSTILE_SHARE = 0.25
"""Of the minutes, for hostile cases; schedules get what comes before."""

ON_TERM = (signal.SIGTERM, signal.SIG_DFL)
"""Of workers: they are ended like any process."""


def main() -> int:
    """Run the command line; returns its exit code."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end: what is at work is finished"))
    if arguments.replay is not None:
        return _replay(arguments.replay, arguments)
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**9)
    schedules, cases, seconds = arguments.schedules, arguments.hostile, arguments.minutes * 60
    wanted = {"schedules": schedules, "hostile cases": cases}
    counts = [f"{most} {what}" for what, most in wanted.items() if most is not None]
    many = " and ".join(counts) or f"{arguments.minutes:g} minutes"
    print(f"seed {seed}, {many}, {arguments.workers} at a time", flush=True)
    began, total, broken = time.monotonic(), Tally(), None
    if schedules is not None or not counts:
        until = began + seconds * (1 - HOSTILE_SHARE) if schedules is None else None
        names = map(str, _seeds(seed, schedules, until))
        broken = _play_all(
            names, partial(play_seed, arguments.directory, random_kills=arguments.random_kills), total, arguments
        )
    if (cases is not None or not counts) and not broken:
        names = map(name_of, _seeds(seed, cases, began + seconds if cases is None else None))
        with _template(arguments) as source:
            broken = _play_all(names, partial(judge_one, arguments.directory, source), total, arguments)
    print(_summary(total, time.monotonic() - began))
    if broken is None:
        print("0 lost, 0 doubled, 0 mixed")
        return 0
    name, directory, what = broken
    mode = " --random-kills" if arguments.random_kills and name.isdecimal() else ""
    print(f"\n{_title(name)} breaks a promise:\n{what}\nIts directory is {directory}. Replay it:")
    print(f"    PYTHONPATH=tests {Path(sys.executable).name} -m torture --replay {name}{mode}")
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    share = f"{HOSTILE_SHARE:.0%}".replace("%", "%%")
    parser.add_argument(
        "--minutes", type=float, default=10, help=f"begin nothing after so many; the last {share} are for hostile cases"
    )
    parser.add_argument("--schedules", type=int, help="play so many instead")
    parser.add_argument("--hostile", type=int, metavar="CASES", help="judge so many hostile cases instead")
    parser.add_argument("--seed", type=int, help="the first; each schedule or case more is of the next number")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="schedules or cases at a time")
    parser.add_argument(
        "--replay", type=_name, metavar="SEED", help="play one schedule, told step by step, and keep it; or one case"
    )
    parser.add_argument("--directory", type=Path, help="for the directories of schedules and cases")
    parser.add_argument(
        "--random-kills", action="store_true", help="kill also at random moments, which a replay only repeats roughly"
    )
    return parser.parse_args()


def _name(text: str) -> str:
    """Return a name as it was printed: the seed of a schedule, or the kind and the seed of a case."""
    kind, _, number = text.rpartition("-")
    if not number.isdecimal() or kind not in {"", *KINDS}:
        kinds = ", ".join(f"{kind}-17" for kind in KINDS)
        raise argparse.ArgumentTypeError(f"found {text!r}; expected the seed of a schedule, or a case such as {kinds}")
    return text


def _seeds(first: int, most: int | None, until: float | None) -> Iterator[int]:
    for number in count() if most is None else range(most):
        if until is not None and time.monotonic() >= until:
            return
        yield first + number


def _play_all(
    names: Iterator[str], play_one: Callable[[str], Played], total: Tally, arguments: argparse.Namespace
) -> tuple[str, str, str] | None:
    """Play until the names end or a promise is broken; return name, directory and violation. `total` is added to."""
    told_at = time.monotonic()
    # Not forked from here: a studio's threads and DuckDB's do not survive that.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(arguments.workers, context, signal.signal, ON_TERM) as pool:
        running: dict[Future[Played], str] = {}
        while True:
            while len(running) < arguments.workers and (name := next(names, None)) is not None:
                running[pool.submit(play_one, name)] = name
            if not running:
                return None
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                tally, directory, what = future.result()
                if tally is None:
                    for other in running:
                        other.cancel()
                    return name, directory, what
                total.add(tally)
            if time.monotonic() > told_at + TOLD_EVERY_S:
                told_at = time.monotonic()
                print(
                    f"{total.schedules} schedules, {total.starts.total()} starts, {total.kills.total()} kills, "
                    f"{total.cases.total()} hostile cases",
                    flush=True,
                )


@contextmanager
def _template(arguments: argparse.Namespace) -> Iterator[Template]:
    scratch = tempfile.TemporaryDirectory(prefix="torture-template-", dir=arguments.directory)
    with scratch as directory, template(Path(directory)) as source:
        yield source


def _replay(name: str, arguments: argparse.Namespace) -> int:
    if not name.isdecimal():
        with _template(arguments) as source:
            tally, directory, what = judge_one(arguments.directory, source, name)
        print(
            f"{what}\nIts directory is {directory}" if tally is None else f"{_title(name)}: 0 lost, 0 doubled, 0 mixed"
        )
        return int(tally is None)
    schedule = Schedule.make(int(name))
    directory = Path(tempfile.mkdtemp(prefix=f"torture-{name}-", dir=arguments.directory))
    print(schedule, flush=True)
    readers = readers_of(int(name))
    began = time.monotonic()
    try:
        tally = play(schedule, directory, readers=readers, random_kills=arguments.random_kills, tell=_tell)
    except ViolationError as exc:
        print(f"{exc}\nIts directory is {directory}")
        return 1
    print(f"{_summary(tally, time.monotonic() - began)}\n0 lost, 0 doubled, 0 mixed\nIts directory is {directory}")
    return 0


def _title(name: str) -> str:
    return f"seed {name}" if name.isdecimal() else f"hostile case {name}"


def _tell(line: str) -> None:
    print(line, flush=True)


def _summary(tally: Tally, seconds: float) -> str:
    lines = {
        "played": f"{tally.schedules} schedules, {tally.nights} nights, {seconds:.0f} s",
        "starts": _listed(tally.starts),
        "exits": _listed(tally.exits),
        "faults": _listed(tally.faults),
        "disturbed": _listed(tally.kills),
        "recovered": f"{tally.recoveries} starts that ended early were followed by a whole publication",
        "published": f"{tally.commits} commits; {tally.snapshots} snapshots of slices, {tally.rows} rows at the end",
        "readers": _listed(tally.looks),
    }
    if tally.cases:
        lines["hostile"] = _listed(tally.cases)
    return "\n".join(f"{name:10} {text}" for name, text in lines.items())


def _listed(counts: Counter[str]) -> str:
    return f"{sum(counts.values())}: " + ", ".join(f"{name} {number}" for name, number in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
