"""Copies of closed ledgers: the copy is the authority, and of two machines one wins.

Two state directories stand for two machines; the place of the copies is a disk, or a server of S3.
"""

import datetime as dt
import stat

import pytest
from support.damage import change_ledger
from support.shapes import DATE, dataset, operation, page, part
from support.stores import KINDS, store_of

from etl.errors import LedgerError, StorageError
from etl.ledger.copies import Copies, own_last
from etl.ledger.directory import AT_ONCE, ledger_paths, mark_path, new_run_id, set_aside
from etl.ledger.erase import remove_slices
from etl.ledger.format import FORMAT
from etl.ledger.ledger import Ledger
from etl.model import RunState, SliceState

KEEP = dt.timedelta(days=90)
OLD = "20200101T000000Z-{:05}abcd"
A, B = part("a"), part("b")


@pytest.fixture(params=KINDS)
def machine(request, tmp_path):
    """Return a function that returns the copies as a job of a machine has them."""

    def beginning_job(name, kind=request.param):
        copies = Copies(store_of(kind, tmp_path / "copies"), tmp_path / name)
        (tmp_path / name / "runs").mkdir(parents=True, exist_ok=True)
        copies.check_writable()
        copies.update()
        return copies

    return beginning_job


def run_at(state_dir, run_id=None, state=RunState.PUBLISHED):
    """Make the ledger of a run with two slices of a page each; return its path."""
    run_id = run_id or new_run_id()
    path = state_dir / "runs" / f"{run_id}.sqlite"
    with Ledger.create(path, run_id, DATE, "request") as ledger:
        ledger.add_dataset(dataset(), operation(), published=True)
        for slice_ in (A, B):
            ledger.add_slice(slice_)
            ledger.store_page(slice_, page([{"thingId": f"{slice_.slice_id}-{n}"} for n in range(20)], 1))
        ledger.close_run(state)
    return path


def forget_a(path):
    with Ledger.open(path) as ledger:
        remove_slices(ledger, [A.slice_id])


def slices_of(path):
    with Ledger.open(path) as ledger:
        assert [facts.state for facts in ledger.slices()] == [SliceState.COMPLETE] * len(ledger.slices())
        return [facts.slice.slice_id for facts in ledger.slices() if list(ledger.pages(facts.slice))]


def files_beside(path):
    return sorted(file.name.partition(".")[2] for file in path.parent.iterdir())


def test_another_machine_gets_what_was_copied(machine, tmp_path):
    path = run_at(tmp_path / "first")
    assert machine("first").put(KEEP) == []
    other = tmp_path / "second" / "runs" / path.name

    machine("second")
    assert ledger_paths(tmp_path / "second") == [], "a night needs none"
    assert machine("second").update(missing=True) == []

    assert slices_of(other) == slices_of(path) == [A.slice_id, B.slice_id]
    assert files_beside(other) == ["kept", "sqlite"]
    assert stat.S_IMODE(other.stat().st_mode) == 0o600


def test_what_nobody_has_changed_is_sent_once_and_fetched_once(machine, tmp_path):
    """Reading a ledger must not look like a change: two machines would send it to each other for ever."""
    path = run_at(tmp_path / "first")
    machine("first").put(KEEP)
    sent = machine("first").store.versions()[path.name]
    for name in ("second", "first", "second", "first"):
        copies = machine(name)
        copies.update(missing=True)
        inode = (tmp_path / name / "runs" / path.name).stat().st_ino
        assert slices_of(tmp_path / name / "runs" / path.name)
        copies.put(KEEP)
        assert copies.store.versions()[path.name] == sent
        machine(name)
        assert (tmp_path / name / "runs" / path.name).stat().st_ino == inode


@pytest.mark.parametrize("state", [RunState.OPEN, RunState.IMPORTING])
def test_only_what_is_closed_is_copied(machine, tmp_path, state):
    path = run_at(tmp_path / "first", state=state)
    machine("first").put(KEEP)
    assert path.name not in machine("first").store.versions()
    with Ledger.open(path) as ledger:
        ledger.close_run(RunState.PUBLISHED)
        ledger.plan_publication("things", [A.slice_id])
    machine("first").put(KEEP)
    assert path.name not in machine("first").store.versions(), "a publication is open"
    with Ledger.open(path) as ledger:
        ledger.database.write("delete from publication")
    machine("first").put(KEEP)
    assert path.name in machine("first").store.versions()


