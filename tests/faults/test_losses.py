"""What was published and is not there any more: found by comparison, named, mended by replay."""

import datetime as dt
import re
import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.damage import change_ledger, flip_byte
from support.job import DATE, EXPORTED, NIGHT, RUN, job_at
from support.studios import studio_of
from support.warehouse import publish_slices

from etl.jobs.replay import Selection, replay
from etl.jobs.status import status
from etl.ledger import directory
from etl.ledger.directory import RUN_ID_TIME, ledger_paths, remove_old_ledgers
from etl.ledger.ledger import Ledger
from etl.load.delta.tables import Tables
from etl.model import RunState
from etl.pipeline.losses import find_losses
from etl.storage.disk import Disk

DAYS = [DATE + dt.timedelta(days=n) for n in range(3)]


def night(job, day):
    return job.finish("run", "--snapshot-date", day.isoformat())


@pytest.fixture
def two_nights(small_studio, tmp_path):
    """A job with two nights, and the rows that readers see."""
    job = job_at(tmp_path, small_studio, marts=True)
    assert [night(job, day) for day in DAYS[:2]] == [0, 0], job.log
    return job


# Fault 66


def newest_entry(job, table):
    return max((job.directory / "warehouse" / table / "_delta_log").glob("*.json"))


def lose_newest_entry(job):
    newest_entry(job, "streaming_sessions").unlink()


def tear_newest_entry(job):
    entry = newest_entry(job, "streaming_sessions")
    entry.write_bytes(entry.read_bytes()[:500])


def empty_newest_entry(job):
    newest_entry(job, "streaming_session_tags").write_bytes(b"")


def lose_table(job):
    shutil.rmtree(job.directory / "warehouse" / "streaming_sessions")


def lose_log(job):
    shutil.rmtree(job.directory / "warehouse" / "streaming_session_tags" / "_delta_log")


def lose_facts(job):
    shutil.rmtree(job.directory / "warehouse" / "etl_slices")


def lose_change_log(job):
    shutil.rmtree(job.directory / "warehouse" / "streaming_session_changes")


def lose_newest_changes(job):
    newest_entry(job, "streaming_session_changes").unlink()


LOSSES = [lose_newest_entry, tear_newest_entry, empty_newest_entry, lose_table, lose_log, lose_facts, lose_change_log]


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_fault_66_what_a_table_has_lost_is_named_by_every_command_until_replay_brings_it_back(two_nights, lose):
    job = two_nights
    before = job.exported_rows()
    lose(job)

    assert night(job, DAYS[2]) == 5, job.log
    assert "nothing_is_missing" in job.log
    assert f"`nimble-etl replay --since {DAYS[1]}` writes it again" in job.log
    assert job.finish("check") == 5
    assert job.finish("status") == 5
    assert status(job.settings(), 1).losses
    assert job.finish("verify") == 5
    assert "Traceback" not in job.log

    assert job.finish("replay", "--since", DAYS[0].isoformat()) == 0, job.log
    dates = ", ".join(f"'{day}'" for day in DAYS[:2])
    assert [job.rows(table, f"snapshot_date in ({dates})") for table in EXPORTED] == before
    assert job.problems() == []
    assert status(job.settings(), 1).losses == []
    assert job.ask("select change, count(*) from streaming_session_changes where snapshot_date > $day group by all",
                   day=DAYS[0]) == []  # fmt: skip


def changes(job, where="true"):
    statement = "select t::varchar from (select * exclude (run_id) from streaming_session_changes"
    return job.ask(f"{statement} where {where}) t order by all")


def test_fault_66_the_newest_changes_are_missed_by_their_version(small_studio, tmp_path):
    """Nothing else tells how many rows of a change log there were."""
    assert night(job_at(tmp_path, small_studio), DAYS[0]) == 0
    with studio_of(small_studio.world, at=NIGHT + dt.timedelta(hours=18)) as changed:
        job = job_at(tmp_path, changed)
        assert night(job, DAYS[1]) == 0, job.log
        before = changes(job)
        lose_newest_changes(job)

        assert night(job, DAYS[2]) == 5, job.log
        assert "its newest commits are lost" in job.log
        assert job.finish("replay", "--since", DAYS[1].isoformat()) == 0, job.log
        assert changes(job, f"snapshot_date <= '{DAYS[1]}'") == before


