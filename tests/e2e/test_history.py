"""The change log holds every version: any night can be had back from it, whatever happened in between."""

import datetime as dt
import json
from itertools import pairwise

import duckdb
import pyarrow as pa
import pytest
from support.damage import flipped
from support.job import DATE, NIGHT, job_at
from support.stores import overwrite
from support.studios import LIST, listed_sessions

import etl.load.catalog.packs
from etl.jobs.replay import Selection, replay
from etl.jobs.upkeep import vacuum
from etl.jobs.workplace import workplace
from etl.load.catalog.packs import list_packs
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME
from etl.pipeline.rewrite import rewrite_rows
from etl.pipeline.write import Writer

COLUMNS = (
    "session_id, studio_id, state, owned_by, started_at::varchar, stopped_at::varchar, volume_configuration_size,"
    " updated_at::varchar"
)
TAGS = "list_sort(map_entries(tags))::varchar"


def night(number):
    return DATE + dt.timedelta(days=number)


def export(job, studio, *numbers, **request):
    for number in numbers:
        studio.set_instant(NIGHT + dt.timedelta(days=number))
        (outcome,) = job.run(night(number), **request)
    return outcome


def changes(job, where="true"):
    return job.ask(
        "select snapshot_date, previous_date, studio_id, session_id, change, changed_columns, old_values::varchar"
        f" from streaming_session_changes where {where} order by all"
    )


def as_of(job, date):
    return job.ask(
        f"select {COLUMNS}, {TAGS} from streaming_sessions_as_of(timestamptz '{date} 23:59:59Z') order by all"
    )


def snapshot(job, date):
    return job.ask(
        f"select {COLUMNS}, {TAGS} from streaming_sessions_history where snapshot_date = '{date}' order by all"
    )


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_macros_mean_the_same_date_in_every_time_zone(job, studio, zone):
    """A BI tool asks in the time zone of its machine."""
    export(job, studio, 0, 1)
    first, second = night(0), night(1)
    with duckdb.connect(job.directory / "warehouse" / CATALOG_NAME, read_only=True) as reader:
        reader.execute(f"set TimeZone = '{zone}'")

        def newest(instant):
            statement = f"select max(valid_from) from streaming_sessions_as_of({instant})"
            return reader.execute(statement).fetchall()[0][0]

        for form in ("date '{}'", "'{}'", "timestamp '{} 23:00:00'", "timestamptz '{} 23:00:00Z'", "'{} 23:00:00Z'"):
            assert newest(form.format(first)) == first, form
            assert newest(form.format(second)) == second, form
        # The offset of a text counts: that is 07:30 of the second night in UTC.
        assert newest(f"'{first}T23:30:00-08:00'") == second
        assert newest(f"'{second} 00:30:00+09'") == first
        between = f"from streaming_session_changes_between(timestamptz '{second} 02:00:00Z', '{second}')"
        dates = reader.execute(f"select distinct snapshot_date {between}").fetchall()
        assert dates == [(second,)]


@pytest.mark.on_disk
def test_macros_work_in_a_catalog_that_is_attached_under_any_name(job, studio):
    export(job, studio, 0, 1)
    expected = [
        job.ask(f"select count(*) from streaming_sessions_as_of('{night(0)}')"),
        job.ask(f"select count(*) from streaming_session_changes_between('{night(0)}', '{night(1)}')"),
    ]
    with duckdb.connect() as reader:
        reader.execute(f"attach '{job.directory / 'warehouse' / CATALOG_NAME}' as nimble (read_only)")
        found = [
            reader.execute(f"select count(*) from nimble.streaming_sessions_as_of('{night(0)}')").fetchall(),
            reader.execute(
                f"select count(*) from nimble.streaming_session_changes_between('{night(0)}', '{night(1)}')"
            ).fetchall(),
        ]
    assert found == expected
    assert expected[0][0][0] > 0


def test_a_macro_names_the_slices_of_its_own_dataset_and_no_others(job, studio):
    """It names them one by one. With the slices of all datasets, each macro would grow with each of them."""
    export(job, studio, 0)
    ((definition,),) = job.ask(
        "select macro_definition from duckdb_functions() where function_name = 'streaming_sessions_as_of'"
    )
    slices = job.ask("select dataset, slice_id from current_slices")
    assert {dataset for dataset, _ in slices} == {"studios", "streaming_sessions"}
    assert {dataset for dataset, slice_id in slices if slice_id in definition} == {"streaming_sessions"}


def test_as_of_any_night_is_the_snapshot_of_that_night(job, studio):
    export(job, studio, 0, 1, 2, 3)

    for number in range(4):
        assert as_of(job, night(number)) == snapshot(job, night(number)) != []
    assert job.ask("select count(*) from streaming_sessions_versions where is_current") == job.ask(
        "select count(*) from streaming_sessions"
    )
    kinds = {change for (*_, change, _, _) in changes(job)}
    assert kinds == {"appeared", "changed", "vanished"}


