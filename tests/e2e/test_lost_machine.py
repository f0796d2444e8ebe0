"""Machines that share a warehouse and copies of their ledgers: each can do for the others what needs ledgers.

The warehouse and the copies are on a disk that the machines share, or in a bucket.
"""

import datetime as dt
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from support.buckets import running
from support.job import AS_NOBODY, DATE, EXPORTED, NIGHT, RUN, finished, job_at
from support.stores import KINDS, THOROUGH, store_of

from etl.configfile import load_settings
from etl.errors import CommitConflictError, ConfigError
from etl.jobs.forget import forget
from etl.jobs.verify import verify
from etl.jobs.warehouse import copies_of
from etl.ledger.copies import Copies
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.load.delta.tables import Tables
from etl.pipeline.forget_plan import Selection

BEFORE = DATE - dt.timedelta(days=1)
NIGHT_BEFORE = ("run", "--snapshot-date", BEFORE.isoformat())
SINCE = ("--since", BEFORE.isoformat())


@pytest.fixture(params=KINDS if THOROUGH else ("moto",))
def machine(request, tmp_path, studio, monkeypatch):
    """Return a function that makes a machine with a state directory of its own."""

    def make(name, copies=None):
        job = job_at(tmp_path / name, studio, kind=request.param)
        job.place = tmp_path / "shared"
        place = copies or store_of(request.param, tmp_path / "copies").uri
        job.configure(f"run: {{keep_ledgers_at: '{place}'}}")
        if job.kind == "disk":
            job.configure(f"warehouse: {{path: {job.place}}}")
        (job.directory / "log").touch()
        return job.lend_credentials(monkeypatch)

    return make


def ledgers(job):
    return ledger_paths(job.directory / "state")


def copies(job):
    """Return the sizes of the copies, by the name of the ledger."""
    found = copies_of(job.settings()).store.versions()
    return {name: version.size_bytes for name, version in found.items() if name.endswith(".sqlite")}


def shown(job):
    return [job.rows(table) for table in EXPORTED]


def pages(job):
    """Return the text of all pages in the ledgers of a machine, and in the copies."""
    found, everywhere = [], copies_of(job.settings())
    for name, size in copies(job).items():
        if size:
            everywhere.store.receive(everywhere.store.at(name), job.directory / name)
    for path in [*ledgers(job), *job.directory.glob("*.sqlite")]:
        with Ledger.open(path) as ledger:
            found += [page.body.decode() for facts in ledger.slices() for page in ledger.pages(facts.slice)]
    for path in job.directory.glob("*.sqlite"):
        path.unlink()
    return "\n".join(found)


def lose_data_file(job):
    name, *_ = Tables(job.store).files("streaming_sessions", DATE)
    job.store.remove(name)


def test_fault_88_another_machine_verifies_and_repairs_what_a_lost_one_has_published(machine):
    lost, other = machine("lost"), machine("other")
    assert lost.finish(*RUN) == 0, lost.log
    published = shown(lost)
    shutil.rmtree(lost.directory / "state")

    assert [finding.rows for finding in verify(other.settings()) if not finding.problem and finding.rows]
    assert other.problems() == []
    assert ledgers(other) == [], "who only reads leaves nothing behind"
    lose_data_file(other)
    assert other.finish("replay", "--since", DATE.isoformat()) == 0, other.log

    assert shown(other) == published
    assert other.problems() == []
    assert len(ledgers(other)) == 1
    assert other.finish("run", "--unless-published", "--snapshot-date", DATE.isoformat()) == 0, other.log
    assert "nothing to do" in other.log
    assert copies(other).keys() == {path.name for path in ledgers(other)}


def test_fault_88_without_copies_nobody_can(machine, tmp_path):
    lost, other = machine("lost"), machine("other", copies=tmp_path / "elsewhere")
    assert lost.finish(*RUN) == 0, lost.log
    lose_data_file(other)
    assert other.finish("replay", "--since", DATE.isoformat()) != 0