def test_fault_66_a_damaged_night_in_the_middle_is_replayed_from_any_date_before(two_nights):
    job = two_nights
    assert night(job, DAYS[2]) == 0
    before = job.exported_rows(), changes(job)
    for table in ("streaming_sessions", "etl_slices"):
        (file, *_) = Tables(Disk(job.directory / "warehouse")).files(table, DAYS[1])
        Path(file).write_bytes(Path(file).read_bytes()[:100])
        assert job.finish("verify") == 5

        advised = re.findall(r"`nimble-etl (replay --since [0-9-]+)`", job.log)[-1]
        assert job.finish("replay", "--since", DAYS[0].isoformat()) == 0, job.log
        assert job.problems() == []
        Path(file).unlink(missing_ok=True)
        (file, *_) = Tables(Disk(job.directory / "warehouse")).files(table, DAYS[1])
        Path(file).unlink()
        assert night(job, DAYS[2] + dt.timedelta(days=1)) == 1
        assert job.finish(*advised.split()) in (0, 5), job.log
        assert night(job, DAYS[2] + dt.timedelta(days=1)) == 0, job.log
        assert job.problems() == []
    last = f"snapshot_date <= '{DAYS[2]}'"
    shown = [job.rows(table, last) for table in EXPORTED]
    assert (shown, changes(job, last)) == before


def test_fault_66_a_warehouse_that_is_yesterdays_backup_is_named_before_the_first_request(two_nights, small_studio):
    job = two_nights
    before = job.exported_rows()
    warehouse, backup = job.directory / "warehouse", job.directory / "backup"
    shutil.copytree(warehouse, backup)
    assert night(job, DAYS[2]) == 0
    shutil.rmtree(warehouse)
    backup.rename(warehouse)
    asked = len(small_studio.requests)

    assert job.finish("compact") == 0
    assert len(small_studio.requests) == asked
    assert "is the warehouse a backup?" in job.log
    assert job.finish("status") == 5
    assert job.finish("replay", "--since", DAYS[2].isoformat()) == 0
    assert job.problems() == []
    assert [job.rows(table, f"snapshot_date < '{DAYS[2]}'") for table in EXPORTED] == before


def test_fault_66_a_ledger_that_is_a_backup_proves_nothing_and_replaces_nothing(job):
    job.run()
    before = job.exported_rows()
    (path,) = ledger_paths(job.directory / "state")
    change_ledger(path, "update page set body_sha256 = 'ff' || substr(body_sha256, 3) where number = 1")

    (problem, *_) = job.problems()
    assert "has other pages than were published: is it a backup?" in problem
    assert job.exported_rows() == before


def test_fault_66_the_change_log_of_many_dates_is_compared_with_the_first_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr("etl.load.published._AT_ONCE", 1)
    tables = Tables(Disk(tmp_path))
    for number, day in enumerate(DAYS, start=1):
        publish_slices(tables, ["a"], date=day, run=f"run-{number}", number=number)
    (found,) = (loss for loss in find_losses(tables, []) if loss.what == "the change log of things")
    assert found.snapshot_date == DAYS[0]


@pytest.mark.parametrize("damage", ["a flipped bit", "lost"])
@pytest.mark.parametrize("commits", [1, 2, 3])
def test_fault_67_pages_lost_after_a_kill_between_two_commits_make_no_mixture(damage, commits, small_studio, tmp_path):
    """SQLite drops what its log has after a flipped bit in silence: the ledger is older than the warehouse then."""
    job = job_at(tmp_path, small_studio)
    one = ("--dataset", "streaming_sessions", "--studio-id", small_studio.world.studio_ids[0])
    assert job.finish(*RUN, *one, NIMBLE_ETL_FAILPOINT=f"table.committed:{commits}") == -signal.SIGKILL
    (path,) = ledger_paths(job.directory / "state")
    log = path.with_name(f"{path.name}-wal")
    assert log.stat().st_size > 0
    if damage == "lost":
        log.unlink()
    else:
        flip_byte(log, 156, 0x01)
    with studio_of(small_studio.world, at=NIGHT + dt.timedelta(hours=18)) as changed:
        again = job_at(tmp_path, changed)
        ended = again.finish(*RUN, *one)
        if ended == 1:  # so much is lost that it is no ledger any more
            ended = again.finish(*RUN, "--fresh", *one)
        assert ended == 0, again.log
        undisturbed = job_at(tmp_path / "undisturbed", changed)
        assert undisturbed.finish(*RUN, *one) == 0

    assert [again.rows(table) for table in EXPORTED[1:]] == [undisturbed.rows(table) for table in EXPORTED[1:]]
    assert again.problems() == []


