"""What is forgotten is nowhere: no table, change log, reject, ledger or file has it; all else stays as it was."""

import datetime as dt
import json
import shutil
import signal

import duckdb
import pytest
from support.job import DATE, NIGHT, job_at
from support.stores import files_of
from support.studios import LIST, fired

from etl.errors import ConfigError, LedgerError
from etl.jobs.forget import forget
from etl.jobs.replay import Selection as Dates
from etl.jobs.replay import replay
from etl.jobs.upkeep import vacuum
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.model import CATALOG_NAME
from etl.pipeline.forget_plan import Selection

NIGHTS = [DATE + dt.timedelta(days=number) for number in range(3)]
PERSON = ("owned_by", "created_by", "started_by", "stopped_by", "updated_by")
"""Columns in which a person of the embedded studio stands."""
KEY = "a key that only the operator knows"


@pytest.fixture
def three_nights(job, studio):
    """A job with three nights, of which the second has rejected two records."""
    for number, date in enumerate(NIGHTS):
        studio.set_instant(NIGHT + dt.timedelta(days=number))
        studio.set_faults([f"bad-timestamp:{LIST},page=2,times=2"] if number == 1 else [])
        job.run(date)
        assert fired(studio) == ({"bad-timestamp"} if number == 1 else set())
    assert job.ask("select count(*) from etl_rejects") == [(2,)]
    return job


def select(**chosen):
    return Selection.parse(**{"where": [], **chosen})


def forgotten(job, **chosen):
    """Forget; return where from how much went."""
    return {
        touched.place: touched.removed for touched in forget(job.settings(), select(**chosen), confirmed=True).touched
    }


def owner_of_a_reject(job):
    """Return the owner of a record that a night has rejected: there is no place where this person is not."""
    return json.loads(job.ask("select record from etl_rejects order by all")[0][0])["ownedBy"]


def pages(job):
    """Return the text of all pages that ledgers have."""
    found = []
    for path in ledger_paths(job.directory / "state"):
        with Ledger.open(path) as ledger:
            found += [page.body.decode() for facts in ledger.slices() for page in ledger.pages(facts.slice)]
    return "\n".join(found)


def written(job):
    """Return the text of every data file and log of the warehouse, whether a table still names it or not."""
    warehouse = files_of(job.store, job.directory / "copy")
    found = []
    for file in warehouse.rglob("*.parquet"):
        found += [row for (row,) in duckdb.sql(f"select t::varchar from read_parquet('{file}') as t").fetchall()]
    return "\n".join([*found, *(file.read_text() for file in warehouse.rglob("*.json"))])


def without(job, gone):
    """Return what readers see, except some sessions, and without what differs between two runs that see the same."""
    keep = f"session_id not in ({', '.join(map(repr, gone))})"
    tables = {
        "streaming_sessions_history": "run_id, extracted_at",
        "streaming_session_tags_history": "run_id, extracted_at",
        "streaming_session_changes": "run_id",
        "streaming_sessions_versions": "run_id",
    }
    return {
        name: job.ask(
            f"select t::varchar from (select * exclude ({excluded}) from {name} where {keep}) as t order by all"
        )
        for name, excluded in tables.items()
    }


def person(name):
    """Return what is to be forgotten of a person."""
    return [f"{column}={name}" for column in PERSON]


def flags(name):
    return [part for value in person(name) for part in ("--where", value)]


def sessions_of(job, name):
    """Return the sessions in which a person ever had a part."""
    now = " or ".join(f"{column} = $name" for column in PERSON)
    before = " or ".join(f"old_values['{column}'] = to_json($name)::varchar" for column in PERSON)
    found = job.ask(f"select distinct session_id from streaming_session_changes where {now} or {before}", name=name)
    return sorted(session for (session,) in found)


