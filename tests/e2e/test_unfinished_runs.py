"""What an earlier run left behind keeps no later night back, and is not thrown away while it may be resumed."""

import datetime as dt
import signal

import pytest
from support.job import DATE, RUN
from support.stores import overwrite
from support.studios import LIST

from etl.errors import ConfigError, WarehouseError
from etl.jobs.dumps import ImportRequest, import_dump
from etl.jobs.replay import Selection, replay
from etl.ledger.directory import ledger_paths, remove_ledger, remove_old_ledgers, set_aside
from etl.ledger.ledger import Ledger
from etl.load.delta.tables import Tables
from etl.outcome import Outcome

SECOND, NEXT = (DATE + dt.timedelta(days=day) for day in (1, 2))


@pytest.fixture
def lost(job):
    """A data file of the first night that no ledger can write anew; the third night cannot make a catalog of it.

    What this returns brings the file back.
    """
    job.run()
    job.run(SECOND)
    remove_ledger(ledger_paths(job.directory / "state")[0])
    file, *_ = Tables(job.store).read("streaming_sessions").files[DATE]
    content = job.store.read(file)
    overwrite(job.store, file, None)
    with pytest.raises(WarehouseError, match="no file"):
        job.run(NEXT)
    return lambda: overwrite(job.store, file, content)


def states(job):
    with_runs = {}
    for path in ledger_paths(job.directory / "state"):
        with Ledger.open(path) as ledger:
            slices = ledger.slices("streaming_sessions")
            with_runs[ledger.run().snapshot_date] = ledger.run().state, {facts.state.value for facts in slices}
    return with_runs


def test_a_run_that_cannot_be_published_does_not_keep_the_next_night_from_being_walked(job, lost, studio):
    """The listing of that night is there once: whoever does not ask for it then has lost it."""
    asked = len(studio.requests)

    with pytest.raises(WarehouseError, match="no file"):
        job.run(None)

    assert len(studio.requests) > asked
    assert states(job)[NEXT] == states(job)[max(states(job))] == ("open", {"complete"})
    assert max(states(job)) > NEXT
    lost()
    assert [outcome.exit_code for outcome in job.run(None)] == [0, 0]
    assert {state for state, _ in states(job).values()} == {"published"}


def test_its_failure_is_told_beside_what_was_published(job, lost, monkeypatch):
    """Here the older run fails by itself, and tonight's does not."""
    lost()
    failing = WarehouseError("a table of that night")
    calls = iter([failing, None])

    def refreshed(*_, **__):
        if error := next(calls):
            raise error
        return ()

    monkeypatch.setattr("etl.jobs.workplace.build_catalog", refreshed)
    older, tonight = job.run(None)

    assert older.run.snapshot_date == NEXT < tonight.run.snapshot_date
    assert (older.exit_code, older.failure, older.report()["error"]) == (5, failing, "a table of that night")
    assert (tonight.exit_code, tonight.report()["error"]) == (0, None)


@pytest.mark.usefixtures("lost")
def test_the_command_line_says_which_run_failed(job):
    done = job.cli("run")

    assert done.returncode == 1
    assert f"snapshot date {NEXT}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_ledger_that_may_be_resumed_is_kept_however_short_ledgers_are(job):
    job.configure("run: {keep_ledgers: 0s}")
    (outcome,) = job.run(overrides={"max_items": 20})
    assert outcome.exit_code == 3
    (other,) = job.run(overrides={"datasets": ["studios"]})

    (resumed,) = job.run()

    assert resumed.run.run_id == outcome.run.run_id
    assert resumed.exit_code == 0
    assert [path.stem for path in ledger_paths(job.directory / "state")] == [other.run.run_id], "the newest stays"
    job.run(DATE + dt.timedelta(days=1))
    assert len(ledger_paths(job.directory / "state")) == 1, "nothing is left to be resumed"


def test_ledgers_that_were_set_aside_are_deleted_in_time_too(job):
    """They hold pages as they arrived."""
    job.run()
    (path,) = ledger_paths(job.directory / "state")
    set_aside(path)
    old = path.with_name(f"20200101T000000Z-{path.name.partition('-')[2]}").with_suffix(".damaged")
    path.with_suffix(".damaged").rename(old)

    remove_old_ledgers(job.directory / "state", dt.timedelta(days=90), dt.timedelta(hours=12))

    assert list(old.parent.iterdir()) == []


