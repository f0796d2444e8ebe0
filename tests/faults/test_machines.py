"""Several machines, several processes, and signals: newer versions, one warehouse for two, locks, polite endings."""

import datetime as dt
import os
import signal

import pytest
from support.damage import change_ledger
from support.job import DATE, EXPORTED, NIGHT, RUN, Job, finished, job_at
from support.machines import held_at, machines, wait_until_it_waits
from support.studios import LIST, fired, studio_of
from support.warehouse import publish_slices

from etl.cli.process import stopped_by_signals
from etl.emulator import World
from etl.errors import CommitConflictError
from etl.jobs.status import status
from etl.ledger.directory import ledger_paths
from etl.ledger.format import FORMAT
from etl.ledger.ledger import Ledger
from etl.load.delta.tables import Replacement, Tables
from etl.pipeline.write import _read_back
from etl.storage.disk import Disk

# Fault 40


def test_fault_40_a_ledger_of_a_newer_format_is_refused_with_both_versions_before_any_request(job, studio):
    job.run()
    before = job.exported_rows()
    (path,) = ledger_paths(job.directory / "state")
    change_ledger(path, f"pragma user_version = {FORMAT + 41}")
    asked = len(studio.requests)

    ended = job.cli(*RUN)

    assert ended.returncode == 1
    assert f"{path.name}: has format {FORMAT + 41}; this version reads up to {FORMAT}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(studio.requests) == asked
    assert job.exported_rows() == before
    (unfinished,) = status(job.settings(), 1).unfinished
    assert unfinished["state"] == "damaged"
    assert f"has format {FORMAT + 41}" in unfinished["error"]


def test_fault_40_a_warehouse_of_a_newer_version_is_refused_with_both_versions_and_readers_keep_theirs(job):
    job.run()
    before = job.exported_rows()
    entry = job.directory / "warehouse/streaming_sessions/_delta_log/00000000000000000000.json"
    ours = '"minReaderVersion":1,"minWriterVersion":2'
    assert ours in entry.read_text()
    entry.write_text(entry.read_text().replace(ours, '"minReaderVersion":99,"minWriterVersion":99'))

    ended = job.cli(*RUN)

    assert ended.returncode == 1
    assert "warehouse/streaming_sessions: " in ended.stderr
    assert "99" in ended.stderr
    assert "expected reader version 1, writer version 2" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert job.exported_rows() == before


# Fault 42: two machines, each with a state directory of its own, and one warehouse


@pytest.mark.parametrize("same", [False, True], ids=["different studios", "the same studios"])
def test_fault_42_two_machines_publish_into_one_warehouse_one_after_the_other(same, small_studio, expected, tmp_path):
    jobs = machines(tmp_path, small_studio, small_studio)
    arguments = [() if same else ("--studio-id", studio_id) for studio_id in small_studio.world.studio_ids]
    for _ in range(2):
        with held_at(jobs[0], "table.committed", *arguments[0]) as first:
            second = jobs[1].start(*RUN, *arguments[1])

        assert [finished(first), finished(second)] == [0, 0], [job.log for job in jobs]
        shared = Job(tmp_path, small_studio.endpoint_url, small_studio.credentials)
        assert shared.exported_rows() == expected
        runs = {path.stem for job in jobs for path in ledger_paths(job.directory / "state")}
        assert {run_id for (run_id,) in shared.ask("select run_id from etl_runs")} == runs


def test_fault_42_a_machine_waits_for_another_says_for_which_and_hears_a_signal(small_studio, tmp_path):
    first, second = machines(tmp_path, small_studio, small_studio)
    (second.directory / "log").touch()
    with held_at(first, "table.committed") as holder:
        waiting = second.start(*RUN)
        wait_until_it_waits(second, waiting)
        os.kill(waiting.pid, signal.SIGTERM)
        assert finished(waiting) == 3, second.log
        assert f"warehouse/.lock: another run holds the lock (process {holder.pid} on " in second.log

        assert second.finish(*RUN, NIMBLE_ETL_WAREHOUSE__LOCK_TIMEOUT="0s") == 4, second.log
        assert "Traceback" not in second.log
    assert finished(holder) == 0, first.log