def test_fault_67_a_publication_that_the_ledger_has_lost_is_put_back(small_studio, tmp_path):
    job = job_at(tmp_path, small_studio)
    assert night(job, DAYS[0]) == 0
    before = job.exported_rows()
    again = ("run", "--snapshot-date", DAYS[0].isoformat(), "--fresh")
    with studio_of(small_studio.world, at=NIGHT + dt.timedelta(hours=18)) as changed:
        later = job_at(tmp_path, changed)
        assert later.finish(*again, NIMBLE_ETL_FAILPOINT="table.committed:4") == -signal.SIGKILL
    change_ledger(ledger_paths(job.directory / "state")[-1], "delete from publication where not is_whole")

    assert job.finish("compact") == 0, job.log

    assert "the tables are put back" in job.log
    assert job.exported_rows() == before


# Fault 68: clocks


def test_fault_68_of_two_walks_of_a_date_the_later_publication_is_shown_whatever_the_clock_says(job):
    job.run()
    (first,) = ledger_paths(job.directory / "state")
    job.run(fresh=True)
    second = next(path for path in ledger_paths(job.directory / "state") if path != first)
    change_ledger(second, "update publication set published_at = '2020-01-01T00:00:00+00:00'")
    change_ledger(second, "update page set received_at = '2020-01-01T00:00:00+00:00'")
    replay(job.settings(), Selection(since=DATE))

    assert job.ask("select distinct run_id from streaming_sessions") == [(second.stem,)]
    assert job.problems() == []


def ledgers_of(state, days, now):
    for age in days:
        name = f"{now - dt.timedelta(days=age):{RUN_ID_TIME}}-{age:06x}"
        Ledger.create(state / "runs" / f"{name}.sqlite", name, DATE, "request", RunState.PUBLISHED).close()


def test_fault_68_a_clock_that_is_far_ahead_deletes_a_few_ledgers_and_never_the_newest(tmp_path):
    ledgers_of(tmp_path, range(400, 430), dt.datetime.now(dt.UTC))
    names = [path.name for path in ledger_paths(tmp_path)]

    remove_old_ledgers(tmp_path, dt.timedelta(days=90), dt.timedelta(hours=12))

    assert [path.name for path in ledger_paths(tmp_path)] == names[directory.AT_ONCE :]
    for _ in range(5):
        remove_old_ledgers(tmp_path, dt.timedelta(days=90), dt.timedelta(hours=12))
    assert [path.name for path in ledger_paths(tmp_path)] == names[-1:]


def test_fault_68_a_ledger_that_is_not_wholly_published_is_never_deleted_by_age(tmp_path):
    ledgers_of(tmp_path, range(400, 405), dt.datetime.now(dt.UTC))
    oldest = ledger_paths(tmp_path)[0]
    with Ledger.open(oldest) as ledger:
        ledger.plan_publication("things", ["a"])

    remove_old_ledgers(tmp_path, dt.timedelta(days=90), dt.timedelta(hours=12))

    assert ledger_paths(tmp_path)[0] == oldest


def test_fault_68_a_date_that_has_not_come_is_refused_and_one_that_is_there_is_named(small_studio, tmp_path):
    job = job_at(tmp_path, small_studio, marts=True)
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=2)
    refused = job.cli("run", "--snapshot-date", tomorrow.isoformat())
    assert refused.returncode == 2
    assert f"{tomorrow} is in the future" in refused.stderr

    assert job.finish(*RUN) == 0
    (path,) = ledger_paths(job.directory / "state")
    change_ledger(path, "update run set snapshot_date = ?", [tomorrow.isoformat()])
    assert job.finish("replay", "--since", tomorrow.isoformat()) == 5, job.log
    assert "check snapshots_are_not_in_the_future: found 1 rows" in job.log