def test_changes_are_those_of_an_independent_comparison_of_records(job, studio):
    export(job, studio, 0, 1, 2)
    world = studio.world
    expected = set()
    for before, after in pairwise(range(3)):
        then, now = (
            {record["sessionId"]: record for record in listed_sessions(world, NIGHT + dt.timedelta(days=number))}
            for number in (before, after)
        )
        for key in then.keys() | now.keys():
            if then.get(key) != now.get(key):
                kind = "changed" if key in then and key in now else "appeared" if key in now else "vanished"
                expected.add((night(after), key, kind))

    found = {(date, key, kind) for date, previous, _, key, kind, *_ in changes(job) if previous}

    assert found == expected


def test_a_change_names_its_columns_and_what_they_were(job, studio):
    export(job, studio, 0, 1)

    rows = job.ask(
        "select c.changed_columns, c.old_values::json::varchar, to_json(b)::varchar, to_json(a)::varchar"
        " from streaming_session_changes c"
        f" join streaming_sessions_history b on b.session_id = c.session_id and b.snapshot_date = '{night(0)}'"
        f" join streaming_sessions_history a on a.session_id = c.session_id and a.snapshot_date = '{night(1)}'"
        " where change = 'changed'"
    )

    assert rows
    own = {"run_id", "extracted_at", "page_number", "snapshot_date"}
    for columns, old, before, after in rows:
        then, now = json.loads(before), json.loads(after)
        assert set(columns) == {name for name in then if name not in own and then[name] != now[name]}
        assert {name: text and json.loads(text) for name, text in json.loads(old).items()} == {
            name: then[name] for name in columns
        }


def test_a_studio_that_failed_last_night_neither_vanishes_nor_changes(job, studio):
    export(job, studio, 0)
    failing = studio.world.studio_ids[0]
    studio.set_faults([f"access-denied:{LIST},studio={failing},times=ever"])
    assert export(job, studio, 1).exit_code == 5
    assert changes(job, f"studio_id = '{failing}' and snapshot_date = '{night(1)}'") == []
    assert as_of(job, night(1)) != []
    still = job.ask(f"select count(*) from streaming_sessions_as_of('{night(1)}') where studio_id = '{failing}'")
    assert still == job.ask(
        f"select count(*) from streaming_sessions_as_of('{night(0)}') where studio_id = '{failing}'"
    )

    studio.set_faults([])
    export(job, studio, 2)

    assert {row[1] for row in changes(job, f"studio_id = '{failing}' and snapshot_date = '{night(2)}'")} == {night(0)}


def test_the_same_night_again_leaves_the_same_log(job, studio):
    export(job, studio, 0, 1)
    before = changes(job)
    export(job, studio, 1)
    assert changes(job) == before


def test_a_night_that_is_filled_in_later_changes_the_comparison_of_the_next(job, studio):
    export(job, studio, 0, 2)
    assert {row[1] for row in changes(job, f"snapshot_date = '{night(2)}'")} == {night(0)}
    export(job, studio, 1)

    assert {row[1] for row in changes(job, f"snapshot_date = '{night(2)}'")} == {night(1)}
    for number in range(3):
        assert as_of(job, night(number)) == snapshot(job, night(number))


@pytest.mark.parametrize("request_of", [{"max_items": 5}, {"filters": {"created_by": "nobody"}}])
def test_what_was_not_a_whole_unfiltered_walk_says_nothing_of_changes(job, studio, request_of):
    export(job, studio, 0)
    before = changes(job)
    studio.set_instant(NIGHT + dt.timedelta(days=1))
    job.run(night(1), overrides=request_of, publish_partial=True)
    assert [row for row in changes(job) if row[2] is not None] == before


def test_a_vanished_session_that_comes_back_has_a_gap(job, studio):
    export(job, studio, 0, 1)
    session_id, _ = job.ask("select session_id, studio_id from streaming_session_changes where change = 'vanished'")[0]
    # The world goes back: what is gone on night 1 is there on night 0.
    studio.set_instant(NIGHT)
    job.run(night(2), allow_fall=True)

    versions = job.ask(
        f"select valid_from, valid_to from streaming_sessions_versions where session_id = '{session_id}' order by 1"
    )
    assert versions == [(night(0), night(1)), (night(2), None)]


def test_macros_can_be_asked_through_the_command_line(job, studio):
    export(job, studio, 0, 1)
    counted = job.cli("sql", f"select count(*) from streaming_sessions_as_of('{night(0)}')", "--format", "csv")
    assert counted.returncode == 0
    assert int(counted.stdout.split()[-1]) == len(snapshot(job, night(0)))
    between = job.cli("sql", f"from streaming_session_changes_between('{night(1)}', '{night(1)}')", "--format", "csv")
    assert len(between.stdout.splitlines()) == 1 + len(changes(job, f"snapshot_date = '{night(1)}'"))