def test_replay_passes_over_a_date_on_which_nothing_was_listed(job):
    """As when the credentials failed before the first slice was known."""
    job.run()
    Ledger.create(job.directory / "state" / "runs" / "20261122T020000Z-abcdef.sqlite", "x", NEXT, "other").close()

    outcomes = replay(job.settings(), Selection(since=DATE))

    assert [(outcome.run.snapshot_date, outcome.exit_code) for outcome in outcomes] == [(DATE, 0)]


@pytest.fixture
def owing(job):
    """A night that was published, but whose facts could not be written: the file of an earlier run's is torn."""
    job.run()
    studio_id = job.ask("select min(studio_id) from studios")[0][0]
    file, *_ = Tables(job.store).read("etl_runs").files[DATE]
    overwrite(job.store, file, job.store.read(file)[:-20])
    with pytest.raises(WarehouseError, match="etl_runs"):
        job.run(overrides={"studio_ids": [studio_id]})


@pytest.mark.usefixtures("owing")
def test_what_cannot_be_settled_does_not_keep_the_next_night_from_being_walked(job, studio):
    asked = len(studio.requests)

    with pytest.raises(WarehouseError, match="etl_runs"):
        job.run(None)

    assert len(studio.requests) > asked
    assert states(job)[max(states(job))] == ("open", {"complete"})


@pytest.mark.usefixtures("owing")
def test_replay_mends_what_cannot_be_settled(job):
    """It is what the message tells the operator to do."""
    replay(job.settings(), Selection(since=DATE))

    assert job.run(None)[-1].exit_code == 0
    assert job.problems() == []


def test_a_run_that_could_not_be_published_is_not_recorded_as_one_that_was(job, monkeypatch):
    """Its facts are written by the next invocation, which must not take silence for success."""
    with monkeypatch.context() as patch:
        patch.setattr("etl.pipeline.write._read_back", refuse)
        (failed,) = job.run()
        assert "not what was written" in str(failed.failure)
    (path,) = ledger_paths(job.directory / "state")
    with Ledger.open(path) as ledger:
        outcome = Outcome(ledger.run(), tuple(ledger.slices()), 0)
        assert outcome.exit_code == 1
        assert "not what was written" in outcome.report()["slices"][0]["error"]

    assert job.run()[0].exit_code == 0, "what is published then has no error any more"


def test_a_night_that_is_settled_in_part_is_not_recorded_as_ended(job):
    """It was killed before it began to publish its second dataset: only `run` publishes that."""
    assert job.finish(*RUN, NIMBLE_ETL_FAILPOINT="publication.planned") == -signal.SIGKILL
    assert job.finish("compact") == 0, job.log
    ended = "select exit_code, slices, slices_published from etl_runs"
    assert job.ask(ended) == [(3, 3, 1)]

    assert job.finish(*RUN) == 0, job.log

    assert job.ask(ended) == [(0, 3, 3)]


def refuse(*_):
    raise WarehouseError("not what was written")


def test_an_abandoned_run_does_not_ask_for_another_try_for_ever(job, studio):
    """Nobody goes on with it: `replay` of its date ends as what it has written."""
    studio.set_faults([f"reset:{LIST},times=ever"])
    assert job.run()[0].exit_code == 3
    studio.set_faults([])
    assert job.run(fresh=True)[0].exit_code == 0

    codes = {outcome.run.state: outcome.exit_code for outcome in replay(job.settings(), Selection(since=DATE))}

    assert codes["published"] == 0
    assert codes["abandoned"] == 5, "its studios were published, its sessions never were"


def test_a_dump_cannot_fill_a_table_that_has_the_name_of_another(job, tmp_path):
    (tmp_path / "dump").write_text('{"studios": []}')
    job.configure("datasets: [{name: snapshots, service: nimble, operation: list_studios, key: [studio_id]}]")
    request = ImportRequest(files=(tmp_path / "dump",), dataset="snapshots", snapshot_date=DATE)
    with pytest.raises(ConfigError, match="its table snapshots would have the name"):
        import_dump(job.settings(), request)
