"""Backups are made and restored with the commands of docs/operation.md, warehouses moved, former versions put back."""

import datetime as dt
import re
import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest
from support.documents import PAGES
from support.job import DATE, RUN, job_at

from etl.ledger.directory import ledger_paths

pytestmark = [
    pytest.mark.on_disk,
    pytest.mark.skipif(not shutil.which("flock"), reason="the documents lock with flock, which is not installed"),
]
NEXT = DATE + dt.timedelta(days=1)
NEXT_RUN = ("run", "--snapshot-date", NEXT.isoformat())
BACKUP = "flock state/lock tar"


def steps(section):
    """Return the commands that a section of docs/operation.md shows, one a line."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## )", PAGES["docs/operation.md"], re.MULTILINE | re.DOTALL)
    return re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)


def shell(job, command):
    return subprocess.run(shlex.split(command), cwd=job.directory, capture_output=True, text=True, check=False)


def backed_up(job):
    (command,) = (step for step in steps("Backup and restore") if step.startswith(BACKUP))
    made = shell(job, command)
    assert made.returncode == 0, made.stderr


def restore(job):
    """Do what the page says, to the end; return how each command of nimble-etl ended."""
    ended = []
    for step in steps("Backup and restore"):
        if step.startswith("nimble-etl "):
            ended.append((step, job.finish(*shlex.split(step)[1:])))
        elif not step.startswith(BACKUP):
            assert shell(job, step).returncode == 0, step
    return ended


@pytest.fixture
def job(tmp_path, studio):
    job = job_at(tmp_path, studio)
    assert job.finish(*RUN) == 0, job.log
    return job


def test_everything_is_lost_and_comes_back_and_nights_go_on(job):
    before = job.exported_rows()
    backed_up(job)
    for lost in ("warehouse", "state"):
        shutil.rmtree(job.directory / lost)
    job.config.unlink()

    assert restore(job) == [("nimble-etl catalog", 0), ("nimble-etl verify", 0)], job.log
    assert job.exported_rows() == before
    assert job.finish(*NEXT_RUN) == 0, job.log
    assert job.problems() == []


def test_a_backup_waits_for_no_night_and_a_night_for_no_backup(job):
    """While the lock is held, a night ends at once, and its scheduler tries again."""
    (command,) = (step for step in steps("Backup and restore") if step.startswith(BACKUP))
    held = subprocess.Popen(
        [*shlex.split(command)[:2], "sh", "-c", "echo held; read end"], cwd=job.directory, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert held.stdout.readline() == "held\n"
    assert job.finish(*NEXT_RUN) == 4, job.log
    held.communicate("end\n")
    assert job.finish(*NEXT_RUN) == 0, job.log


def test_an_older_warehouse_is_brought_up_to_date_from_newer_ledgers(job):
    backed_up(job)
    assert job.finish(*NEXT_RUN) == 0, job.log
    after = job.exported_rows()
    shutil.rmtree(job.directory / "warehouse")
    assert shell(job, "tar --extract --gzip --file backup.tar.gz warehouse").returncode == 0

    assert job.finish("catalog") == 5
    assert f"nimble-etl replay --since {NEXT}" in job.log
    assert job.finish("replay", "--since", str(NEXT)) == 0, job.log
    assert job.exported_rows() == after
    assert job.problems() == []


def test_a_lost_warehouse_without_a_copy_is_made_anew_from_ledgers(job):
    assert job.finish(*NEXT_RUN) == 0, job.log
    before = job.exported_rows()
    shutil.rmtree(job.directory / "warehouse")
    assert job.finish("replay", "--since", str(DATE)) == 0, job.log
    assert job.exported_rows() == before
    assert job.problems() == []


def test_a_lost_state_directory_costs_proof_only(job):
    before = job.exported_rows()
    shutil.rmtree(job.directory / "state")
    assert job.finish(*NEXT_RUN) == 0, job.log
    assert [rows[: len(former)] == former for rows, former in zip(job.exported_rows(), before, strict=True)]
    assert job.ask("select count(distinct snapshot_date) from streaming_sessions_history") == [(2,)]
    assert job.problems() == []


def test_a_moved_warehouse_is_refused_until_its_catalog_is_built(job):
    (command,) = steps("Moving a warehouse")
    before = job.exported_rows()
    (job.directory / "warehouse").rename(job.directory / "elsewhere")
    job.configure("warehouse: {path: elsewhere}")

    refused = job.cli("sql", "from streaming_sessions")
    assert refused.returncode != 0
    assert "was the warehouse moved? `nimble-etl catalog` builds it anew" in refused.stderr
    assert job.finish(*shlex.split(command)[1:]) == 0, job.log
    (job.directory / "warehouse").symlink_to("elsewhere")  # where this test looks
    assert job.exported_rows() == before
    assert job.finish(*NEXT_RUN) == 0, job.log
    assert job.problems() == []


def test_a_former_version_goes_on_with_its_copy_of_the_ledgers(job):
    """The newer version stands for itself: it has left a ledger of the next format."""
    copy, *looks = steps("Upgrade and going back")
    assert shell(job, copy).returncode == 0
    assert [look.split()[1] for look in looks] == ["config", "doctor"]
    assert job.finish(*NEXT_RUN) == 0, job.log
    newest = ledger_paths(job.directory / "state")[-1]
    with closing(sqlite3.connect(newest)) as ledger:
        ((version,),) = ledger.execute("pragma user_version").fetchall()
        ledger.execute(f"pragma user_version={version + 1}")

    following = ("run", "--snapshot-date", str(NEXT + dt.timedelta(days=1)))
    assert job.finish(*following) == 1
    assert f"has format {version + 1}; this version reads up to {version}" in job.log
    shutil.rmtree(job.directory / "state")
    (job.directory / "state.before").rename(job.directory / "state")
    assert job.finish(*following) == 0, job.log
    assert job.ask("select count(distinct snapshot_date) from streaming_sessions_history") == [(3,)]
    assert job.problems() == []
