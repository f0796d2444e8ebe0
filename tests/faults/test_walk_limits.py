"""Where a walk may end and where it may go on: checkpoints that are too old, tokens without end, changed requests."""

import datetime as dt
import json
import logging
import shutil
import signal
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.job import DATE, NIGHT, RUN, job_at
from support.studios import LIST, SESSIONS, asked_for_sessions, fired, first, listed_sessions, studio_of

import etl.extract
from etl.emulator import World
from etl.emulator.world import Listing
from etl.jobs.status import status
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.pipeline.walks import Stop

MODELS = Path(etl.extract.__file__).parent / "service_models"
WORLD = World(studios=1, sessions_per_studio=60)


@pytest.fixture
def studio():
    """Two studios with three pages of sessions each."""
    with studio_of(World(sessions_per_studio=60)) as studio:
        yield studio


@pytest.fixture
def job(tmp_path, studio, monkeypatch):
    return job_of(studio, tmp_path, monkeypatch)


def job_of(studio, directory, monkeypatch, **configuration):
    """Return a job of nothing but sessions, whose credentials are in the environment of this process."""
    configuration["rest"] = f"datasets: [streaming_sessions]\n{configuration.get('rest', '')}"
    return job_at(directory / "job", studio, **configuration).lend_credentials(monkeypatch)


def age(job, hours):
    """Make the only run and its pages older, as if the job had stopped that long ago."""
    (path,) = ledger_paths(job.directory / "state")
    with sqlite3.connect(path) as connection:
        for slice_id, number, received_at in connection.execute("select slice_id, number, received_at from page"):
            older = dt.datetime.fromisoformat(received_at) - dt.timedelta(hours=hours)
            connection.execute(
                "update page set received_at = ? where slice_id = ? and number = ?",
                (older.isoformat(), slice_id, number),
            )
        ((started_at,),) = connection.execute("select started_at from run")
        older = dt.datetime.fromisoformat(started_at) - dt.timedelta(hours=hours)
        connection.execute("update run set started_at = ?", (older.isoformat(),))
    connection.close()


def stopped_run(job):
    """Return a run that a signal stopped in the first studio, one page of sessions stored."""
    stop = Stop()

    def signal_comes(part, _page):
        if part.dataset == "streaming_sessions":
            stop.set()

    (outcome,) = job.run(stop=stop, on_page=signal_comes, overrides={"max_items": 20})
    assert outcome.exit_code == 3
    return outcome.run


def listed(studio, **filters):
    """Return the ids of all sessions that the studios list now."""
    return sorted(record["sessionId"] for record in listed_sessions(studio.world, **filters))


def exported(job):
    return [row for (row,) in job.ask("select session_id from streaming_sessions_history order by all")]


def test_fault_10_a_checkpoint_that_is_too_old_is_left_and_the_log_says_why(job, studio, caplog):
    stopped = stopped_run(job)
    age(job, hours=13)
    asked = len(studio.requests)

    with caplog.at_level(logging.WARNING):
        (outcome,) = job.run()

    assert outcome.exit_code == 0
    assert outcome.run.run_id != stopped.run_id
    assert asked_for_sessions(studio, asked).count(None) == 2, "each studio from its first page on"
    (reason,) = [record.getMessage() for record in caplog.records if "is abandoned" in record.getMessage()]
    assert stopped.run_id in reason
    assert "its checkpoint is 13:00:" in reason
    assert "run.max_checkpoint_age is 12:00:00" in reason
    assert exported(job) == listed(studio)


def test_fault_10_a_checkpoint_that_is_young_enough_is_continued(job, studio):
    stopped = stopped_run(job)
    age(job, hours=11)
    asked = len(studio.requests)

    (outcome,) = job.run()

    assert outcome.run.run_id == stopped.run_id
    assert None not in asked_for_sessions(studio, asked)
    assert exported(job) == listed(studio)


def test_fault_10_a_walk_that_has_seen_everything_never_grows_too_old_to_be_published(job, studio):
    exit_code = job.finish(*RUN, NIMBLE_ETL_FAILPOINT="publication.planned")
    age(job, hours=48)
    asked = len(studio.requests)

    (outcome,) = job.run()

    assert exit_code == -signal.SIGKILL
    assert outcome.exit_code == 0
    assert asked_for_sessions(studio, asked) == []
    assert exported(job) == listed(studio)


def test_fault_10_a_run_that_has_seen_nothing_but_the_studios_grows_too_old(job):
    """All its slices are complete; those of the sessions are not planned yet."""
    exit_code = job.finish(*RUN, NIMBLE_ETL_FAILPOINT="slice.walked")
    age(job, hours=13)

    (outcome,) = job.run()

    assert exit_code == -signal.SIGKILL
    assert len(ledger_paths(job.directory / "state")) == 2
    assert outcome.exit_code == 0
    assert outcome.run.invocations == 1