# Fault 69: what readers go by, and no checksum covers


def test_fault_69_statistics_that_would_hide_rows_are_named(two_nights):
    job = two_nights
    (name, *_) = Tables(Disk(job.directory / "warehouse")).files("streaming_sessions", DAYS[1])
    file = Path(name)
    group = pq.read_metadata(file).row_group(0)
    (least,) = [
        group.column(n).statistics.min_raw
        for n in range(group.num_columns)
        if group.column(n).path_in_schema == "state"
    ]
    content = file.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    place = content.index(least.encode() if isinstance(least, str) else least, footer)
    flip_byte(file, place, content[place] ^ ord("Z"))

    problems = job.problems()
    assert [problem for problem in problems if "its statistics of column state would hide rows" in problem], problems
    assert job.finish("replay", "--since", DAYS[1].isoformat()) == 0, job.log
    assert job.problems() == []


def test_fault_69_a_column_that_the_log_does_not_name_any_more_is_shown_and_the_log_is_named(two_nights):
    job = two_nights
    before = job.exported_rows()
    entry = newest_entry(job, "streaming_sessions")
    text = entry.read_text()
    assert '\\"state\\":' in text
    entry.write_text(text.replace('\\"state\\":', '\\"stcte\\":'))

    assert job.finish("compact") == 0, job.log
    assert job.exported_rows() == before
    assert [problem for problem in job.problems() if "than the log of its table says" in problem]
    assert job.finish("replay", "--since", DAYS[1].isoformat()) == 0, job.log
    assert job.problems() == []


@pytest.mark.parametrize("lost", [r'\\"numRecords\\": ?\d+,? ?', r'"stats":".*?",'], ids=["rows", "all"])
def test_fault_69_where_the_log_does_not_say_how_many_rows_a_file_has_the_file_says_it(two_nights, lost):
    """What a log says about rows is optional, so nothing is damaged, and every command goes on."""
    job = two_nights
    before = job.exported_rows()
    entries = [entry for entry in (job.directory / "warehouse").rglob("*.json") if "numRecords" in entry.read_text()]
    assert len(entries) > 10
    for entry in entries:
        entry.write_text(re.sub(lost, "", entry.read_text()))
        assert "numRecords" not in entry.read_text()

    assert job.finish("status") == 0, job.log
    assert job.exported_rows() == before
    assert job.problems() == []
    assert job.finish("replay", "--since", DAYS[1].isoformat()) == 0, job.log
    assert job.finish("compact") == 0, job.log
    assert night(job, DAYS[2]) == 0, job.log
    assert job.problems() == []


def test_fault_66_a_table_whose_log_cannot_be_read_is_named_by_verify_and_status_goes_on(two_nights):
    """Each of its files, ledgers and the other tables is still looked at."""
    job = two_nights
    first = job.directory / "warehouse/streaming_session_tags/_delta_log/00000000000000000000.json"
    first.write_text(first.read_text().replace('"minReaderVersion":1', '"minReaderVersion":99'))

    findings = job.problems()

    assert [finding for finding in findings if "/streaming_session_tags: " in finding and "99" in finding], findings
    assert len(findings) > 1
    assert job.finish("verify") == 5, job.log
    assert job.finish("status") in (0, 5), job.log
    assert "Traceback" not in job.log


def test_fault_66_verify_waits_for_nobody_and_takes_no_half_publication_for_damage(small_studio, tmp_path):
    job = job_at(tmp_path, small_studio)
    assert job.finish(*RUN) == 0
    again = ("run", "--snapshot-date", DAYS[1].isoformat(), "--fresh")
    assert job.finish(*again, NIMBLE_ETL_FAILPOINT="table.committed:3") == -signal.SIGKILL

    assert job.finish("verify") == 4, job.log
    assert "`nimble-etl catalog` puts back what a dead one has left" in job.log
    assert status(job.settings(), 1).losses == []