RELATIONS = (
    "streaming_sessions_history", "streaming_session_tags_history", "streaming_session_changes",
    "streaming_sessions_versions", "studios_history", "etl_runs", "etl_slices", "etl_pages", "snapshots",
)  # fmt: skip


def test_fault_39_past_months_say_the_same_from_packs_as_file_by_file(job, studio, monkeypatch):
    """Nine nights of a past month, and one of this; then a pack is damaged, a night exported anew, and vacuumed."""

    def answers():
        return {relation: job.ask(f"select r::varchar from {relation} as r order by all") for relation in RELATIONS}

    def files():
        return {file for file in list_packs(job.store) if file.endswith(".parquet")}

    def table_of(pack):
        return pack.split("/")[-2]

    job.configure("warehouse: {vacuum_grace: 0s}")
    export(job, studio, *range(-30, -21), 0)
    packed = answers()
    assert {table_of(pack) for pack in files()} >= {"streaming_session_changes", "etl_slices", "etl_runs"}
    with monkeypatch.context() as patch:
        patch.setattr(etl.load.catalog.packs, "_FEWEST_FILES", 10**9)
        with workplace(job.settings()) as place:
            place.show()
        assert ".packs" not in job.ask("select sql from duckdb_views() where view_name = 'etl_slices'")[0][0]
        assert answers() == packed

    assert job.problems() == []
    (pack,) = (one for one in files() if table_of(one) == "streaming_session_changes")
    overwrite(job.store, pack, flipped(job.store.read(pack), 200))
    (problem,) = job.problems()
    assert problem == f"{pack}: it is not what was written; remove it: the next catalog makes it again"

    overwrite(job.store, pack, None)
    before = files()
    export(job, studio, -25, fresh=True)
    removed = {done.table: done.removed for done in vacuum(job.settings())}
    assert removed["etl_slices"] == 1, "its pack: another run of a date has a file of its own"
    assert removed["streaming_session_changes"] > 1
    assert len(files()) == len(before) + 1, "one for each, and the one that was removed"
    assert not files() & {file for file in before if table_of(file) == "etl_slices"}
    assert len(answers()["streaming_session_changes"]) == len(packed["streaming_session_changes"])


@pytest.mark.parametrize("kept_ledgers", [True, False])
def test_fault_76_a_record_that_is_rejected_for_a_night_neither_vanishes_nor_appears_again(
    job, studio, tmp_path, monkeypatch, kept_ledgers
):
    """The history is that of a job whose source had no faulty night, but for what such a night could not show."""
    other = job_at(tmp_path / "other", studio).lend_credentials(monkeypatch)
    for number in range(5):
        studio.set_instant(NIGHT + dt.timedelta(days=number))
        other.run(night(number))
        studio.set_faults([f"bad-timestamp:{LIST},page=1,times=2"] if number in {1, 2} else [])
        job.run(night(number))
        studio.set_faults([])
    rejected = {
        record["sessionId"] for (text,) in job.ask("select record from etl_rejects") for record in [json.loads(text)]
    }
    assert len(rejected) >= 2
    ids = ", ".join(map(repr, sorted(rejected)))
    if kept_ledgers:
        replay(job.settings(), Selection(since=night(0)))

    kinds = (
        "select session_id, change, count(*) from streaming_session_changes where change <> 'changed'"
        " group by all order by all"
    )
    assert job.ask(kinds) == other.ask(kinds)
    assert changes(job, f"session_id not in ({ids})") == changes(other, f"session_id not in ({ids})")
    newest = (
        "select v::varchar from (select * exclude (run_id, seen_until, valid_from) from streaming_sessions_versions"
        " where is_current) as v order by all"
    )
    assert job.ask(newest) == other.ask(newest)
    for number in (0, 3, 4):
        assert as_of(job, night(number)) == snapshot(other, night(number)), number
    listed = job.ask(f"select count(*) from streaming_sessions_as_of('{night(1)}') where session_id in ({ids})")
    assert listed == [(len(rejected),)], "they were listed"
    assert job.problems() == []


def test_a_replay_of_nights_with_rejects_compares_each_snapshot_twice_and_no_more(job, studio):
    """Once for its own date, and once for the date before. A chain to the end for each date would be quadratic."""
    nights = 5
    for number in range(nights):
        studio.set_instant(NIGHT + dt.timedelta(days=number))
        studio.set_faults([f"bad-timestamp:{LIST},page=1,times=2"])
        job.run(night(number))
    tables = Tables(job.store)
    before, right = tables.read("streaming_session_changes").version, changes(job)
    assert job.ask("select count(distinct snapshot_date) from etl_rejects") == [(nights,)]

    replay(job.settings(), Selection(since=night(0)))

    assert tables.read("streaming_session_changes").version == before + 2 * nights - 1
    assert changes(job) == right
    assert job.problems() == []