def test_fault_13_tokens_without_end_reach_the_page_cap_and_readers_keep_what_they_had(
    tmp_path, job, studio, monkeypatch
):  # fmt: skip
    job.run()
    before = job.rows("streaming_sessions")
    limited = job_of(studio, tmp_path, monkeypatch, rest="run: {max_pages: 9}")
    studio.set_faults([f"endless-tokens:{LIST},studio={first(studio)}"])

    (outcome,) = limited.run()

    assert fired(studio) == {"endless-tokens"}
    assert outcome.exit_code == 5
    (failed,) = [facts for facts in outcome.slices if facts.error]
    assert failed.slice.parents["studioId"] == first(studio)
    assert failed.pages == 9
    assert "9 pages and still a token" in failed.error
    assert "run.max_pages" in failed.error
    assert failed.publication is None
    assert job.rows("streaming_sessions") == before


def test_fault_13_tokens_without_end_are_stopped_by_the_deadline_and_readers_keep_what_they_had(job, studio):
    job.run()
    before = job.rows("streaming_sessions")
    studio.set_faults([f"endless-tokens:{LIST},studio={first(studio)}"])

    deadline = Stop()

    def reach_deadline(part, page):
        if part.parents.get("studioId") == first(studio) and page.number == 30:
            deadline.by_deadline = True
            deadline.set()

    (outcome,) = job.run(stop=deadline, on_page=reach_deadline)

    assert fired(studio) == {"endless-tokens"}
    assert outcome.exit_code == 3
    (endless,) = [facts for facts in outcome.slices if facts.slice.parents.get("studioId") == first(studio)]
    assert endless.pages == 30
    assert endless.starting_token
    assert endless.publication is None
    assert job.rows("streaming_sessions") == before


# What differs from the run that is to be resumed: each yields the studio that is then asked, and its filters.


def edit(job, old, new):
    text = job.config.read_text()
    assert text.count(old) == 1
    job.config.write_text(text.replace(old, new))


@contextmanager
def another_filter(job, studio, _monkeypatch):
    owner = next(listed_sessions(studio.world))["ownedBy"]
    edit(job, "  retry:", f"  filters: {{owned_by: {owner}}}\n  retry:")
    with studio:
        yield studio, {"ownedBy": owner}


@contextmanager
def another_region(job, studio, _monkeypatch):
    """At the same address: only the Region differs."""
    edit(job, "  retry:", "  region: us-east-1\n  retry:")
    with succeeded_by(studio, World(studios=1, sessions_per_studio=60, region="us-east-1")) as other:
        yield other, {}


@contextmanager
def another_account(_job, studio, _monkeypatch):
    """At the same address, and with the same settings: STS says that the credentials are someone else's."""
    with succeeded_by(studio, World(studios=1, sessions_per_studio=60, account_id="210987654321")) as other:
        yield other, {}


@contextmanager
def another_endpoint(job, studio, _monkeypatch):
    with studio, studio_of(WORLD) as other:
        edit(job, studio.endpoint_url, other.endpoint_url)
        yield other, {}


@contextmanager
def another_model(job, studio, monkeypatch):
    """A newer service model, where botocore looks first."""
    shutil.copytree(MODELS, job.directory / "models")
    (path,) = job.directory.glob("models/nimble/*/service-2.json")
    model = json.loads(path.read_text())
    model["shapes"]["StreamingSession"]["members"]["gpuCount"] = {"shape": "Integer"}
    model["shapes"]["Integer"] = {"type": "integer", "box": True}
    path.write_text(json.dumps(model))
    monkeypatch.setenv("AWS_DATA_PATH", str(job.directory / "models"))
    with studio:
        yield studio, {}
    assert job.ask("select distinct gpu_count from streaming_sessions") == [(None,)]


@contextmanager
def succeeded_by(studio, world):
    """Yield a studio that answers at the address of another, which is no more."""
    port = int(studio.endpoint_url.rpartition(":")[2])
    studio.close()
    with studio_of(world, port=port) as successor:
        yield successor


@pytest.mark.parametrize("change", [another_filter, another_region, another_account, another_endpoint, another_model])
def test_fault_17_a_changed_request_is_a_new_run_and_never_a_mixture(change, tmp_path, monkeypatch):
    studio = studio_of(WORLD)
    job = job_of(studio, tmp_path, monkeypatch)
    stopped = stopped_run(job)
    (path,) = ledger_paths(job.directory / "state")
    pages = stored_pages(path)
    assert len(pages) == 2, "one of studios, one of sessions"

    with change(job, studio, monkeypatch) as (asked, filters):
        before = len(asked.requests) if asked is studio else 0
        (outcome,) = job.run()

        assert outcome.exit_code == 0
        assert outcome.run.run_id != stopped.run_id
        assert asked_for_sessions(asked, before)[0] is None, "from the first page on"
        assert exported(job) == listed(asked, **filters) != []
        assert job.ask("select distinct run_id from streaming_sessions_history") == [(outcome.run.run_id,)]
        assert stored_pages(path) == pages, "the old checkpoint stays as it was"


