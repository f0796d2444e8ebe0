"""Directories of a process go with it, and those of one that was killed with the next."""

import fcntl
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from support.programs import start_code

from etl.storage import scratch
from etl.storage.scratch import Scratch, draft_in

HOLDS_ONE = """
    import sys
    from etl.storage.scratch import Scratch

    held = Scratch()
    (held.path / "file").write_text("of a process that lives")
    print(held.path, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Where directories are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begin_a_process()
    return tmp_path


def begin_a_process():
    """Forget that this process has looked for what others have left."""
    scratch._remove_abandoned.cache_clear()


def test_a_process_looks_once_for_what_others_have_left(place):
    """A worker makes a directory for each segment."""
    own = Scratch()
    (place / "nimble-etl.abandoned").mkdir()
    with Scratch():
        pass
    assert sorted(place.iterdir()) == sorted([own.path, place / "nimble-etl.abandoned"])


def test_it_goes_with_its_object_or_sooner(place):
    first, second = Scratch(), Scratch()
    (first.path / "directory").mkdir()
    del first
    assert [*place.iterdir()] == [second.path]
    with second as path:
        (path / "file").touch()
    assert [*place.iterdir()] == []


def test_that_of_a_killed_process_goes_with_the_next_and_that_of_a_living_one_stays(place):
    one = start_code(HOLDS_ONE, environment={"TMPDIR": str(place)}, stdin=subprocess.PIPE)
    with one:
        left = Path(one.stdout.readline().strip())
        own = Scratch()
        assert (left / "file").read_text() == "of a process that lives"
        one.send_signal(signal.SIGKILL)
        one.wait()
        assert left.exists()
        begin_a_process()
        another = Scratch()
        assert sorted(place.iterdir()) == sorted([own.path, another.path])


def test_what_only_looks_like_one_stays(place):
    """A file, a link, and a directory of another program."""
    (place / "nimble-etl.file").touch()
    (place / "elsewhere").mkdir()
    (place / "nimble-etl.link").symlink_to(place / "elsewhere")
    (place / "nimble-etl-of-a-former-version").mkdir()
    before = {*place.iterdir()}
    own = Scratch()
    assert {*place.iterdir()} == {own.path, *before}


def test_one_that_another_process_takes_for_abandoned_before_it_is_held_is_made_again(place, monkeypatch):
    taken = []

    def flock(descriptor, operation):
        if operation == fcntl.LOCK_EX and not taken:
            taken.extend(place.iterdir())
            begin_a_process()
            scratch._remove_abandoned(place)
        real(descriptor, operation)

    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    own = Scratch()
    assert taken
    assert own.path.is_dir()
    assert [*place.iterdir()] == [own.path]


def test_where_there_are_no_locks_nothing_is_taken_for_abandoned(place, monkeypatch):

    def flock(_descriptor, _operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    first = Scratch()
    begin_a_process()
    second = Scratch()
    assert sorted(place.iterdir()) == sorted([first.path, second.path])


def test_directories_of_other_users_stay(place, monkeypatch):
    path = place / "nimble-etl.abandoned"
    path.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    own = Scratch()
    assert sorted(place.iterdir()) == sorted([path, own.path])


def test_a_draft_without_a_name_of_its_own_is_removed(place):
    with pytest.raises(OSError, match="no room"), draft_in(place):
        raise OSError("no room")
    with draft_in(place) as draft:
        Path(draft.name).replace(place / "kept")
    assert [*place.iterdir()] == [place / "kept"]
