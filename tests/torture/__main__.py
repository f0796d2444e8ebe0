"""`python -m torture`: play seeded schedules on all cores until the time is over, or until one breaks a promise."""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from pathlib import Path

from torture.play import READERS, Tally, ViolationError, play
from torture.schedule import Schedule

TOLD_EVERY_S = 60

READ_EVERY = 3
"""Every third schedule has readers; the others can vacuum without grace."""

ON_TERM = (signal.SIGTERM, signal.SIG_DFL)
"""Of workers: they are ended like any process."""


def main() -> int:
    """Run the command line; returns its exit code."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end: the schedules at work are finished"))
    if arguments.replay is not None:
        return _replay(arguments)
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**9)
    until = time.monotonic() + arguments.minutes * 60 if arguments.schedules is None else None
    many = f"{arguments.schedules} schedules" if arguments.schedules is not None else f"{arguments.minutes:g} minutes"
    print(f"seed {seed}, {many}, {arguments.workers} at a time", flush=True)
    began = time.monotonic()
    total, broken = _play_all(_seeds(seed, arguments.schedules, until), arguments)
    print(_summary(total, time.monotonic() - began))
    if broken is None:
        print("0 lost, 0 doubled, 0 mixed")
        return 0
    bad_seed, directory, what = broken
    mode = " --random-kills" if arguments.random_kills else ""
    print(f"\nseed {bad_seed} breaks a promise:\n{what}\nIts directory is {directory}. Replay it:")
    print(f"    PYTHONPATH=tests {Path(sys.executable).name} -m torture --replay {bad_seed}{mode}")
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="begin no schedule after so many minutes")
    parser.add_argument("--schedules", type=int, help="play so many instead")
    parser.add_argument("--seed", type=int, help="of the first schedule; each one more is of the next number")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="schedules at a time")
    parser.add_argument("--replay", type=int, metavar="SEED", help="play one schedule, told step by step, and keep it")
    parser.add_argument("--directory", type=Path, help="for the directories of the schedules")
    parser.add_argument(
        "--random-kills", action="store_true", help="kill also at random moments, which a replay only repeats roughly"
    )
    return parser.parse_args()


def _seeds(first: int, schedules: int | None, until: float | None) -> Iterator[int]:
    for number in count() if schedules is None else range(schedules):
        if until is not None and time.monotonic() >= until:
            return
        yield first + number


def _play_all(seeds: Iterator[int], arguments: argparse.Namespace) -> tuple[Tally, tuple[int, str, str] | None]:
    """Play until the seeds end or a promise is broken; return what was done, and seed, directory and violation."""
    total, told_at = Tally(), time.monotonic()
    with ProcessPoolExecutor(arguments.workers, initializer=signal.signal, initargs=ON_TERM) as pool:
        running: dict[Future[tuple[Tally | None, str, str]], int] = {}
        while True:
            while len(running) < arguments.workers and (seed := next(seeds, None)) is not None:
                running[pool.submit(play_seed, seed, arguments.directory, random_kills=arguments.random_kills)] = seed
            if not running:
                return total, None
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                seed = running.pop(future)
                tally, directory, what = future.result()
                if tally is None:
                    for other in running:
                        other.cancel()
                    return total, (seed, directory, what)
                total.add(tally)
            if time.monotonic() > told_at + TOLD_EVERY_S:
                told_at = time.monotonic()
                print(
                    f"{total.schedules} schedules, {total.starts.total()} starts, {total.kills.total()} kills",
                    flush=True,
                )


def play_seed(seed: int, parent: Path | None, *, random_kills: bool) -> tuple[Tally | None, str, str]:
    """Play one schedule in a directory that is kept only if a promise is broken: tally, directory, what is broken."""
    directory = Path(tempfile.mkdtemp(prefix=f"torture-{seed}-", dir=parent))
    told: list[str] = []
    try:
        tally = play(
            Schedule.make(seed), directory, readers=_readers(seed), random_kills=random_kills, tell=told.append
        )
    except ViolationError as exc:
        moments = [line for line in told if line.startswith("killed")]
        return None, str(directory), "\n".join([str(exc), *moments])
    shutil.rmtree(directory)
    return tally, "", ""


def _replay(arguments: argparse.Namespace) -> int:
    schedule = Schedule.make(arguments.replay)
    directory = Path(tempfile.mkdtemp(prefix=f"torture-{arguments.replay}-", dir=arguments.directory))
    print(schedule, flush=True)
    readers = _readers(arguments.replay)
    began = time.monotonic()
    try:
        tally = play(schedule, directory, readers=readers, random_kills=arguments.random_kills, tell=_tell)
    except ViolationError as exc:
        print(f"{exc}\nIts directory is {directory}")
        return 1
    print(f"{_summary(tally, time.monotonic() - began)}\n0 lost, 0 doubled, 0 mixed\nIts directory is {directory}")
    return 0


def _tell(line: str) -> None:
    print(line, flush=True)


def _readers(seed: int) -> tuple[tuple[str, ...], ...]:
    return READERS if seed % READ_EVERY == 0 else ()


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
    return "\n".join(f"{name:10} {text}" for name, text in lines.items())


def _listed(counts: Counter[str]) -> str:
    return f"{sum(counts.values())}: " + ", ".join(f"{name} {number}" for name, number in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
