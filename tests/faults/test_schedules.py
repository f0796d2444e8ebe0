"""Seeded chaos in small doses, and proof that the one who judges it can say no. `make torture` plays much more."""

import datetime as dt
import shutil
from dataclasses import replace

import pytest
from support.damage import change_rows
from support.job import DATE, NIGHT, RUN, job_at
from support.studios import LIST, SESSIONS, listed_sessions, studio_of
from support.thorough import THOROUGH
from support.torture import torture
from torture.check import check, check_changes, check_facts, read_catalog, read_delta
from torture.model import STUDIOS, Content, Model
from torture.play import READERS, Tally, ViolationError, play
from torture.schedule import Schedule, Step

from etl.emulator import World

SEEDS = 40 if THOROUGH else 16
AT_A_TIME = 4
WORLD = World(studios=1, sessions_per_studio=12, epoch=dt.date(2026, 1, 1))
STUDIO = WORLD.studio_ids[0]
PAGE_SIZE = 5
REQUESTS = 4
"""Of an undisturbed export of that world: one page of studios, three of sessions."""

NEXT_NIGHT = NIGHT + dt.timedelta(days=1)


def schedule(*steps):
    return Schedule(
        seed=0,
        world=WORLD,
        page_size=PAGE_SIZE,
        concurrency=1,
        asks_account=False,
        lists_studios=True,
        still=frozenset(),
        steps=steps,
    )


@pytest.mark.parametrize("first", range(0, SEEDS, AT_A_TIME))
def test_fault_29_to_35_44_short_schedules_lose_double_and_mix_nothing(first, tmp_path):
    total = Tally()
    for seed in range(first, first + AT_A_TIME):
        total.add(
            play(Schedule.make(seed, is_short=True), tmp_path / str(seed), readers=READERS if seed == first else ())
        )

    assert total.schedules == AT_A_TIME
    assert len(total.faults) + len(total.kills) > AT_A_TIME / 2, "the studio misbehaved, processes were killed"
    assert min(total.looks.values()) > 0, "and readers looked"