def test_fault_42_a_publication_that_counts_does_not_come_back_over_a_later_one_of_another_machine(
    small_studio, tmp_path
):
    """Its ledger has not confirmed it: written once more, it would get the higher number."""
    fallen, other = machines(tmp_path, small_studio, small_studio)
    assert fallen.finish(*RUN, NIMBLE_ETL_FAILPOINT="tables.whole") == -signal.SIGKILL
    assert not (tmp_path / "warehouse" / ".unfinished.json").exists()
    assert other.finish(*RUN) == 0, other.log

    assert fallen.finish("compact") == 0, fallen.log

    shared = Job(tmp_path, small_studio.endpoint_url, small_studio.credentials)
    (path,) = ledger_paths(other.directory / "state")
    for table in EXPORTED:
        assert shared.ask(f"select distinct run_id from {table}") == [(path.stem,)], table
    assert fallen.problems() == other.problems() == []
    assert fallen.finish(*RUN) == 0, fallen.log


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_fault_65_a_machine_puts_back_what_a_dead_one_has_half_published_and_no_reader_sees_a_mixture(
    commits, small_studio, tmp_path
):
    """Killed after some of its commits; then the other machine lists the same studio, which has changed since."""
    with studio_of(small_studio.world, at=NIGHT + dt.timedelta(hours=18)) as changed_studio:
        fallen, stand_in = machines(tmp_path, small_studio, changed_studio)
        one = ("--dataset", "streaming_sessions", "--studio-id", small_studio.world.studio_ids[0])
        assert stand_in.finish(*RUN, *one) == 0, stand_in.log
        shared = Job(tmp_path, small_studio.endpoint_url, small_studio.credentials)
        before = [shared.rows(table) for table in EXPORTED[1:]]
        killed = fallen.start(*RUN, *one, NIMBLE_ETL_FAILPOINT=f"table.committed:{commits}")
        assert finished(killed) == -signal.SIGKILL
        assert (tmp_path / "warehouse" / ".unfinished.json").exists(), "the fault fired"

        assert stand_in.finish("compact") == 0, stand_in.log
        assert "put back" in stand_in.log
        assert [shared.rows(table) for table in EXPORTED[1:]] == before
        assert stand_in.problems() == []

        assert fallen.finish("compact") == 0, fallen.log
        (path,) = ledger_paths(fallen.directory / "state")
        for table in EXPORTED[1:]:
            assert shared.ask(f"select distinct run_id from {table}") == [(path.stem,)], table
        assert fallen.problems() == []
        assert stand_in.problems() == []
        assert fallen.finish(*RUN, *one) == 0, fallen.log


def test_fault_42_a_replay_leaves_what_another_machine_has_published_later(small_studio, tmp_path):
    first, second = machines(tmp_path, small_studio, small_studio)
    assert [job.finish(*RUN) for job in (first, second)] == [0, 0]
    (path,) = ledger_paths(second.directory / "state")

    assert first.finish("replay", "--since", DATE.isoformat()) == 0, first.log

    shared = Job(tmp_path, small_studio.endpoint_url, small_studio.credentials)
    for table in EXPORTED:
        assert shared.ask(f"select distinct run_id from {table}") == [(path.stem,)], table
    assert first.problems() == second.problems() == []


def test_fault_42_rows_of_another_run_that_are_read_back_are_named(tmp_path):
    """A file system may only seem to have locks."""
    tables = Tables(Disk(tmp_path))
    publish_slices(tables, ["a"], run="run-2")

    with pytest.raises(CommitConflictError, match=r"rows of run run-2 were read back.*does the file system have locks"):
        _read_back(tables, Replacement(DATE, "slice_id", ("a",)), {"etl_slices": {"a": 1}}, {"run-1"})


# Faults 41 and 43: the lock


def test_fault_41_a_second_run_exits_4_at_once_and_the_first_goes_on(small_studio, expected, tmp_path):
    job = job_at(tmp_path, small_studio)
    with held_at(job, "page.stored") as first:
        asked = len(small_studio.requests)

        second = job.cli(*RUN)

        assert second.returncode == 4
        assert f"another run holds the lock (process {first.pid} on " in second.stderr
        assert second.stdout == ""
        assert len(small_studio.requests) == asked

    assert finished(first) == 0
    assert job.exported_rows() == expected
    assert len(ledger_paths(job.directory / "state")) == 1