def test_what_one_machine_forgets_no_other_brings_back(machine, studio):
    first, second = machine("first"), machine("second")
    for night, instant in ((NIGHT_BEFORE, NIGHT - dt.timedelta(days=1)), (RUN, NIGHT)):
        studio.set_instant(instant)
        assert first.finish(*night) == 0, first.log
    ((owner,),) = first.ask("select min(owned_by) from streaming_sessions")
    people = [f"{column}_by={owner}" for column in ("owned", "created", "started", "stopped", "updated")]
    assert owner in pages(first)
    assert first.finish("replay", *SINCE) == 0, first.log

    assert second.finish("forget", *(f"--where={person}" for person in people), "--yes") == 0, second.log
    left = shown(second)
    assert first.finish("catalog") == 0, first.log
    assert owner not in pages(first)
    assert first.finish("replay", *SINCE) == 0, first.log
    assert shown(first) == left
    assert first.problems() == second.problems() == []

    assert second.finish("forget", "--until", BEFORE.isoformat(), "--yes") == 0, second.log
    left = shown(second)
    assert sorted(size > 0 for size in copies(first).values()) == [False, True]
    assert first.finish("replay", *SINCE) == 0, first.log
    assert len(ledgers(first)) == len(ledgers(second)) == 1
    assert shown(first) == left
    assert first.problems() == second.problems() == []


@pytest.mark.parametrize("step", ["run.closed", "copy.sent"])
def test_fault_88_kill_between_the_end_of_a_run_and_its_copy(machine, step):
    """The next job copies it, whatever it does."""
    first, second = machine("first"), machine("second")
    assert first.finish(*RUN, NIMBLE_ETL_FAILPOINT=step) == -signal.SIGKILL, first.log
    assert len(copies(first)) == (step == "copy.sent")

    assert first.finish("catalog") == 0, first.log

    assert copies(first).keys() == {path.name for path in ledgers(first)}
    assert second.problems() == first.problems() == []


STEPS_OF_FORGET = [
    ("ledger.rewritten", "person"), ("copy.sent", "person"), ("copy.buried", "date"), ("forget.noted", "person"),
    ("table.committed", "person"), ("catalog.swapped", "person"), ("ledger.rewritten", "date"),
]  # fmt: skip


@pytest.mark.parametrize(("step", "chosen"), STEPS_OF_FORGET if THOROUGH else STEPS_OF_FORGET[:3])
def test_fault_88_kill_while_a_machine_forgets(machine, studio, step, chosen):
    """The next job there goes on, in the copies too; then the other machine forgets as well."""
    first, second = machine("first"), machine("second")
    for night, instant in ((NIGHT_BEFORE, NIGHT - dt.timedelta(days=1)), (RUN, NIGHT)):
        studio.set_instant(instant)
        assert first.finish(*night) == 0, first.log
    ((owner,),) = first.ask("select min(owned_by) from streaming_sessions")
    people = [f"{column}_by={owner}" for column in ("owned", "created", "started", "stopped", "updated")]
    flags = [f"--where={one}" for one in people] if chosen == "person" else ["--until", BEFORE.isoformat()]

    assert second.finish("forget", *flags, "--yes", NIMBLE_ETL_FAILPOINT=step) == -signal.SIGKILL, second.log
    assert second.finish("catalog") == 0, second.log
    assert not (second.directory / "state" / "forget.json").exists()
    assert first.finish("replay", *SINCE) == 0, first.log

    if chosen == "person":
        assert owner not in pages(first) + pages(second)
        assert first.ask("select count(*) from streaming_sessions_history where owned_by = $o", o=owner) == [(0,)]
    else:
        assert len(ledgers(first)) == len(ledgers(second)) == 1
        assert first.ask("select distinct snapshot_date from streaming_sessions_history") == [(DATE,)]
    assert first.problems() == second.problems() == []


