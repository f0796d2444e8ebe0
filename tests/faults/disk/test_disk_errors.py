"""Fault 37: a disk that refuses, below everything: at any operation of a night, once or from then on.

A sample of the operations is tried: of each kind on each kind of file, the first is refused for ever, the last once;
by `make test`, every third of these. EVERY_DISK_FAULT=1 tries all of them both ways; that takes an hour or two.
"""

import errno
import os
import re

import pytest
from support.disk import Event, Fault, read_trace
from support.thorough import part

EVERY = bool(os.environ.get("EVERY_DISK_FAULT"))

ERRORS = {
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "sync": (errno.EIO, errno.ENOSPC),
    "open": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "name": (errno.EIO, errno.ENOSPC),
    "close": (errno.EIO, errno.EDQUOT),
}


@pytest.fixture(scope="session")
def operations(nights, tmp_path_factory) -> list[Event]:
    """What an undisturbed second night does to the disk."""
    trace = tmp_path_factory.mktemp("trace") / "trace"
    nights.put_back()
    assert nights.run(trace=trace).exit_code == 0
    return list(read_trace(trace))


def test_every_kind_of_file_that_a_night_writes_is_seen(operations):
    """SQLite, Arrow in C++, deltalake in Rust, DuckDB and Python: all go through the functions that are replaced."""
    seen = {(event.kind, role(event)) for event in operations}
    assert {
        ("w", "state/lock"),
        ("w", "state/runs/RUN.new"), ("s", "state/runs/RUN.new"), ("r", "state/runs/RUN.sqlite"),
        ("w", "state/runs/RUN.sqlite-wal"), ("s", "state/runs/RUN.sqlite-wal"), ("w", "state/runs/RUN.sqlite"),
        ("w", "warehouse/TABLE/snapshot_date=DATE/RUN-ID.parquet"),
        ("s", "warehouse/TABLE/snapshot_date=DATE/RUN-ID.parquet"),
        ("s", "warehouse/TABLE/snapshot_date=DATE"), ("s", "warehouse/TABLE"), ("s", "warehouse"),
        ("w", "warehouse/TABLE/_delta_log/VERSION.json#1"), ("l", "warehouse/TABLE/_delta_log/VERSION.json"),
        ("s", "warehouse/TABLE/_delta_log/VERSION.json"), ("s", "warehouse/TABLE/_delta_log"),
        ("w", "warehouse/.warehouse.duckdb.new"), ("w", "warehouse/.warehouse.duckdb.new.wal"),
        ("s", "warehouse/.warehouse.duckdb.new"), ("r", "warehouse/warehouse.duckdb"),
    } <= seen  # fmt: skip


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for_ever"])
@pytest.mark.parametrize("group", ERRORS)
def test_fault_37_whatever_the_disk_refuses_readers_see_a_whole_night_and_a_rerun_heals_it(
    group, for_ever, nights, operations
):
    errors = ERRORS[group]
    for turn, number in enumerate(numbers(operations, group, first=for_ever)):
        undergo(nights, Fault(group, number, errors[turn % len(errors)], for_ever))


def test_fault_37_a_disk_that_takes_less_than_it_was_given_once_loses_nothing(nights, operations):
    """write(2) may take a part only; whoever calls it must give it the rest."""
    for number in numbers(operations, "write", first=True)[:: 1 if EVERY else 4]:
        undergo(nights, Fault("write", number, 0))


def test_fault_37_a_disk_that_always_takes_less_than_it_was_given_loses_nothing(nights):
    assert undergo(nights, Fault("write", 1, 0, for_ever=True)).exit_code == 0


def undergo(nights, fault):
    """Run the second night with a fault, look at what it leaves, run it again, and look again."""
    nights.put_back()
    ended = nights.run(fault=fault)
    assert ended.failed, f"{fault} was never reached"
    told = f"{fault}: {ended.failed[0]}\n{ended.output}"
    assert "Traceback" not in ended.output, told
    assert "ignored" not in ended.output, told
    seen = nights.seen_in_tables()
    assert all(rows in (nights.former[table], nights.whole[table]) for table, rows in seen.items()), told
    assert nights.seen_in_catalog() in (nights.former, nights.whole), told
    if ended.exit_code == 0:
        assert nights.seen_in_catalog() == seen == nights.whole, told
    else:
        assert ended.exit_code == 3, told
        place = f"^(nimble-etl|run [^:]*): {nights.job.directory}/(state|warehouse)[^:]*: ."
        assert re.search(place, ended.output, re.MULTILINE), told
    again = nights.run()
    assert again.exit_code == 0, f"{told}\nrun again:\n{again.output}"
    assert nights.seen_in_catalog() == nights.seen_in_tables() == nights.whole, told
    assert nights.problems() == [], told
    assert nights.leftovers() == [], told
    return ended


def numbers(operations: list[Event], group: str, *, first: bool) -> list[int]:
    """Return which operations of a class are tried: all, or the first or last of each kind on each kind of file."""
    of_group = [event for event in operations if event.group == group]
    if EVERY:
        return list(range(1, of_group[-1].number + 1))
    ordered = reversed(of_group) if first else of_group
    chosen = sorted({(event.kind, role(event)): event.number for event in ordered}.values())
    return list(part(chosen if group in {"write", "sync"} else chosen[first::2], 3))


def role(event: Event) -> str:
    """Return the path that an operation changed, without what differs between runs, dates and tables."""
    path = re.sub(r".*?/job/", "", event.second or event.path).removesuffix(" (deleted)")
    path = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]+", "RUN", path)
    path = re.sub(r"-[0-9a-f]{32}", "-ID", path)
    path = re.sub(r"_checkpoint-\w+", "_checkpoint-ID", path)
    path = re.sub(r"\d{4}-\d\d-\d\d", "DATE", path)
    path = re.sub(r"\d{20}", "VERSION", path)
    return re.sub(r"warehouse/\w+(?=/|$)", "warehouse/TABLE", path)
