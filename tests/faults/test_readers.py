"""Readers who never stop looking, while the job publishes, is killed, compacts and vacuums."""

import datetime as dt
import json
import signal

import pytest
from support.damage import change_rows
from support.job import NIGHT, RUN, job_at
from support.studios import studio_of
from torture.model import Model
from torture.play import READERS
from torture.readers import DeltaReader, Report, judge, reading

from etl.emulator import World

WORLD = World(studios=2, sessions_per_studio=12, epoch=dt.date(2026, 1, 1))
PAGE_SIZE = 6
NIGHTS = [NIGHT + dt.timedelta(days=number) for number in range(3)]
ROUNDS = 3
KILLS = (
    "page.stored:2",
    "table.staged:1",
    "table.synced:2",
    "table.committed:1",
    "table.committed:4",
    "catalog.built:1",
)
LONG_AGO_MS = int(dt.timedelta(days=3) / dt.timedelta(milliseconds=1))


@pytest.fixture
def studio():
    with studio_of(WORLD, page_size=PAGE_SIZE) as studio:
        yield studio


@pytest.fixture
def job(tmp_path, studio):
    return job_at(
        tmp_path / "job", studio, source="  account_id: '123456789012'", rest="datasets: [streaming_sessions]"
    )


def digests_of(model):
    return lambda place: [content.digests() for content in model.allowed(place)]


def let_days_pass(warehouse):
    """Make every file that was replaced so far one that was replaced three days ago. Returns how many there are."""
    replaced = 0
    for entry in warehouse.glob("*/_delta_log/*.json"):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        for action in actions:
            if "remove" in action:
                replaced += 1
                action["remove"]["deletionTimestamp"] -= LONG_AGO_MS
        entry.write_text("\n".join(map(json.dumps, actions)))
    return replaced


def data_files(warehouse):
    return set(warehouse.glob("*/*/*.parquet"))


def commits(warehouse):
    return len(list(warehouse.glob("*/_delta_log/*.json")))


def test_fault_32_50_51_readers_see_whole_snapshots_only_through_publishes_kills_and_vacuums(job, studio):
    """Between the rounds three days pass, and readers connect anew: what was replaced before may be vacuumed then."""
    warehouse = job.directory / "warehouse"
    model = Model(WORLD, PAGE_SIZE, lists_studios=False)
    for night in NIGHTS:
        model.stand_still(night.date(), night)
    report, removed, exits = Report(), 0, []
    for round_number in range(ROUNDS):
        with reading(warehouse, READERS) as seen:
            for number, kill in enumerate(KILLS):
                night = NIGHTS[(round_number + number) % len(NIGHTS)]
                studio.set_instant(night)
                run = ("run", "--snapshot-date", night.date().isoformat(), "--fresh")
                exits += [job.finish(*run), job.finish(*run, NIMBLE_ETL_FAILPOINT=kill)]
                before = data_files(warehouse)
                exits += [job.finish("compact"), job.finish("vacuum")]
                removed += len(before - data_files(warehouse))
        report.add(seen)
        replaced = let_days_pass(warehouse)

    assert judge(report, digests_of(model)) == []
    assert set(exits) == {0, -signal.SIGKILL}
    assert exits.count(-signal.SIGKILL) == ROUNDS * len(KILLS), "every kill hit, and nobody who reads stopped the job"
    assert commits(warehouse) > 200
    assert 0 < removed < replaced, "vacuum took what was old enough, and kept what was not"
    assert min(report.looks.values()) >= 2 * ROUNDS, report.looks


def tampered(job, change):
    """Change the rows of the sessions table behind the job's back."""
    change_rows(job.directory / "warehouse" / "streaming_sessions", change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: [*rows, rows[0]], "doubled: "),
        (lambda rows: rows[1:], "mixed: a reader saw streaming_sessions, "),
        (lambda rows: [{**rows[0], "run_id": "another"}, *rows[1:]], "rows of runs "),
        (lambda rows: [{**row, "run_id": "another"} for row in rows], ""),
        (lambda _rows: [], "was there before"),
    ],
)
def test_readers_name_what_breaks_a_promise(job, change, says):
    assert job.finish(*RUN) == 0
    model = Model(WORLD, PAGE_SIZE, lists_studios=False)
    model.stand_still(NIGHT.date(), NIGHT)
    reader = DeltaReader(job.directory / "warehouse")
    reader.look()
    assert judge(reader.report, digests_of(model)) == []

    tampered(job, change)
    reader.look(at_all=True)

    problems = judge(reader.report, digests_of(model))
    assert any(says in problem for problem in problems) if says else problems == []


def test_readers_notice_a_snapshot_that_was_replaced_and_comes_back(job):
    """Two runs follow each other; then the first one's rows are there again."""
    assert job.finish(*RUN) == 0
    reader = DeltaReader(job.directory / "warehouse")
    reader.look()
    tampered(job, lambda rows: [{**row, "run_id": f"later than {row['run_id']}"} for row in rows])
    reader.look(at_all=True)
    assert reader.report.problems == []

    tampered(job, lambda rows: [{**row, "run_id": row["run_id"].removeprefix("later than ")} for row in rows])
    reader.look(at_all=True)

    assert len(reader.report.problems) == WORLD.studios
    assert all("was replaced and is there again" in problem for problem in reader.report.problems)


def test_readers_report_errors_that_they_meet(job):
    assert job.finish(*RUN) == 0
    for file in data_files(job.directory / "warehouse"):
        file.unlink()

    with reading(job.directory / "warehouse", READERS) as report:
        pass

    assert {problem.split(":")[1] for problem in report.problems if problem.startswith("error")} == {
        " catalog",
        " held",
        " delta",
    }