def test_torture_tells_what_it_did_and_that_nothing_was_lost(tmp_path):
    done = torture("--schedules", "1", "--seed", "15", "--directory", str(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("seed 15, 1 schedules, ")
    assert lines[-1] == "0 lost, 0 doubled, 0 mixed"
    assert [line.split()[0] for line in lines[-9:-1]] == [
        "played", "starts", "exits", "faults", "disturbed", "recovered", "published", "readers"
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [], "directories are kept only of those that fail"


def test_torture_ends_with_the_first_seed_that_fails_keeps_its_directory_and_says_how_to_replay_it(tmp_path):
    """Here every start of the job is killed, also those that should finish what others left."""
    always = {"NIMBLE_ETL_FAILPOINT": "catalog.built"}

    done = torture("--schedules", "50", "--seed", "15", "--workers", "1", "--directory", str(tmp_path), **always)

    assert done.returncode == 1
    assert "seed 15 breaks a promise:" in done.stdout
    assert "not published after 4 undisturbed starts" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("-m torture --replay 15")
    (kept,) = tmp_path.iterdir()
    assert f"Its directory is {kept}" in done.stdout
    assert (kept / "log").exists()
    again = torture("--replay", "15", "--directory", str(tmp_path), **always)
    assert again.returncode == 1
    assert "not published after 4 undisturbed starts" in again.stdout


def test_schedules_are_decided_by_their_seed_alone():
    assert [str(Schedule.make(seed)) for seed in range(50)] == [str(Schedule.make(seed)) for seed in range(50)]
    assert len({str(Schedule.make(seed)) for seed in range(50)}) == 50


@pytest.mark.parametrize("request_number", [1, REQUESTS])
def test_fault_44_a_signal_during_the_last_page_does_not_claim_that_anything_is_published(request_number, tmp_path):
    """All pages are there then, but nobody has published them: exit 3, not 0."""
    tally = play(
        schedule(
            Step(DATE, NIGHT, act="terminate", at_request=request_number),
            Step(DATE, NIGHT, finishes=True),
        ),
        tmp_path,
    )

    assert tally.kills == {"terminate": 1}
    assert tally.exits == {"3": 1, "0": 1}


@pytest.mark.parametrize("commit", [2, 4, 5, 7, 8])
def test_fault_32_33_a_night_killed_half_published_is_finished_before_the_next_one_shows_a_catalog(commit, tmp_path):
    """The next night builds a catalog of all tables; it must not show tags of a night without its sessions."""
    tally = play(
        schedule(
            Step(DATE, NIGHT, dies_at=f"table.committed:{commit}"),
            Step(NEXT_NIGHT.date(), NEXT_NIGHT, finishes=True),
            Step(DATE, NIGHT, finishes=True),
        ),
        tmp_path,
    )

    assert tally.kills == {"table.committed": 1}
    assert tally.exits == {"SIGKILL": 1, "0": 2}


def test_fault_18_23_a_night_full_of_duplicates_does_not_make_the_next_one_look_like_a_fall(tmp_path):
    """The same page came twelve times; what counts is how many different records there were."""
    tally = play(
        schedule(
            Step(DATE, NIGHT, faults=(f"endless-tokens:{LIST},page=2,times=12",)),
            Step(NEXT_NIGHT.date(), NEXT_NIGHT, finishes=True),
        ),
        tmp_path,
    )

    assert tally.faults == {"endless-tokens": 12}
    assert tally.exits == {"0": 2}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A warehouse of one night, written by the job; with the model of that night."""
    with studio_of(WORLD, page_size=PAGE_SIZE) as studio:
        job = job_at(tmp_path_factory.mktemp("exported"), studio)
        assert job.finish(*RUN) == 0
    model = Model(WORLD, PAGE_SIZE)
    model.stand_still(DATE, NIGHT)
    return job.directory / "warehouse", model


@pytest.fixture
def tampered(exported, tmp_path):
    """Return what changes the rows of a table in a copy of that warehouse, and what the checks say then.

    The copy's catalog still names the files of the original: only the Delta tables are looked at.
    """
    original, model = exported
    warehouse = tmp_path / "warehouse"
    shutil.copytree(original, warehouse)

    def tamper(table, change):
        change_rows(warehouse / table, lambda rows: change(sorted(rows, key=lambda row: str(row.get("session_id")))))
        places = list(model.places(DATE))
        due = {place: model.due(place, "") for place in places}
        return check(read_delta(warehouse), model, due, places, apart=True)

    return tamper


def test_checker_has_nothing_to_say_about_what_the_job_wrote(exported, tampered):
    warehouse, model = exported
    due = {place: model.due(place, "") for place in model.places(DATE)}
    assert sorted(due) == [(DATE, STUDIOS), (DATE, STUDIO)]

    assert check(read_catalog(warehouse), model, due, due, apart=False) == []
    assert check_facts(read_catalog(warehouse)) == []
    assert tampered("streaming_sessions", lambda rows: rows) == []


def test_checker_names_a_lost_row(tampered):
    names = []

    def lose(rows):
        names.append(rows[3]["session_id"])
        return rows[:3] + rows[4:]

    assert tampered("streaming_sessions", lose) == [f"lost: {DATE} {STUDIO}: streaming_sessions ('{names[0]}',)"]


def test_checker_names_a_doubled_row(tampered):
    names = []

    def double(rows):
        names.append(rows[3]["session_id"])
        return [*rows, rows[3]]

    (problem,) = tampered("streaming_sessions", double)
    assert problem == f"doubled: {DATE} {STUDIO}: streaming_sessions ('{names[0]}',) is there 2 times"


def test_checker_names_a_row_of_another_instant(tampered):
    """As a walk would have seen it that evening: the same session, in another state."""
    evening = Content.of(SESSIONS, listed_sessions(WORLD, NIGHT + dt.timedelta(hours=15)))
    names = []

    def mix(rows):
        later = evening.tables["streaming_sessions"]
        (number, row) = next(
            (number, row)
            for number, row in enumerate(rows)
            if later.get((row["session_id"],), row)["updated_at"] != row["updated_at"]
        )
        names.append(row["session_id"])
        changed = {name: later[row["session_id"],].get(name) for name in ("state", "updated_at")}
        return [*rows[:number], {**row, **changed}, *rows[number + 1 :]]

    (problem,) = tampered("streaming_sessions", mix)
    assert problem.startswith(f"mixed: {DATE} {STUDIO}: streaming_sessions ('{names[0]}',) has another state")


def test_checker_names_a_row_of_another_run_and_one_of_no_walk(tampered):
    def mix(rows):
        return [{**rows[0], "run_id": "another"}, *rows[1:], {**rows[0], "session_id": "never listed"}]

    problems = tampered("streaming_sessions", mix)

    assert len(problems) == 2
    assert "rows of 2 runs: " in problems[0]
    assert problems[1].startswith("mixed: ")
    assert "('never listed',) is of no such walk" in problems[1]


def test_checker_names_a_tag_with_another_value_and_rows_that_vanished_as_a_whole(tampered):
    (problem,) = tampered("streaming_session_tags", lambda rows: [{**rows[0], "value": "x"}, *rows[1:]])
    assert problem.startswith("mixed: ")
    assert problem.endswith("has another value")

    problems = tampered("streaming_sessions", lambda _rows: [])
    assert len(problems) > 10
    assert all(problem.startswith("lost: ") for problem in problems[:-1])


@pytest.mark.parametrize(
    ("table", "change", "says"),
    [
        ("etl_slices", {"is_published": False}, "does not say published"),
        ("etl_slices", {"rows": 7}, "etl_slices says 7 rows, there are"),
        ("etl_slices", {"pages": 9}, "etl_slices says 9 pages, there are"),
        ("etl_slices", {"rejects": 1}, "etl_slices says 1 rejects, there are 0"),
    ],
)
def test_checker_names_facts_that_contradict_the_rows(exported, table, change, says):
    warehouse, _ = exported
    tables = read_catalog(warehouse)
    tables[table] = [{**row, **change} for row in tables[table]]

    problems = check_facts(tables)

    assert len(problems) >= 2
    assert any(says in problem for problem in problems)


@pytest.mark.parametrize("table", ["etl_slices", "etl_runs"])
def test_checker_names_facts_that_are_there_twice(exported, table):
    tables = read_catalog(exported[0])
    tables[table] = tables[table] * 2

    assert any(problem.startswith("doubled: ") for problem in check_facts(tables))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: rows[1:], "lost: "),
        (lambda rows: [*rows, rows[0]], "doubled: "),
        (lambda rows: [{**rows[0], "change": "changed", "changed_columns": ["state"]}, *rows[1:]], "mixed: "),
        (lambda rows: [{**rows[0], "session_id": "never listed"}, *rows], "nothing changed"),
        (lambda rows: [{**rows[0], "state": "DELETED"}, *rows[1:]], "mixed: "),
    ],
)
def test_checker_names_changes_that_do_not_follow_from_the_snapshots(exported, change, says):
    tables = read_catalog(exported[0])
    assert check_changes(tables) == []
    tables["streaming_session_changes"] = change(tables["streaming_session_changes"])

    (problem,) = check_changes(tables)

    assert says in problem


def test_play_names_the_step_and_the_row_when_the_warehouse_is_not_what_the_model_says(tmp_path):
    """Told that the listing stands still, the model does not expect what the evening shows."""
    evening = NIGHT + dt.timedelta(hours=15)
    lying = replace(
        schedule(Step(DATE, evening, finishes=True), Step(DATE, NIGHT, finishes=True)), still=frozenset({DATE})
    )

    with pytest.raises(ViolationError, match=rf"step 1:\nmixed: {DATE} {STUDIO}: streaming_sessions .* has another"):
        play(lying, tmp_path, readers=())