def stored_pages(path):
    with Ledger.open(path) as ledger:
        return [tuple(row) for row in ledger.page_facts()]


def test_fault_17_a_run_that_knows_only_the_studios_of_another_account_is_not_continued(tmp_path, monkeypatch):
    """Its slices are complete, and yet the sessions would be those of two accounts."""
    studio = studio_of(WORLD)
    job = job_of(studio, tmp_path, monkeypatch)
    exit_code = job.finish(*RUN, NIMBLE_ETL_FAILPOINT="slice.walked")

    with another_account(job, studio, monkeypatch) as (asked, _):
        (outcome,) = job.run()

        assert exit_code == -signal.SIGKILL
        assert outcome.exit_code == 0
        assert exported(job) == listed(asked) != []
        assert job.ask("select distinct account_id from streaming_sessions") == [(asked.world.account_id,)]


@dataclass(frozen=True)
class Slipping(World):
    """A studio whose first session is deleted right after the night: all others move up by one place."""

    def _listing(self, operation, parameters, at):
        listing = super()._listing(operation, parameters, NIGHT)
        if operation != SESSIONS or at == NIGHT:
            return listing
        return Listing(listing.size - 1, lambda place: listing.record(place + 1))


def test_fault_20_a_session_that_slips_between_pages_is_not_seen_and_the_window_of_observation_says_so(
    tmp_path, monkeypatch
):
    later = NIGHT + dt.timedelta(seconds=1)
    world = Slipping(studios=1, sessions_per_studio=60)
    with studio_of(world) as studio:
        job = job_of(studio, tmp_path, monkeypatch)
        changed_at = []

        def change_listing(part, page):
            if part.dataset == "streaming_sessions" and page.number == 1:
                studio.set_instant(later)
                changed_at.append(dt.datetime.now(dt.UTC))

        (outcome,) = job.run(on_page=change_listing)

        at_night, now = ([record["sessionId"] for record in listed_sessions(world, at)] for at in (NIGHT, later))
        slipped = set(at_night) & set(now) - set(exported(job))
        assert slipped == {at_night[20]}, "the first of page 2 moved to page 1, which had been read"
        assert outcome.exit_code == 0, "nobody can know"
        window = "select observed_from, observed_until from etl_slices where dataset = 'streaming_sessions'"
        assert job.ask(f"select observed_from < $at and $at < observed_until from ({window})", at=changed_at[0]) == [
            (True,)
        ]

        job.run()
        assert at_night[20] in exported(job), "the next run sees it"


def test_fault_22_the_others_are_published_and_status_says_since_when_the_failing_studio_is_old(tmp_path, monkeypatch):
    """The first night is 26 hours ago, the second now."""
    with studio_of(World(studios=5, sessions_per_studio=20)) as studio:
        job = job_of(studio, tmp_path, monkeypatch)
        job.finish(*RUN, NIMBLE_ETL_FAILPOINT="publication.planned")
        age(job, hours=26)
        job.run()
        lost = studio.world.studio_ids[2]
        rows_of_lost = f"studio_id = '{lost}'"
        before = job.rows("streaming_sessions", rows_of_lost)
        next_date = DATE + dt.timedelta(days=1)
        studio.set_instant(NIGHT + dt.timedelta(days=1))
        studio.set_faults([f"access-denied:{LIST},studio={lost},times=ever"])

        (outcome,) = job.run(next_date)

        assert fired(studio) == {"access-denied"}
        assert outcome.exit_code == 5
        (failed,) = [facts for facts in outcome.slices if facts.error]
        assert failed.error.startswith(f"streaming_sessions[studioId='{lost}'], page 1")
        dates = dict(job.ask("select distinct studio_id, snapshot_date from streaming_sessions"))
        assert dates == {name: DATE if name == lost else next_date for name in studio.world.studio_ids}
        assert job.rows("streaming_sessions", rows_of_lost) == before != []
        snapshots = [row for row in status(job.settings(), 1).snapshots if row["dataset"] == "streaming_sessions"]
        assert {row["slice"]: row["snapshot_date"] for row in snapshots} == dates
        assert [row["slice"] for row in snapshots if row["hours_old"] >= 26] == [lost]
