"""botocore's models change: what is new gets a column, what would break readers waits for a word."""

import copy
import datetime as dt
import json
import re
import shutil

import pytest
from support.job import DATE

from etl.errors import ConfigError
from etl.extract.service_model import MODELS
from etl.jobs.replay import Selection, replay

NEXT = DATE + dt.timedelta(days=1)


@pytest.fixture
def change_model(tmp_path, monkeypatch):
    """A function that lets botocore find a changed model of Nimble before the one that comes with the job."""
    folder = tmp_path / "models" / "nimble" / "2020-08-01"
    shutil.copytree(str(MODELS / "nimble" / "2020-08-01"), folder)
    model = json.loads((folder / "service-2.json").read_text())

    def change(edit):
        changed = copy.deepcopy(model)
        edit(changed["shapes"]["StreamingSession"]["members"], changed["shapes"])
        (folder / "service-2.json").write_text(json.dumps(changed))
        monkeypatch.setenv("AWS_DATA_PATH", str(folder.parent.parent))

    return change


def as_double(members, shapes):
    """A number with a fraction now: the pages of before still fit, the columns do not."""
    shapes["Number"] = {"type": "double"}
    members["maxBackupsToRetain"] = {"shape": "Number"}


def test_an_added_member_is_reported_and_gets_a_column(job, change_model, caplog):
    job.run()
    change_model(lambda members, _: members.update(gpuCount={"shape": "MaxBackupsToRetain"}))

    (outcome,) = job.run(NEXT)

    assert outcome.exit_code == 0
    assert "the service model has changed since run" in caplog.text
    assert "added gpuCount" in caplog.text
    assert job.ask("select distinct gpu_count from streaming_sessions_history") == [(None,)]
    assert job.problems() == []


def test_a_removed_member_stops_the_run_before_a_request_until_told_to_go_on(job, studio, change_model):
    job.run()
    asked = len(studio.requests)
    change_model(lambda members, _: members.pop("statusMessage"))

    with pytest.raises(ConfigError, match=r"removed statusMessage\. .*--accept-model"):
        job.run(NEXT)
    assert not any(request.operation != "GetCallerIdentity" for request in studio.requests[asked:])
    (outcome,) = job.run(NEXT, accept_model=True)

    assert outcome.exit_code == 0
    assert outcome.slices[-1].drift, "it still arrives, and is kept as an unknown member"
    nights = job.ask(
        "select snapshot_date, count(status_message) > 0, count(extra) > 0 from streaming_sessions_history group by all"
        " order by all"
    )
    assert nights == [(DATE, True, False), (NEXT, False, True)]


def test_a_retyped_member_needs_a_new_table_which_a_replay_fills_from_the_ledgers(job, change_model):
    job.run()
    before = job.ask("select session_id, max_backups_to_retain::double from streaming_sessions order by all")
    change_model(as_double)
    with pytest.raises(ConfigError, match=r"of another type maxBackupsToRetain \(int32 before, now double\)"):
        job.run(NEXT)
    (outcome,) = job.run(NEXT, accept_model=True)
    assert re.search(r"column max_backups_to_retain is .*integer.* says .*double", str(outcome.failure))
    assert outcome.exit_code == 5, "the other dataset is published"

    for table in ("streaming_sessions", "streaming_session_changes"):
        shutil.move(job.directory / "warehouse" / table, job.directory / f"former_{table}")
    replay(job.settings(), Selection(since=DATE))

    assert job.ask("select session_id, max_backups_to_retain from streaming_sessions order by all") == before
    assert job.problems() == []
    assert job.run(NEXT)[0].exit_code == 0


def test_an_unchanged_model_says_nothing(job, caplog):
    job.run()
    job.run(NEXT)
    assert "has changed" not in caplog.text
