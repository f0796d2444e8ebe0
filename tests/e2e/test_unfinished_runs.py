"""What an earlier run left behind keeps no later night back, and is not thrown away while it may be resumed."""

import datetime as dt
from pathlib import Path

import pytest
from support.job import DATE

from etl.errors import WarehouseError
from etl.ledger import Ledger, ledger_paths, remove_ledger, set_aside
from etl.load.tables import Tables
from etl.replay import Selection, replay
from etl.state import remove_old_ledgers

SECOND, NEXT = (DATE + dt.timedelta(days=day) for day in (1, 2))


@pytest.fixture
def lost(job):
    """A data file of the first night that no ledger can write anew; the third night cannot make a catalog of it."""
    job.run()
    job.run(SECOND)
    remove_ledger(ledger_paths(job.directory / "state")[0])
    file, *_ = Tables(job.directory / "warehouse").read("streaming_sessions").files[DATE]
    whole = Path(file).rename(f"{file}.aside")
    with pytest.raises(WarehouseError, match="no file"):
        job.run(NEXT)
    return whole


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
    Path(lost).rename(str(lost).removesuffix(".aside"))
    assert [outcome.exit_code for outcome in job.run(None)] == [0, 0]
    assert {state for state, _ in states(job).values()} == {"published"}


def test_its_failure_is_told_beside_what_was_published(job, lost, monkeypatch):
    """Here the older run fails by itself, and tonight's does not."""
    Path(lost).rename(str(lost).removesuffix(".aside"))
    failing = WarehouseError("a table of that night")
    calls = iter([failing, None])

    def refreshed(*_):
        if error := next(calls):
            raise error
        return ()

    monkeypatch.setattr("etl.pipeline.refresh_catalog", refreshed)
    older, tonight = job.run(None)

    assert older.run.snapshot_date == NEXT < tonight.run.snapshot_date
    assert (older.exit_code, older.failure, older.report()["error"]) == (1, failing, "a table of that night")
    assert (tonight.exit_code, tonight.report()["error"]) == (0, None)


@pytest.mark.usefixtures("lost")
def test_the_command_line_says_which_run_failed(job):
    done = job.cli("run")

    assert done.returncode == 1
    assert f"snapshot date {NEXT}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_ledger_that_may_be_resumed_is_kept_however_short_ledgers_are(job):
    job.config.write_text(f"{job.config.read_text()}run: {{keep_ledgers: 0s}}\n")
    (outcome,) = job.run(overrides={"max_items": 20})
    assert outcome.exit_code == 3

    (resumed,) = job.run()

    assert resumed.run.run_id == outcome.run.run_id
    assert resumed.exit_code == 0
    assert ledger_paths(job.directory / "state") == [], "nothing is left to be resumed"


def test_ledgers_that_were_set_aside_are_deleted_in_time_too(job):
    """They hold pages as they arrived."""
    job.run()
    (path,) = ledger_paths(job.directory / "state")
    set_aside(path)
    old = path.with_name(f"20200101T000000Z-{path.name.partition('-')[2]}").with_suffix(".damaged")
    path.with_suffix(".damaged").rename(old)

    remove_old_ledgers(job.settings())

    assert list(old.parent.iterdir()) == []


def test_replay_passes_over_a_date_on_which_nothing_was_listed(job):
    """As when the credentials failed before the first slice was known."""
    job.run()
    Ledger.create(job.directory / "state" / "runs" / "20261122T020000Z-abcdef.sqlite", "x", NEXT, "other").close()

    outcomes = replay(job.settings(), Selection(since=DATE))

    assert {outcome.run.snapshot_date for outcome in outcomes} == {DATE, NEXT}
