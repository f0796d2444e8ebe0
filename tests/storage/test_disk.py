"""Files of ours are for their owner alone, and nothing follows a symbolic link to a file of somebody else."""

import errno
import os
import stat

import pytest
from support.job import RUN

from etl.errors import DeniedError
from etl.ledger.directory import lock
from etl.storage.disk import check_writable


@pytest.fixture
def open_umask():
    former = os.umask(0)
    yield
    os.umask(former)


@pytest.mark.usefixtures("open_umask")
def test_fault_62_ledgers_are_for_their_owner_alone_whatever_the_umask(job):
    """They hold pages as they arrived: what privacy rules hash or drop is in them."""
    job.run(overrides={"max_items": 20})
    state = job.directory / "state"
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (state / "runs").iterdir()}

    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert files
    assert set(files.values()) == {0o600}
    assert stat.S_IMODE((job.directory / "warehouse").stat().st_mode) == 0o777, "readers are let in as the umask says"


@pytest.mark.parametrize("name", ["state/lock", "state/runs/.probe", "warehouse/.probe"])
def test_fault_62_a_symbolic_link_in_the_place_of_a_file_of_ours_is_refused(job, name):
    """Whoever may write into the directory must not make the job empty a file of its user."""
    precious = job.directory / "precious"
    precious.write_text("kept")
    link = job.directory / name
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)

    ended = job.cli(*RUN)

    assert ended.returncode == DeniedError.exit_code
    assert f"{name.rpartition('/')[2]}" in ended.stderr or str(link.parent) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert precious.read_text() == "kept"


def test_the_probe_leaves_nothing(tmp_path):
    check_writable(tmp_path / "new", "state_dir")
    assert list((tmp_path / "new").iterdir()) == []


def test_fault_77_file_system_without_hard_links_is_refused_before_the_first_request(job, monkeypatch):
    """Deltalake commits by one: nothing could be published."""

    def none(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    with pytest.raises(
        DeniedError, match=r"warehouse: .*; warehouse.path must be on a file system that has hard links"
    ):
        job.run()
    assert [path.name for path in (job.directory / "warehouse").iterdir()] == []


def test_the_lock_says_who_holds_it(tmp_path):
    with lock(tmp_path / "state"):
        assert (tmp_path / "state" / "lock").read_text().startswith(f"process {os.getpid()} on ")