@pytest.mark.parametrize("faulty", [(1,), (1, 2)])
def test_a_night_that_changes_is_felt_beyond_the_nights_that_rejected(job, studio, faulty):
    """What was before a rejected record counts. If it changes later, so do the changes after the rejection."""
    for number in range(4):
        studio.set_instant(NIGHT + dt.timedelta(days=number))
        studio.set_faults([f"bad-timestamp:{LIST},page=1,times=2"] if number in faulty else [])
        if number:
            job.run(night(number))
    studio.set_faults([])
    studio.set_instant(NIGHT)
    job.run(night(0))

    rejected = {json.loads(text)["sessionId"] for (text,) in job.ask("select record from etl_rejects")}
    for session in rejected:
        first = changes(job, f"session_id = '{session}'")[0]
        assert (first[0], first[4]) == (night(0), "appeared"), "it was there before it was rejected"
        assert [row[4] for row in changes(job, f"session_id = '{session}'")].count("appeared") == 1
    assert job.problems() == []


def test_fault_76_a_record_that_was_rejected_vanishes_in_a_night_without_any_record(job, tmp_path):
    """The nights come in the wrong order: a late one brings the record that the next one rejects."""

    def listed(number, *sessions):
        arn = "arn:aws:nimble:us-west-2:123456789012:streaming-session/"
        dump = tmp_path / f"{number}.json"
        dump.write_text(json.dumps({"sessions": [{"arn": f"{arn}{one['sessionId']}", **one} for one in sessions]}))
        place = ("--studio-id", "s", "--account-id", "123456789012", "--region", "us-west-2")
        date = ("--snapshot-date", night(number).isoformat())
        return job.finish("import", str(dump), *date, *place, "--allow-fall")

    good, doubtful = {"sessionId": "a", "state": "READY"}, {"sessionId": "b", "state": "READY"}
    assert listed(2) == 0, job.log
    assert listed(1, good, doubtful, {**doubtful, "state": "STOPPED"}) == 5, job.log
    assert listed(0, good, doubtful) == 0, job.log

    assert job.ask("select snapshot_date, change, session_id from streaming_session_changes order by all") == [
        (night(0), "appeared", "a"), (night(0), "appeared", "b"),
        (night(2), "vanished", "a"), (night(2), "vanished", "b"),
    ]  # fmt: skip
    assert job.problems() == []


def test_a_record_that_was_never_a_row_appears_when_it_fits(job, studio):
    studio.set_instant(NIGHT)
    studio.set_faults([f"bad-timestamp:{LIST},page=1,times=2"])
    job.run(night(0))
    studio.set_faults([])
    rejected = {json.loads(text)["sessionId"] for (text,) in job.ask("select record from etl_rejects")}
    studio.set_instant(NIGHT + dt.timedelta(days=1))
    job.run(night(1))

    for session in rejected:
        found = changes(job, f"session_id = '{session}'")
        assert [(row[0], row[4]) for row in found] == [(night(1), "appeared")]


def _without_the_last(batch):
    return batch.slice(0, batch.num_rows - 1)


def _with_another_state(batch):
    at = batch.schema.names.index("state")
    return batch.set_column(at, batch.schema.field(at), pa.array(["STOPPED"] * batch.num_rows, pa.string()))


def _with_other_old_values(batch):
    at = batch.schema.names.index("old_values")
    values = [entries and entries[:1] for entries in batch["old_values"].to_pylist()]
    return batch.set_column(at, batch.schema.field(at), pa.array(values, batch.schema.field(at).type))


@pytest.mark.parametrize(
    ("number", "revise"),
    [(0, _without_the_last), (0, _with_another_state), (2, _with_another_state), (2, _with_other_old_values)],
)
def test_verify_computes_the_changes_anew_and_replay_mends_them(job, studio, number, revise):
    export(job, studio, 0, 1, 2)
    whole = "select c::varchar from streaming_session_changes as c order by all"
    right = job.ask(whole)
    assert job.problems() == []
    with workplace(job.settings()) as place, place.alone():
        rewrite_rows(place.tables, "streaming_session_changes", night(number), revise, Writer("by-hand"))
        place.show()
    assert job.ask(whole) != right

    found = job.problems()

    assert found
    for problem in found:
        assert f"table streaming_session_changes, {night(number)}, slice" in problem
        assert "rows are committed" in problem
    replay(job.settings(), Selection(since=night(number)))
    assert job.problems() == []
    assert job.ask(whole) == right