@pytest.mark.parametrize("in_log", [False, True])
def test_what_one_machine_has_changed_the_other_has_at_its_next_job(machine, tmp_path, in_log):
    """Also if the change is still in SQLite's write-ahead log, because a job was killed."""
    path = run_at(tmp_path / "first")
    machine("first").put(KEEP)
    machine("second").update(missing=True)
    other = tmp_path / "second" / "runs" / path.name
    copies, held = machine("second"), Ledger.open(other)
    forget_a(other)
    if not in_log:
        held.close()
    copies.put(KEEP)
    held.close()

    machine("first")

    assert slices_of(path) == [B.slice_id]
    assert A.slice_id.encode() not in path.read_bytes()


def test_log_of_a_ledger_that_is_replaced_is_not_taken_for_one_of_the_copy(machine, tmp_path):
    """A killed job has left it; SQLite would write its pages into the copy."""
    path = run_at(tmp_path / "first")
    machine("first").put(KEEP)
    machine("second").update(missing=True)
    second = machine("second")
    forget_a(tmp_path / "second" / "runs" / path.name)
    second.put(KEEP)
    with Ledger.open(path) as held:
        held.add_time(7)
        assert "sqlite-wal" in files_beside(path)

        machine("first")

        assert slices_of(path) == [B.slice_id]
        with Ledger.open(path) as ledger:
            assert ledger.run().seconds == 0


def test_fault_88_of_two_machines_that_change_a_ledger_the_first_wins(machine, tmp_path):
    path = run_at(tmp_path / "first")
    machine("first").put(KEEP)
    second = machine("second")
    second.update(missing=True)
    first = machine("first")
    forget_a(tmp_path / "second" / "runs" / path.name)
    with Ledger.open(path) as ledger:
        ledger.add_time(7)

    assert second.put(KEEP) == []
    assert first.put(KEEP) == [path.name]

    assert slices_of(path) == [A.slice_id, B.slice_id]
    machine("first")
    assert slices_of(path) == [B.slice_id]
    assert machine("first").put(KEEP) == []


def test_a_run_that_is_forgotten_goes_everywhere_and_does_not_come_back(machine, tmp_path):
    path, kept = run_at(tmp_path / "first"), run_at(tmp_path / "first")
    machine("first").put(KEEP)
    second = machine("second")
    second.update(missing=True)
    with Ledger.open(path) as ledger:
        ledger.add_time(7)  # and the first machine would copy that now
    first = machine("first")

    second.bury(tmp_path / "second" / "runs" / path.name)

    assert first.put(KEEP) == [path.name]
    assert second.store.versions()[path.name].size_bytes == 0
    for name in ("first", "second", "third"):
        copies = machine(name)
        copies.update(missing=True)
        copies.put(KEEP)
        assert ledger_paths(tmp_path / name) == [tmp_path / name / "runs" / kept.name]
        assert files_beside(kept) == ["kept", "sqlite"]
    assert second.store.versions()[path.name].size_bytes == 0


def test_a_run_is_not_buried_over_what_another_machine_has_put_meanwhile(machine, tmp_path):
    path = run_at(tmp_path / "first")
    machine("first").put(KEEP)
    second = machine("second")
    second.update(missing=True)
    first = machine("first")
    with Ledger.open(tmp_path / "second" / "runs" / path.name) as ledger:
        ledger.add_time(7)
    second.put(KEEP)

    with pytest.raises(StorageError, match=rf"copies/{path.name}.*another machine has changed this copy.*run again"):
        first.bury(path)

    assert path.exists()
    machine("first").bury(path)
    assert not path.exists()


def test_old_copies_go_some_at_a_time_and_the_newest_stays(machine, tmp_path):
    """A clock that is wrong makes every copy old. And what is gone is not put there again."""
    paths = [run_at(tmp_path / "first", OLD.format(number)) for number in range(AT_ONCE + 3)]
    machine("first").put(dt.timedelta.max)
    copies = machine("first")
    copies.bury(paths.pop(0))
    copies.remove_old(KEEP)
    left = sorted(name for name in copies.store.versions() if name.endswith(".sqlite"))
    assert left == [path.name for path in paths[AT_ONCE - 1 :]], "the empty one goes too"

    copies = machine("first")
    copies.remove_old(KEEP)
    copies.remove_old(KEEP)
    copies.put(KEEP)

    assert [name for name in copies.store.versions() if name.endswith(".sqlite")] == [paths[-1].name]
    assert len(ledger_paths(tmp_path / "first")) == len(paths), "ledgers are deleted by `remove_old_ledgers`"