def assert_all_is_well(job):
    """`verify` is content, and the facts about runs agree with each other and with the rows."""
    assert job.problems() == []
    shown = "select slice_id, snapshot_date, count(*) as shown from streaming_sessions_history group by all"
    kept = "select run_id, slice_id, sum(kept) as kept from etl_pages group by all"
    sums = "select run_id, sum(rows) as a, sum(records) as b, sum(rejects) as c from etl_slices group by all"
    wrong = job.ask(
        f"select s.* from etl_slices as s left join ({shown}) using (slice_id, snapshot_date)"
        f" left join ({kept}) using (run_id, slice_id) where s.rows + s.rejects + s.duplicates <> s.records"
        " or s.records <> kept or (s.dataset = 'streaming_sessions' and s.rows <> coalesce(shown, 0))"
    )
    assert wrong == []
    wrong = job.ask(
        f"select r.run_id from etl_runs as r join ({sums}) using (run_id) where (rows, records, rejects) <> (a, b, c)"
    )
    assert wrong == []


@pytest.mark.parametrize("with_ledgers", [True, False, "some"])
def test_a_person_is_forgotten_everywhere_and_nobody_else(three_nights, with_ledgers):
    job = three_nights
    owner = owner_of_a_reject(job)
    gone = sessions_of(job, owner)
    assert gone
    left = without(job, gone)
    if not with_ledgers:
        shutil.rmtree(job.directory / "state" / "runs")
    elif with_ledgers == "some":
        ledger_paths(job.directory / "state")[1].unlink()

    touched = forgotten(job, where=person(owner))

    assert touched["table streaming_sessions"] >= len(gone)
    assert touched["table streaming_session_changes"] >= len(gone)
    assert touched["table etl_rejects"] >= 1
    assert sum(place.startswith("ledger") for place in touched) == {True: 3, False: 0, "some": 2}[with_ledgers]
    assert without(job, gone) == left
    for table in ("streaming_sessions_history", "streaming_session_tags_history", "streaming_session_changes"):
        assert job.ask(f"select * from {table} where session_id in ({', '.join(map(repr, gone))})") == [], table
    assert owner not in pages(job)
    assert owner in written(job), "readers may still use the replaced files"
    assert_all_is_well(job)

    vacuum(job.settings(), at_once=True)

    assert owner not in written(job)
    assert owner.encode() not in job.store.read(job.store.at(CATALOG_NAME))
    if with_ledgers is True:
        replay(job.settings(), Dates(since=DATE))
        assert without(job, gone) == left
        assert owner not in written(job)
    assert_all_is_well(job)


def test_without_yes_nothing_changes_and_the_command_says_what_would(three_nights):
    job = three_nights
    owner = owner_of_a_reject(job)
    before, stored = without(job, []), pages(job)

    asked = job.cli("forget", *flags(owner))

    assert asked.returncode == 0, asked.stderr
    assert "table streaming_session_changes" in asked.stdout
    assert "Nothing was removed. With --yes, all of that is forgotten" in asked.stdout
    assert without(job, []) == before
    assert pages(job) == stored
    assert json.loads(job.cli("forget", "--where", "owned_by=nobody", "--json").stdout) == {"touched": [], "left": []}
    done = job.cli("forget", *flags(owner), "--yes")
    assert done.returncode == 0, done.stderr
    assert "`nimble-etl vacuum --now` deletes them at once" in done.stdout
    assert job.cli("vacuum", "--now").returncode == 0
    assert owner not in written(job)


@pytest.mark.parametrize(
    "step",
    [
        "forget.noted:1", "ledger.rewritten:1", "ledger.rewritten:3", "tables.noted:1", "table.committed:1",
        "table.committed:9", "table.staged:1", "publication.marked:1", "tables.whole:1", "catalog.built:1",
        "catalog.swapped:1",
    ],
)  # fmt: skip
def test_fault_74_a_kill_halves_nothing_the_next_job_goes_on(three_nights, step):
    job = three_nights
    owner = owner_of_a_reject(job)
    gone = sessions_of(job, owner)
    left = without(job, gone)
    before = without(job, [])

    ended = job.finish("forget", *flags(owner), "--yes", NIMBLE_ETL_FAILPOINT=step)

    assert ended == -signal.SIGKILL, job.log
    seen = without(job, [])
    assert seen in (before, left), "readers see the old night or the new one"
    assert job.finish("compact") == 0, job.log
    assert without(job, []) == left
    assert owner not in pages(job)
    assert not list((job.directory / "state").glob("forget*"))
    assert job.finish("vacuum", "--now") == 0
    assert owner not in written(job)
    assert_all_is_well(job)