@pytest.mark.parametrize("machine", ["disk"], indirect=True)
def test_forget_is_not_over_while_another_machine_puts_back_what_it_removes(machine, monkeypatch):
    """The other one was about to copy a ledger that it had replayed before."""
    first, second = machine("first"), machine("second")
    assert first.finish(*RUN) == 0, first.log
    ((owner,),) = first.ask("select min(owned_by) from streaming_sessions")
    selection = Selection.parse(where=[f"owned_by={owner}"])
    (path,) = ledgers(first)
    others = copies_of(first.settings())
    others.update()
    with Ledger.open(path) as ledger:
        ledger.add_time(7)
    put = Copies.put

    def later(self, keep):
        assert put(others, keep) == []
        monkeypatch.setattr(Copies, "put", put)
        return put(self, keep)

    monkeypatch.setattr(Copies, "put", later)
    with pytest.raises(CommitConflictError, match=rf"copies/{path.name}: another machine has put this copy"):
        forget(second.settings(), selection, confirmed=True)
    assert f'"ownedBy":"{owner}"' in pages(second).replace(": ", ":")

    assert second.finish("catalog") == 0, second.log
    assert first.finish("catalog") == 0, first.log

    assert f'"ownedBy":"{owner}"' not in (pages(first) + pages(second)).replace(": ", ":")
    assert first.problems() == second.problems() == []


def test_retention_of_snapshots_knows_the_ledgers_of_others(machine):
    """`verify` compares both: a date whose ledger another machine has keeps its daily rows."""
    first, second = machine("first"), machine("second")
    for night in (NIGHT_BEFORE, RUN):
        assert first.finish(*night) == 0, first.log
    published = shown(first)
    environment = {"NIMBLE_ETL_WAREHOUSE__KEEP_SNAPSHOTS": "0s"}

    assert second.finish("vacuum", **environment) == 0, second.log

    assert shown(second) == published
    assert len(ledgers(second)) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_who_only_reads_needs_no_ledger_of_this_machine(machine, tmp_path):
    job = machine("job")
    assert job.finish(*RUN) == 0, job.log
    for path in [job.directory, *job.directory.parents]:
        with suppress(PermissionError):
            path.chmod(path.stat().st_mode | 0o055)
    if job.kind == "disk":
        (tmp_path / "copies").chmod(0o755)
    (job.directory / "log").chmod(0o666)
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    before = len(job.log)

    assert finished(job.start_program(AS_NOBODY, "verify", XDG_CACHE_HOME=str(home))) == 0, job.log

    said = job.log[before:]
    assert "streaming_sessions[studioId=" in said
    assert "Rows are not compared with the pages in those that have no copy at" in " ".join(said.split())


def test_copies_within_the_state_directory_are_refused(machine):
    job = machine("job", copies="state/copies")
    assert job.finish(*RUN) == 2
    assert "run.keep_ledgers_at" in job.log
    assert "is in state_dir" in job.log
    assert "Traceback" not in job.log
    with pytest.raises(ConfigError):
        copies_of(load_settings(job.config))


@pytest.mark.parametrize("machine", ["moto"], indirect=True)
def test_place_that_cannot_be_written_is_found_before_the_first_request(machine, studio):
    job = machine("job", copies="s3://no-such-bucket/ledgers")
    assert job.finish(*RUN) == 2, job.log
    assert "s3://no-such-bucket/ledgers" in job.log
    assert "make the bucket, or correct run.keep_ledgers_at" in job.log
    assert not [request for request in studio.requests if request.operation.startswith("List")]


@pytest.mark.on_disk
@pytest.mark.parametrize("machine", ["moto"], indirect=True)
def test_copy_that_could_not_be_put_is_named_and_put_by_the_next_job(machine):
    job = machine("job")
    server = running(job.kind)
    server.faults.append(lambda method, key, _: "400" if method == "PUT" and key.endswith(".sqlite") else None)

    assert job.finish(*RUN) == 3, job.log

    assert server.fired
    (path,) = ledgers(job)
    assert f"{path.name}: " in job.log
    assert "this copy of a ledger is missing or old, all else is done; the next job puts it there" in job.log
    assert "Traceback" not in job.log
    assert job.rows("streaming_sessions")
    server.faults.clear()
    assert job.finish("catalog") == 0, job.log
    assert copies(job).keys() == {path.name}


def test_copies_are_for_their_owner(machine):
    job = machine("job")
    assert job.finish(*RUN) == 0, job.log
    if directory := copies_of(job.settings()).store.local:
        assert Path(directory).stat().st_mode & 0o777 == 0o700