def test_ledgers_are_copied_again_if_their_copies_are_lost_or_elsewhere(machine, tmp_path):
    path = run_at(tmp_path / "first")
    machine("first").put(KEEP)
    copies = machine("first")
    copies.store.remove(copies.store.at(path.name))

    machine("first").put(KEEP)

    assert path.name in copies.store.versions()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no ledger", "file is not a database"),
        (None, f"has format {FORMAT + 1}"),
        ("open", "is of run .*, state open"),
        ("another", "is of run another, state published"),
    ],
)
def test_a_copy_that_is_none_is_named_and_replaces_nothing(machine, tmp_path, content, says):
    path = run_at(tmp_path / "first")
    copies = machine("first")
    copies.put(KEEP)
    wrong = run_at(tmp_path / "wrong", "another" if content == "another" else path.stem)
    if content == "open":
        change_ledger(wrong, "update run set state = 'open'")
    elif content is None:
        change_ledger(wrong, f"pragma user_version = {FORMAT + 1}")
    elif content != "another":
        wrong.write_bytes(content)
    former = copies.store.versions()[path.name].tag
    copies.store.send(wrong, copies.store.at(path.name), former)
    before = path.read_bytes()

    for name in ("first", "second"):
        (failure,) = machine(name).update(missing=True)
        assert isinstance(failure, LedgerError)
        assert str(failure).startswith(copies.store.at(path.name))
        assert failure.args[0].endswith("if a newer nimble-etl wrote it, use that; otherwise remove it")
        with pytest.raises(LedgerError, match=says):
            raise failure
    copies = machine("first")
    assert copies.put(KEEP) == [path.name]
    assert path.read_bytes() == before
    assert ledger_paths(tmp_path / "second") == []

    copies.store.remove(copies.store.at(path.name))
    machine("first").put(KEEP)
    assert machine("second").update(missing=True) == []


def test_who_only_reads_has_every_ledger_as_its_copy_is(machine, tmp_path):
    changed, same, gone, new = (run_at(tmp_path / "first") for _ in range(4))
    copies = machine("first")
    copies.put(KEEP)
    copies.store.remove(copies.store.at(new.name))
    second = machine("second")
    second.update(missing=True)
    forget_a(tmp_path / "second" / "runs" / changed.name)
    second.put(KEEP)
    second.bury(tmp_path / "second" / "runs" / gone.name)
    run_at(tmp_path / "third")
    machine("third").put(KEEP)
    (tmp_path / "read").mkdir()

    found, failures = Copies(copies.store, tmp_path / "first").present(
        ledger_paths(tmp_path / "first"), tmp_path / "read"
    )

    (third,) = ledger_paths(tmp_path / "third")
    assert failures == []
    assert found == [tmp_path / "read" / changed.name, same, new, tmp_path / "read" / third.name]
    assert slices_of(found[0]) == [B.slice_id]
    assert slices_of(changed) == [A.slice_id, B.slice_id], "nothing changes here"


def test_runs_of_this_machine_come_last_for_who_compares_with_them(machine, tmp_path):
    """Another machine may have another botocore: its runs must not stop the nights of this one."""
    own, others = run_at(tmp_path / "first"), run_at(tmp_path / "second")
    machine("first").put(KEEP)
    machine("second").put(KEEP)
    for name in ("first", "second"):
        machine(name).update(missing=True)
    fetched = tmp_path / "first" / "runs" / others.name
    assert own_last(ledger_paths(tmp_path / "first")) == [fetched, own]
    for path in (own, fetched):
        with Ledger.open(path) as ledger:
            ledger.add_time(7)
    machine("first").put(KEEP)
    machine("second")
    assert own_last(ledger_paths(tmp_path / "first")) == [fetched, own], "also after they were copied again"
    assert own_last(ledger_paths(tmp_path / "second")) == [tmp_path / "second" / "runs" / own.name, others]


def test_what_a_killed_job_left_of_a_copy_is_removed(machine, tmp_path):
    """It holds pages, which may be forgotten meanwhile."""
    path = run_at(tmp_path / "first")
    for suffix in ("", "-wal", "-shm"):
        (path.parent / f"copy.new{suffix}").write_bytes(path.read_bytes())
    copies = machine("first")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    copies.put(KEEP)
    assert files_beside(path) == ["kept", "sqlite"]


def test_a_ledger_that_is_set_aside_leaves_no_mark(machine, tmp_path):
    path = run_at(tmp_path / "first")
    machine("first").put(KEEP)
    assert mark_path(path).exists()
    set_aside(path)
    assert files_beside(path) == ["damaged"]
    assert machine("first").update(missing=True) == []
    assert slices_of(path) == [A.slice_id, B.slice_id]