def test_a_studio_and_a_dataset_are_forgotten(three_nights):
    job = three_nights
    studios = [name for (name,) in job.ask("select distinct studio_id from streaming_sessions order by 1")]
    kept = job.rows("streaming_sessions_history", f"studio_id = '{studios[1]}'")

    forgotten(job, parents={"studioId": studios[0]})

    assert job.rows("streaming_sessions_history") == kept
    assert job.ask("select distinct studio_id from streaming_session_changes") == [(studios[1],)]
    assert job.ask("select count(*) from etl_slices where parents['studioId'] = $studio", studio=studios[0]) == [(0,)]
    assert_all_is_well(job)

    forgotten(job, dataset="streaming_sessions")

    assert job.rows("streaming_sessions_history") == job.rows("streaming_session_tags_history") == []
    assert job.ask("select count(*) from streaming_session_changes") == [(0,)]
    assert len(job.rows("studios_history")) == 6
    assert "sessionId" not in pages(job)
    assert_all_is_well(job)
    job.run(NIGHTS[2], fresh=True)
    assert len(job.rows("streaming_sessions")) > 100, "the source still has them"


def test_a_run_with_nothing_left_leaves_no_trace(three_nights):
    job = three_nights
    forgotten(job, until=NIGHTS[0])

    assert job.ask("select distinct snapshot_date from etl_runs order by all") == [(night,) for night in NIGHTS[1:]]
    assert len(ledger_paths(job.directory / "state")) == 2
    assert_all_is_well(job)


@pytest.mark.parametrize("with_ledgers", [True, False])
def test_the_history_goes_on_across_dates_that_are_forgotten(job, studio, tmp_path, monkeypatch, with_ledgers):
    """What is left of the history is that of a job that has not exported on these dates."""
    other = job_at(tmp_path / "other", studio).lend_credentials(monkeypatch)
    for number in range(4):
        studio.set_instant(NIGHT + dt.timedelta(days=number))
        job.run(DATE + dt.timedelta(days=number))
        if number in {0, 3}:
            other.run(DATE + dt.timedelta(days=number))
    if not with_ledgers:
        shutil.rmtree(job.directory / "state" / "runs")

    forgotten(job, since=NIGHTS[1], until=NIGHTS[2])

    assert without(job, []) == without(other, [])
    assert job.ask("select count(*) from streaming_sessions_versions where not is_current")[0][0] > 0
    assert_all_is_well(job)


def test_fault_81_the_history_begins_after_the_dates_that_are_forgotten_although_its_daily_rows_are_gone(three_nights):
    job = three_nights
    job.configure("warehouse: {keep_snapshots: 1d, vacuum_grace: 0s}")
    shown = f"select * exclude (run_id, valid_from) from streaming_sessions_as_of('{NIGHTS[1]} 23:59:59Z')"
    asked = f"select row::varchar from ({shown}) as row order by all"
    before = job.ask(asked)
    shutil.rmtree(job.directory / "state" / "runs")
    vacuum(job.settings())
    assert job.ask("select distinct snapshot_date from streaming_sessions_history") == [(NIGHTS[2],)]
    assert job.ask(asked) == before

    forgotten(job, until=NIGHTS[0])

    assert job.ask(asked) == before
    assert job.ask("select distinct change from streaming_session_changes where previous_date is null") == [
        ("appeared",)
    ]


def test_a_hashed_person_is_found_by_name_and_by_hash(job, monkeypatch):
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", KEY)
    job.run(NIGHTS[0])
    owner, other = (
        name for (name,) in job.ask("select owned_by from streaming_sessions group by all order by 1 limit 2")
    )
    job.configure("privacy: {rules: {'*': {owned_by: hash, session_id: hash}}}")
    job.run(NIGHTS[1])
    hashed = dict(job.ask(
        "select a.owned_by, b.owned_by from streaming_sessions_history as a join streaming_sessions_history as b"
        " using (created_at, created_by, arn) where a.snapshot_date < b.snapshot_date"
        " and a.studio_id = b.studio_id"
    ))  # fmt: skip

    forgotten(job, where=person(owner))
    forgotten(job, where=[f"owned_by={hashed[other]}"])

    seen = {
        name
        for (name,) in job.ask(
            "select owned_by from streaming_sessions_history union select owned_by from streaming_session_changes"
        )
    }
    assert len(seen) > 4
    assert seen.isdisjoint({owner, other, hashed[owner], hashed[other]})
    assert owner not in pages(job)
    assert_all_is_well(job)


