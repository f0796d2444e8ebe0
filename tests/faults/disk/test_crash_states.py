"""Fault 36: the power goes. Whatever the disk may then hold, the next run makes it whole.

`support.powerloss` says what a disk may hold. A night is written down, operation by operation; the power is cut around
each sync and each change of a name; a sample of the states that may be found is tried. EVERY_CRASH_STATE=1 tries all.

What is promised of each state, before anything is repaired:

- The catalog is that of the former night or of the new one; of the new one, once the run has said that it is swapped.
- Each Delta table holds the former rows or the new ones; the new ones, once the run has said that they are durable. A
  table may be unreadable only if its newest commit was not yet said to be durable: the name of a log entry can be on
  the disk before what is in it. The next run removes that entry, and publishes from the ledger.
- A page that was said to be stored is not fetched again.
"""

import itertools
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
from support.disk import Event, read_trace
from support.nights import TABLES, Nights
from support.powerloss import FATES, Disk
from support.thorough import part

from etl.errors import WarehouseError

EVERY = bool(os.environ.get("EVERY_CRASH_STATE"))
SHARES = 6
"""How many tests the states of a night are dealt to."""
SAMPLED = 9
SEED = 36


@dataclass(frozen=True, slots=True)
class Crash:
    """The power goes after so many operations; its fate decides what becomes of what is not on the disk yet."""

    after: int
    fate: str


@dataclass
class Promises:
    """What the run has said so far, by the steps that it passed."""

    pages_stored: int = 0
    durable: set[str] = field(default_factory=set)
    catalog_swapped: bool = False
    run_closed: bool = False


@dataclass
class Recorded:
    """A night, and everything that it does to the disk."""

    nights: Nights
    events: list[Event]

    def states(self, crashes: list[Crash]) -> Iterator[tuple[Crash, dict[str, bytes | None]]]:
        """Yield what the disk may hold after each crash; the same state once."""
        disk, done, seen = Disk(self.nights.copy, self.nights.job.directory), 0, set()
        for crash in sorted(crashes, key=lambda crash: crash.after):
            for event in self.events[done : crash.after]:
                disk.apply(event)
            done = crash.after
            state = disk.after_power_loss(FATES[crash.fate]())
            digest = sha256(repr((sorted(state.items()), self.promises(crash))).encode()).digest()
            if digest not in seen:
                seen.add(digest)
                yield crash, state

    def promises(self, crash: Crash) -> Promises:
        """Return what had been said when the power went."""
        said, table = Promises(), ""
        for event in self.events[: crash.after]:
            if event.kind == "l":
                table = Path(event.second).parents[1].name
            elif event.kind == "m":
                said.pages_stored += event.path == "page.stored"
                said.catalog_swapped |= event.path == "catalog.swapped"
                said.run_closed |= event.path == "run.closed"
                if event.path == "table.durable":
                    said.durable.add(table)
        return said


@pytest.fixture(scope="session")
def recorded(nights, first_night, tmp_path_factory):
    """Both nights: name -> what is recorded."""
    return {
        "first night": record(first_night, tmp_path_factory.mktemp("trace") / "trace"),
        "second night": record(nights, tmp_path_factory.mktemp("trace") / "trace"),
    }


def record(nights: Nights, trace: Path) -> Recorded:
    nights.put_back()
    ended = nights.run(trace=trace)
    assert ended.exit_code == 0, ended.output
    return Recorded(nights, list(read_trace(trace)))


@pytest.mark.parametrize("night", ["first night", "second night"])
def test_trace_holds_all_that_was_done_to_the_disk(night, recorded):
    """Played again it makes the same files, byte for byte; but for an index that SQLite maps into memory."""
    nights, events = recorded[night].nights, recorded[night].events
    found = record(nights, nights.job.directory.with_name("trace"))
    (played,) = [state for _, state in found.states([Crash(len(found.events), "kept")])]
    there = {
        str(path.relative_to(nights.job.directory)): None if path.is_dir() else path.read_bytes()
        for path in nights.job.directory.rglob("*")
    }
    assert {event.kind for event in events} >= set("cwtsrludm")
    assert played == there


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("night", ["first night", "second night"])
def test_fault_36_whatever_a_power_loss_leaves_the_next_run_makes_it_whole(night, share, recorded):
    crashes = chosen(recorded[night].events)[share::SHARES]
    assert crashes
    for crash, state in recorded[night].states(crashes):
        survive(recorded[night].nights, crash, state, recorded[night].promises(crash))


def chosen(events: list[Event]) -> list[Crash]:
    """Return which crashes are tried.

    The hardest ones: nothing but what was synced, at each moment at which something was said; names without what they
    stand for, after each change of a name. And a sample of all others. Of the latter two, `make test` tries a quarter.
    """
    near = {0} | {near for at, event in enumerate(events) if event.kind in "slrum" for near in (at, at + 1)}
    every = [Crash(at, fate) for at in sorted(near) for fate in FATES]
    if EVERY:
        return every
    said = [Crash(at, "lost") for at, event in enumerate(events, start=1) if event.kind == "m"]
    empty = itertools.cycle(["names", "names and sizes", "names and halves"])
    named = [Crash(at, next(empty)) for at, event in enumerate(events, start=1) if event.kind in "lr"]
    return [*said, *part([*named, *random.Random(SEED).sample(every, SAMPLED)], 4)]


def survive(nights: Nights, crash: Crash, state: dict[str, bytes | None], said: Promises) -> None:
    """Look at a disk as the power loss left it, run the job on it, and look again."""
    place(state, nights.job.directory)
    assert nights.seen_in_catalog() in ([nights.whole] if said.catalog_swapped else [nights.former, nights.whole]), (
        crash
    )
    for table in TABLES:
        look(nights, crash, table, durable=table in said.durable)
    if said.run_closed:
        assert nights.problems() == [], crash
    asked = len(nights.studio.requests)

    ended = nights.run()

    assert ended.exit_code == 0, f"{crash}\n{ended.output}"
    asked = len(nights.studio.requests) - asked
    assert said.catalog_swapped or asked <= nights.requests - said.pages_stored, crash
    assert nights.seen_in_catalog() == nights.seen_in_tables() == nights.whole, crash
    assert nights.problems() == [], crash


def look(nights: Nights, crash: Crash, table: str, *, durable: bool) -> None:
    """Read a Delta table before anything is repaired."""
    try:
        seen = nights.seen_in_table(table)
    except WarehouseError:
        assert not durable, (crash, table)
    else:
        assert seen == nights.whole[table] or (seen == nights.former[table] and not durable), (crash, table)


def place(state: dict[str, bytes | None], directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()
    for path, content in state.items():
        if content is None:
            (directory / path).mkdir()
        else:
            (directory / path).write_bytes(content)
