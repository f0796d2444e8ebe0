"""A service that answers, but with too little: fault 23. Nothing is published over a fuller snapshot without a word."""

import datetime as dt
import json

import pytest
from support.dumps import save
from support.job import DATE, DATE_FLAG, NIGHT, job_at
from support.shapes import ACCOUNT
from support.studios import LIST, fired, studio_of

from etl.emulator import World
from etl.jobs.replay import Selection, replay


@pytest.fixture
def first_studio(job, studio):
    job.run()
    return studio.world.studio_ids[0]


def rows_per_studio(job):
    return dict(job.ask("select studio_id, count(*) from streaming_sessions group by all"))


def test_fault_23_no_record_at_all_is_held_back_and_the_others_are_published(job, studio, first_studio):
    before = rows_per_studio(job)
    studio.set_instant(NIGHT + dt.timedelta(days=1))
    studio.set_faults([f"empty-list:{LIST},studio={first_studio},times=ever"])

    (outcome,) = job.run(DATE + dt.timedelta(days=1))

    assert fired(studio) == {"empty-list"}
    assert outcome.exit_code == 5
    (held,) = [facts for facts in outcome.slices if facts.error]
    assert held.slice.parents["studioId"] == first_studio
    assert f"0 rows, its snapshot of {DATE} has {before[first_studio]}: a fall of 100%" in held.error
    assert rows_per_studio(job)[first_studio] == before[first_studio]
    newest = dict(job.ask("select studio_id, max(snapshot_date) from streaming_sessions group by all"))
    assert newest[first_studio] == DATE, "readers keep the last snapshot, and see its date"
    assert {date for name, date in newest.items() if name != first_studio} == {DATE + dt.timedelta(days=1)}


def test_fault_23_held_back_again_by_the_next_run_until_it_is_allowed(job, studio, first_studio):
    studio.set_faults([f"empty-list:{LIST},studio={first_studio},times=ever"])
    assert job.run()[0].exit_code == 5
    assert job.run()[0].exit_code == 5

    (outcome,) = job.run(allow_fall=True)

    assert outcome.exit_code == 0
    assert first_studio not in rows_per_studio(job)


def test_fault_23_what_was_held_back_is_published_by_a_replay_without_a_request(job, studio, first_studio):
    studio.set_faults([f"empty-list:{LIST},studio={first_studio},times=ever"])
    (outcome,) = job.run()
    asked = len(studio.requests)

    replayed = replay(job.settings(), Selection(run_id=outcome.run.run_id, allow_fall=True))

    assert len(studio.requests) == asked
    assert [o.exit_code for o in replayed] == [0, 0]
    assert first_studio not in rows_per_studio(job)
    assert job.problems() == []


def test_fault_23_a_replay_without_a_word_leaves_it_held_back(job, studio, first_studio):
    before = rows_per_studio(job)
    studio.set_faults([f"empty-list:{LIST},studio={first_studio},times=ever"])
    (outcome,) = job.run()

    replay(job.settings(), Selection(run_id=outcome.run.run_id))

    assert rows_per_studio(job) == before


@pytest.mark.parametrize(("live", "exit_code"), [(120, 0), (80, 0), (50, 5), (3, 5)])
def test_fault_23_the_threshold_is_a_share_of_the_last_snapshot(tmp_path, monkeypatch, live, exit_code):
    """The same world, of fewer sessions: about a third less passes; less than half does not."""
    outcomes = []
    for sessions in (120, live):
        with studio_of(World(studios=1, sessions_per_studio=sessions), page_size=50) as studio:
            outcomes += job_at(tmp_path, studio).lend_credentials(monkeypatch).run()
    assert [outcome.exit_code for outcome in outcomes] == [0, exit_code]


def test_fault_23_a_few_records_less_are_no_fall_however_small_the_studio(tmp_path, monkeypatch):
    for sessions in (15, 2):
        with studio_of(World(studios=1, sessions_per_studio=sessions)) as studio:
            (outcome,) = job_at(tmp_path, studio).lend_credentials(monkeypatch).run()
            assert outcome.exit_code == 0


def test_fault_23_records_that_would_all_be_rejected_are_a_fall_too(job, tmp_path):
    """The listing is as long as before, and readers would see nothing of it."""
    arn = f"arn:aws:nimble:us-west-2:{ACCOUNT}:streaming-session/"
    records = [{"sessionId": f"s{n}", "arn": f"{arn}s{n}"} for n in range(30)]
    good, bad = save(
        tmp_path,
        json.dumps({"sessions": records}),
        json.dumps({"sessions": [{**record, "createdAt": "soon"} for record in records]}),
    )
    assert job.cli("import", str(good), "--studio-id", "s", *DATE_FLAG).returncode == 0
    later = ("--snapshot-date", (DATE + dt.timedelta(days=1)).isoformat())

    done = job.cli("import", str(bad), "--studio-id", "s", *later)

    assert done.returncode == 1, done.stderr
    assert f"0 rows of 30 records, its snapshot of {DATE} has 30: a fall of 100%" in done.stderr
    assert job.ask("select count(*), max(snapshot_date) from streaming_sessions") == [(30, DATE)]
