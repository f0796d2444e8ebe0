"""What no list of faults thought of: responses, dumps and damages from a seed, judged by a model of their own.

THOROUGH=1 tries more; `make torture` tries as many as its minutes allow.
"""

import datetime as dt
import re
import shutil
from random import Random

import pytest
from support.answers import KEY, Answers
from support.job import DATE, EXPORTED, Job, job_at
from support.shapes import ACCOUNT
from support.thorough import THOROUGH
from torture import hostile

from etl.configfile import load_settings
from etl.errors import EtlError
from etl.jobs.dumps import ImportRequest, import_dump
from etl.jobs.replay import Selection, replay
from etl.jobs.status import status

SOURCE = f"  account_id: '{ACCOUNT}'\n  studio_ids: [s]"
ONE = "datasets: [streaming_sessions]"
NEXT = DATE + dt.timedelta(days=1)


def session_ids(job):
    return {name for (name,) in job.ask("select session_id from streaming_sessions")}


def facts(job):
    found = job.ask("select is_published, records, rows + rejects + duplicates from etl_slices")
    return found[0] if found else (False, None, None)


@pytest.mark.parametrize("seed", range(400 if THOROUGH else 40))
def test_fault_1_to_28_70_72_hostile_responses_become_exactly_what_a_model_says(seed, tmp_path, monkeypatch):
    responses = hostile.answers(Random(seed))
    expected = hostile.expected(responses)
    with Answers(*(response.wire for response in responses)) as server:
        job = Job(tmp_path, server.url, KEY, source=SOURCE, rest=ONE).lend_credentials(monkeypatch)
        (outcome,) = job.run()
    story = [(response.status, response.body) for response in responses]

    if expected.records is None:
        assert outcome.exit_code == 1, story
        assert job.ask("select 1 from etl_slices where is_published") == [], story
    else:
        assert outcome.exit_code in (0, 5), (outcome.report(), story)
        assert facts(job) == (True, expected.records, expected.records), story
        assert session_ids(job) >= expected.ids, story
        assert (outcome.exit_code == 5) == bool(outcome.counts["rejects"]), story
    assert job.problems() == [], story


@pytest.mark.parametrize("block", range(20 if THOROUGH else 4))
def test_fault_58_61_70_hostile_dumps_are_read_wholly_or_not_at_all(block, tmp_path):
    job = Job(tmp_path, "http://127.0.0.1:9", KEY, rest=f"{ONE}\npublish: {{max_fall: 1.0, fall_tolerance: 1000}}")
    settings = load_settings(job.config)
    for seed, random in hostile.seeds(block * 25, 25):
        content = hostile.dump(random)
        file = tmp_path / f"dump-{seed}"
        file.write_bytes(content)
        date = DATE - dt.timedelta(days=seed % 25)
        before = snapshot_of(job, date)
        place = ("streaming_sessions", date, {"studioId": "s"}, ACCOUNT, "us-west-2")
        request = ImportRequest([file], *place, allow_fall=True)
        outcomes = []
        code = code_of(lambda: _import(settings, request, outcomes))  # noqa: B023  called at once
        if outcomes:
            assert code in (0, 5), (seed, content)
            counts = outcomes[0].counts
            assert counts["rows"] + counts["rejects"] + counts["duplicates"] == counts["records"], (seed, content)
        else:
            assert code in (1, 2), (seed, content)
            assert snapshot_of(job, date) == before, (seed, content)
    assert job.problems() == []


def snapshot_of(job, date):
    if not (job.directory / "warehouse/warehouse.duckdb").exists():
        return []
    statement = "select session_id, state from streaming_sessions_history where snapshot_date = $date order by all"
    return job.ask(statement, date=date)


@pytest.fixture(scope="module")
def template(small_studio, tmp_path_factory):
    """Two nights, a copy of the directory after each, and the rows of both."""
    directory = tmp_path_factory.mktemp("damages")
    job = job_at(directory / "job", small_studio, rest=ONE)
    assert job.finish("run", "--snapshot-date", DATE.isoformat()) == 0
    shutil.copytree(directory / "job", directory / "yesterday")
    assert job.finish("run", "--snapshot-date", NEXT.isoformat()) == 0
    return directory, [job.rows(table) for table in EXPORTED[1:]]


def files_of(directory):
    """Return the files of a job that damage can hit, the smaller kinds as likely as the larger ones."""
    kinds = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.parent != directory and path.name not in ("lock", ".lock"):
            parts = path.relative_to(directory).parts
            kinds.setdefault((parts[0], path.suffix, parts[1] if len(parts) > 3 else ""), []).append(path)
    return kinds


@pytest.mark.parametrize("seed", range(300 if THOROUGH else 16))
def test_fault_36_38_39_66_69_after_any_damage_nothing_false_is_shown_without_a_word(
    seed, template, small_studio, tmp_path, monkeypatch
):
    source, expected = template
    shutil.copytree(source / "job", tmp_path / "job", copy_function=shutil.copy2)
    job = job_at(tmp_path / "job", small_studio, rest=ONE).lend_credentials(monkeypatch)
    random = Random(seed)
    kinds = files_of(tmp_path / "job")
    path = random.choice(kinds[random.choice(sorted(kinds))])
    how = random.choice(sorted(hostile.DAMAGES))
    former = source / "yesterday" / path.relative_to(tmp_path / "job")
    content = hostile.DAMAGES[how](path.read_bytes(), former.read_bytes() if former.exists() else None, random)
    story = f"seed {seed}: {how} {path.relative_to(tmp_path)}"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)

    third = NEXT + dt.timedelta(days=1)
    codes = [code_of(lambda: max(outcome.exit_code for outcome in job.run(third))), code_of(lambda: state_of(job))]
    findings = problems(job)
    shown = shown_rows(job)
    if shown != expected:
        assert set(codes) & {1, 5} or findings, f"{story}: other rows are shown, and nobody says so"
    replayed = code_of(lambda: max(outcome.exit_code for outcome in replay(job.settings(), Selection(since=DATE))))
    if replayed == 0:
        again = [
            finding for finding in problems(job) if not re.search(r"is it a backup\?|the ledger is damaged", finding)
        ]
        assert again == [], f"{story}: replayed, and still {again}"
        assert shown_rows(job) == expected, f"{story}: replayed, and other rows are shown"


def code_of(command):
    try:
        return command()
    except EtlError as exc:
        return exc.exit_code


def state_of(job):
    found = status(job.settings(), 3)
    return 5 if found.losses or any(row["state"] == "damaged" for row in found.unfinished) else 0


def problems(job):
    try:
        return job.problems()
    except EtlError as exc:
        return [str(exc)]


def shown_rows(job):
    """Return the rows of the first two nights as readers see them; None if they cannot be read."""
    nights = f"snapshot_date in ('{DATE}', '{NEXT}')"
    try:
        return [job.rows(table, nights) for table in EXPORTED[1:]]
    except Exception as exc:  # noqa: BLE001  whatever a reader meets
        return str(exc)


def _import(settings, request, outcomes):
    outcomes.append(import_dump(settings, request))
    return outcomes[0].exit_code
