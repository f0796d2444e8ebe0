"""A file system that has no locks."""

import errno
import os

import pytest
from support.disk import Fault
from support.job import RUN, job_at


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
@pytest.mark.parametrize("lock", [(1, "state_dir"), (2, "warehouse.path")], ids=lambda lock: lock[1])
def test_fault_77_a_file_system_without_locks_is_named(lock, error, disk, small_studio, tmp_path):
    number, setting = lock
    asked = len(small_studio.requests)
    job = job_at(tmp_path, small_studio)

    ended = disk.run(job, *RUN, fault=Fault("lock", number, error, for_ever=True))

    assert [line.split()[0] for line in ended.failed] == ["flock"]
    assert ended.exit_code == 2, "to run again does not help"
    assert f"{os.strerror(error)};" in ended.output
    assert f"{setting} must be on a file system that has locks (flock)" in ended.output
    assert "Traceback" not in ended.output
    assert len(small_studio.requests) == asked