@pytest.mark.parametrize("step", ["page.stored", "table.committed"])
def test_fault_43_the_lock_of_a_killed_run_is_free_at_once(step, small_studio, expected, tmp_path):
    job = job_at(tmp_path, small_studio)
    with held_at(job, step) as holder:
        assert job.finish(*RUN) == 4, "it is held"
        holder.kill()
        assert finished(holder) == -signal.SIGKILL

    assert job.finish(*RUN) == 0, job.log
    assert job.exported_rows() == expected


# Fault 44

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def interrupted_at(job, step, number):
    """Send a signal to a run that is at a step; return the exit code."""
    with held_at(job, step) as process:
        os.kill(process.pid, number)
    return finished(process)


@pytest.mark.parametrize("number", SIGNALS)
def test_fault_44_a_signal_while_publishing_ends_the_run_before_the_next_dataset(number, small_studio, tmp_path):
    job = job_at(tmp_path, small_studio)

    exit_code = interrupted_at(job, "table.staged", number)

    assert exit_code == 3, job.log
    assert f"{number.name}: finishing" in job.log
    assert "incomplete, run again to go on" in job.log
    tables = {path.name for path in (job.directory / "warehouse").iterdir()}
    assert "studios" in tables, "what had begun is finished"
    assert "streaming_sessions" not in tables


def test_fault_44_a_run_that_a_signal_ended_while_publishing_is_finished_without_a_page(
    small_studio, expected, tmp_path
):
    job = job_at(tmp_path, small_studio)
    assert interrupted_at(job, "table.staged", signal.SIGTERM) == 3
    asked = len(small_studio.requests)

    assert job.finish(*RUN) == 0, job.log

    assert not [request for request in small_studio.requests[asked:] if request.operation.startswith("List")]
    assert job.exported_rows() == expected


def test_fault_44_a_signal_after_the_last_page_does_not_say_published_of_what_is_not(small_studio, expected, tmp_path):
    job = job_at(tmp_path, small_studio, rest="run: {concurrency: 1}")

    exit_code = interrupted_at(job, "slice.walked:3", signal.SIGTERM)

    assert exit_code == 3, job.log
    assert not (job.directory / "warehouse" / "warehouse.duckdb").exists()
    (unfinished, *_) = status(job.settings(), 1).unfinished
    assert unfinished["state"] == "complete"
    assert job.finish(*RUN) == 0
    assert job.exported_rows() == expected


def test_fault_44_a_signal_while_the_last_dataset_is_published_changes_nothing(small_studio, expected, tmp_path):
    """All that is left to do takes no longer than to stop."""
    job = job_at(tmp_path, small_studio)

    assert interrupted_at(job, "table.staged:2", signal.SIGTERM) == 0, job.log

    assert job.exported_rows() == expected


PATIENT = """
import support.job
import tenacity

tenacity.wait_random_exponential = lambda *_, **__: tenacity.wait_fixed(3600)
support.job._child(arguments, environment, log)
"""
"""A job that would pause for an hour before it asks for a page again."""


@pytest.mark.parametrize("number", SIGNALS)
def test_fault_44_a_signal_in_a_retry_pause_ends_it(number, tmp_path):
    faults = [f"html:{LIST},page=2,times=ever"]
    with studio_of(World(sessions_per_studio=40), faults=faults) as studio:
        job = job_at(tmp_path, studio)
        (job.directory / "log").touch()
        process = job.start_program(PATIENT, *RUN, NIMBLE_ETL_SOURCE__RETRY__TIMEOUT="10h")
        while job.log.count("trying again") < 2:
            process.join(timeout=0.02)
            assert process.is_alive()

        os.kill(process.pid, number)
        process.join(timeout=120)

        assert process.exitcode == 3, job.log
        assert fired(studio) == {"html"}
        with Ledger.open(*ledger_paths(job.directory / "state")) as ledger:
            assert [facts.pages for facts in ledger.slices()] == [1, 1, 1]


def test_fault_44_a_signal_after_the_deadline_counts_as_one():
    """What is complete is published after a deadline; who shuts the machine down does not wait for that."""
    with stopped_by_signals() as stop:
        stop.by_deadline = True
        stop.set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set()
        assert not stop.by_deadline