def test_a_listing_that_was_filtered_by_the_person_goes_as_a_whole(three_nights):
    job = three_nights
    owner = owner_of_a_reject(job)
    job.run(NIGHTS[2], overrides={"filters": {"owned_by": owner}})
    assert job.ask("select count(*) > 0 from etl_slices where is_filtered") == [(True,)]

    forgotten(job, where=person(owner))

    assert job.ask("select count(*) from etl_slices where is_filtered") == [(0,)]
    for path in ledger_paths(job.directory / "state"):
        assert owner.encode() not in path.read_bytes()
    assert_all_is_well(job)


def test_tags_and_lists_are_searched_too(three_nights):
    job = three_nights
    artist = job.ask(
        "select value from streaming_session_tags where key = 'Project' group by all order by count(*) limit 1"
    )[0][0]
    forgotten(job, where=[f"tags.Project={artist}"])
    assert job.ask(
        "select count(*) from streaming_session_tags_history where key = 'Project' and value = $it", it=artist
    ) == [(0,)]
    assert job.ask("select count(*) from streaming_session_changes where tags['Project'] = $it", it=artist) == [(0,)]
    assert_all_is_well(job)


def test_fault_75_another_machine_does_not_bring_a_person_back(three_nights, tmp_path):
    """Its ledgers still have the pages: they are not believed any more, and forget in their turn."""
    job = three_nights
    owner = owner_of_a_reject(job)
    shutil.move(job.directory / "state", tmp_path / "other")
    forgotten(job, where=person(owner))
    shutil.rmtree(job.directory / "state")
    shutil.move(tmp_path / "other", job.directory / "state")

    assert {problem.partition("has other pages")[1] for problem in job.problems()} == {"has other pages"}
    replay(job.settings(), Dates(since=DATE))
    assert job.ask("select count(*) from streaming_sessions_history where owned_by = $owner", owner=owner) == [(0,)]
    assert forgotten(job, where=person(owner))
    assert owner not in pages(job)
    assert_all_is_well(job)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({}, "say what"),
        ({"where": ["owned_by"]}, "expected COLUMN=VALUE"),
        ({"where": ["owner=me"]}, "--where: found owner; expected a column of"),
        ({"where": ["owned_by=me"], "since": DATE}, "leave --since and --until out"),
        ({"since": NIGHTS[1], "until": NIGHTS[0]}, "is after --until"),
        ({"dataset": "sessions"}, "nothing is there of this dataset"),
    ],
)
def test_what_selects_nothing_is_refused(three_nights, chosen, message):
    with pytest.raises(ConfigError, match=message):
        forgotten(three_nights, **chosen)


def test_a_ledger_that_cannot_be_searched_is_named_before_anything_changes(three_nights):
    job = three_nights
    before = without(job, [])
    path = ledger_paths(job.directory / "state")[0]
    path.write_bytes(b"no ledger")

    with pytest.raises(LedgerError, match=f"{path.name}.*remove it, then forget again"):
        forgotten(job, where=person(owner_of_a_reject(job)))

    assert without(job, []) == before
    path.rename(path.with_suffix(".damaged"))
    asked = job.cli("forget", "--where", f"owned_by={owner_of_a_reject(job)}", "--yes")
    assert asked.returncode == 5
    assert "this damaged ledger cannot be searched; remove it" in asked.stdout


def test_it_says_where_a_value_still_is(three_nights):
    job = three_nights
    owner = owner_of_a_reject(job)

    found = forget(job.settings(), select(where=[f"owned_by={owner}"]), confirmed=True)

    left = {one.place: one.rows for one in found.left}
    assert left.keys() >= {"streaming_sessions.created_by", "streaming_sessions.updated_by"}
    for place, rows in left.items():
        table, _, column = place.partition(".")
        relation = table if table.endswith("_changes") else f"{table}_history"
        assert job.ask(f"select count(*) from {relation} where {column} = $name", name=owner) == [(rows,)], place
    assert "streaming_sessions.owned_by" not in left
