"""One night, end to end: the real boto3 client, ledger, Delta tables and catalog, against the embedded studio."""

import datetime as dt
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.job import DATE, NIGHT, RUN, job_at
from support.studios import SESSIONS, listed_sessions, studio_of

from etl.emulator import EmbeddedStudio, World
from etl.errors import ConfigError, LockedError
from etl.jobs.verify import verify
from etl.ledger.directory import ledger_paths, lock
from etl.ledger.ledger import Ledger
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME
from etl.outcome import exit_code_of

STRINGS = (
    "arn", "automatic_termination_mode", "backup_mode", "created_by", "ec2_instance_type", "launch_profile_id",
    "owned_by", "session_id", "session_persistence_mode", "started_by", "started_from_backup_id", "state",
    "status_code", "status_message", "stopped_by", "streaming_image_id", "updated_by", "volume_retention_mode",
)  # fmt: skip
INSTANTS = ("created_at", "started_at", "stop_at", "stopped_at", "terminate_at", "updated_at")
VOLUME = ("iops", "size", "throughput")


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def expected_rows(studio, studio_id):
    """The studio's own records, laid out by hand."""
    for record in studio.world.records(SESSIONS, {"studioId": studio_id}, NIGHT):
        volume = record.get("volumeConfiguration") or {}
        yield {
            **{name: record.get(camel(name)) for name in (*STRINGS, *INSTANTS)},
            "max_backups_to_retain": record.get("maxBackupsToRetain"),
            "tags": record.get("tags"),
            **{f"volume_configuration_{name}": volume.get(name) for name in VOLUME},
        }


def exported_rows(job, studio_id):
    columns = [*STRINGS, *INSTANTS, "max_backups_to_retain", "tags", *(f"volume_configuration_{n}" for n in VOLUME)]
    # As text and epoch, for Python needs pytz to receive TIMESTAMPTZ.
    selected = ", ".join(f"epoch_us({name})" if name in INSTANTS else name for name in columns)
    for row in job.ask(f"select {selected} from streaming_sessions where studio_id = $studio_id", studio_id=studio_id):
        found = dict(zip(columns, row, strict=True))
        for name in INSTANTS:
            if found[name] is not None:
                found[name] = dt.datetime.fromtimestamp(found[name] // 10**6, dt.UTC)
        yield found


def test_all_27_members_arrive_with_the_right_type_nulls_included(job, studio):
    (outcome,) = job.run()

    assert outcome.exit_code == 0
    by_id = lambda rows: sorted(rows, key=lambda row: row["session_id"])  # noqa: E731
    for studio_id in studio.world.studio_ids:
        expected = by_id(expected_rows(studio, studio_id))
        assert by_id(exported_rows(job, studio_id)) == expected
        # The comparison is worth something only if optional members do come and go.
        assert {row["stopped_at"] is None for row in expected} == {True, False}
        assert {row["volume_configuration_size"] is None for row in expected} == {True, False}
        assert {row["tags"] is None for row in expected} == {True, False}
    types = dict(job.ask("select column_name, data_type from duckdb_columns() where table_name = 'streaming_sessions'"))
    assert {types[name] for name in STRINGS} == {"VARCHAR"}
    assert {types[name] for name in INSTANTS} == {"TIMESTAMP WITH TIME ZONE"}
    assert types["max_backups_to_retain"] == types["volume_configuration_size"] == "INTEGER"
    assert types["tags"] == "MAP(VARCHAR, VARCHAR)"


def test_tags_are_a_tall_table_too_and_keys_keep_their_case(job, studio):
    job.run()

    expected = sorted(
        (record["sessionId"], key, value)
        for record in listed_sessions(studio.world)
        for key, value in (record.get("tags") or {}).items()
    )
    assert sorted(job.ask("select session_id, key, value from streaming_session_tags")) == expected
    assert {"Name", "name"} <= {key for _, key, _ in expected}


def test_rows_rejects_and_duplicates_add_up_to_the_records_of_the_pages(job):
    job.run()

    for records, pages, accounted in job.ask(
        "select records, (select sum(kept)::int from etl_pages where etl_pages.slice_id = etl_slices.slice_id),"
        " rows + rejects + duplicates from etl_slices"
    ):
        assert records == pages == accounted > 0


def test_a_second_run_for_the_same_date_leaves_the_same_rows(job):
    """It replaces, never appends."""
    job.run()
    before = job.exported_rows()

    (outcome,) = job.run()

    assert outcome.exit_code == 0
    assert job.exported_rows() == before
    assert job.ask("select distinct run_id from streaming_sessions_history") == [(outcome.run.run_id,)]


def test_a_run_of_one_studio_leaves_the_rows_of_the_other_untouched(job, studio):
    first, second = studio.world.studio_ids
    job.run()
    rows = "select hash(columns(*)) from streaming_sessions_history where studio_id = $studio_id order by all"
    before = {studio_id: job.ask(rows, studio_id=studio_id) for studio_id in (first, second)}

    job.run(overrides={"studio_ids": [first]})

    assert job.ask(rows, studio_id=second) == before[second]
    assert job.ask(rows, studio_id=first) != before[first], "run_id and extracted_at are those of the new run"
    assert len(job.ask(rows, studio_id=first)) == len(before[first])


def test_history_keeps_every_night_and_the_current_view_shows_the_newest(job, studio):
    counts = {}
    for days in range(3):
        night = NIGHT + dt.timedelta(days)
        studio.set_instant(night)
        job.run(night.date())
        counts[night.date()] = len(list(listed_sessions(studio.world, night)))

    history = job.ask("select snapshot_date, count(*) from streaming_sessions_history group by all order by all")
    assert history == sorted(counts.items())
    assert job.ask("select distinct snapshot_date from streaming_sessions") == [(max(counts),)]
    assert job.ask("select distinct snapshot_date from streaming_session_tags") == [(max(counts),)]


def test_max_items_stops_resumable_and_the_next_runs_go_on_to_the_same_rows(job, studio, tmp_path):
    """50 records are two and a half pages: botocore's truncation inside a page is part of the checkpoint."""
    whole = job_at(tmp_path / "whole", studio)
    whole.run()

    codes = []
    for _ in range(3):
        (outcome,) = job.run(overrides={"max_items": 50})
        codes.append(outcome.exit_code)
        tokens = [facts.starting_token for facts in outcome.slices if facts.slice.dataset == "streaming_sessions"]
        assert all(tokens) == (outcome.exit_code == 3)

    assert codes == [3, 3, 0]
    sessions = "select * replace (0 as page_number) from streaming_sessions"
    assert job.rows(f"({sessions})") == whole.rows(f"({sessions})")
    assert job.ask("select count(*) from etl_runs") == [(1,)]


def test_an_incomplete_walk_is_not_published_unless_asked_for_and_is_then_marked(job):
    (outcome,) = job.run(overrides={"max_items": 50})
    assert outcome.exit_code == 3
    assert "streaming_sessions" not in Tables(job.store).names()

    (outcome,) = job.run(overrides={"max_items": 10}, publish_partial=True)

    assert outcome.exit_code == 3
    assert job.ask("select count(*) from streaming_sessions_history") == [(120,)]
    assert job.ask("select count(*) from streaming_sessions") == [(0,)], "it is not the newest complete snapshot"
    assert set(job.ask("select is_partial, state, rows from etl_slices where dataset = 'streaming_sessions'")) == {
        (True, "walking", 60)
    }

    (outcome,) = job.run()
    assert outcome.exit_code == 0
    assert job.ask("select count(*) from streaming_sessions") == job.ask(
        "select sum(records)::int from etl_slices where dataset = 'streaming_sessions'"
    )
    assert job.ask("select bool_or(is_partial) from etl_slices") == [(False,)]


def test_a_partial_walk_never_replaces_a_complete_snapshot_of_its_date(job):
    job.run()
    before = job.ask("select studio_id, session_id, run_id from streaming_sessions order by all")

    job.run(fresh=True, overrides={"max_items": 10}, publish_partial=True)

    assert job.ask("select studio_id, session_id, run_id from streaming_sessions order by all") == before


def test_starting_token_begins_there_and_needs_publish_partial(job, studio):
    """A walk that began in the middle has not seen everything, however well it ended."""
    first = studio.world.studio_ids[0]
    one = {"datasets": ["streaming_sessions"], "studio_ids": [first]}
    (outcome,) = job.run(overrides={**one, "max_items": 45})
    (facts,) = outcome.slices
    whole = job.run(DATE + dt.timedelta(1), overrides=one)[0].counts["records"]

    (outcome,) = job.run(overrides=one, starting_token=facts.starting_token)
    assert outcome.counts["records"] == whole - 45
    assert outcome.counts["rows"] == 0
    assert outcome.exit_code == 1
    assert "began at a starting token" in outcome.slices[0].error
    assert "--publish-partial" in outcome.slices[0].error

    (outcome,) = job.run(overrides=one, starting_token=facts.starting_token, publish_partial=True)
    assert outcome.counts["rows"] == whole - 45
    assert outcome.exit_code == 0
    assert job.ask("select is_partial, state from etl_slices where is_partial") == [(True, "complete")]


def test_starting_token_for_several_datasets_is_refused(job):
    """`studios` has one slice too: the token of a listing of sessions would be sent with it."""
    (outcome,) = job.run(overrides={"max_items": 45})
    token = next(facts.starting_token for facts in outcome.slices if facts.starting_token)

    with pytest.raises(ConfigError, match=r"of one dataset, and streaming_sessions, studios are exported"):
        job.run(starting_token=token)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], 0),
        ([0], 0),
        ([1], 1),
        ([0, 0], 0),
        ([1, 1], 1),
        ([5, 3], 3),
        ([3, 1], 3),
        ([0, 1], 5),
        ([0, 5], 5),
        ([1, 5], 5),
    ],
)
def test_exit_code_of_several_runs(codes, expected):
    """An earlier run that is finished first hides neither that this one is resumable nor that it is published."""
    assert exit_code_of([SimpleNamespace(exit_code=code) for code in codes]) == expected


def test_starting_token_for_several_slices_is_refused(job):
    (outcome,) = job.run(overrides={"max_items": 45})
    token = next(facts.starting_token for facts in outcome.slices if facts.starting_token)

    with pytest.raises(ConfigError, match="has 2 slices and a token belongs to one"):
        job.run(overrides={"datasets": ["streaming_sessions"]}, starting_token=token)


@pytest.mark.parametrize(
    ("flag", "member"), [("created_by", "createdBy"), ("owned_by", "ownedBy"), ("session_ids", "sessionId")]
)
def test_filters_reach_the_service_and_never_hide_the_whole_snapshot(job, studio, flag, member):
    first = studio.world.studio_ids[0]
    records = list(studio.world.records(SESSIONS, {"studioId": first}, NIGHT))
    value = records[7][member]
    job.run()

    (outcome,) = job.run(
        overrides={"filters": {flag: value}, "studio_ids": [first], "datasets": ["streaming_sessions"]}
    )

    expected = sorted(record["sessionId"] for record in records if record[member] == value)
    (facts,) = outcome.slices
    assert facts.rows == len(expected)
    rows = job.ask(
        "select session_id from streaming_sessions_history where slice_id = $slice_id order by all",
        slice_id=facts.slice.slice_id,
    )
    assert [session_id for (session_id,) in rows] == expected
    assert job.ask("select count(*) from streaming_sessions where studio_id = $studio_id", studio_id=first) == [
        (len(records),)
    ]


def test_a_changed_filter_is_a_new_run_and_the_checkpoint_stays_for_the_old_one(job, studio):
    """Fault 17: never a mixture."""
    job.run(overrides={"max_items": 50})
    owner = next(listed_sessions(studio.world))["ownedBy"]

    job.run(overrides={"filters": {"owned_by": owner}})
    (resumed,) = job.run()

    assert len(ledger_paths(job.directory / "state")) == 2
    assert resumed.run.invocations == 2


def test_a_second_run_at_the_same_time_exits_4_at_once(job, studio):
    """Fault 41."""
    with lock(job.directory / "state"):
        with pytest.raises(LockedError, match="another run holds the lock"):
            job.run()
        ended = job.cli("run")

    assert ended.returncode == 4
    assert "another run holds the lock" in ended.stderr
    assert studio.requests == []


def test_a_reader_without_nimble_etl_gets_an_answer(job):
    """`duckdb warehouse.duckdb -c …`: nothing but DuckDB, in isolated mode, from another directory."""
    job.run()
    catalog = job.directory / "warehouse" / CATALOG_NAME
    program = (
        f"import duckdb, sys; c = duckdb.connect({str(catalog)!r}, read_only=True);"
        "print(c.execute('select count(*), count(distinct studio_id) from streaming_sessions').fetchone());"
        "assert not any(name == 'etl' or name.startswith('etl.') for name in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, cwd="/")

    (count,) = job.ask("select count(*) from streaming_sessions")[0]
    assert ended.stdout == f"({count}, 2)\n"


def test_everything_published_verifies(job):
    job.run()
    findings = list(verify(job.settings()))

    assert len(findings) == 3
    assert [finding.problem for finding in findings] == [None] * 3


def test_verify_names_a_snapshot_whose_rows_are_not_those_of_its_pages(job):
    """A row too few, with everything else in order, must not pass."""
    job.run()
    (path,) = ledger_paths(job.directory / "state")
    with Ledger.open(path) as ledger:
        page = next(row for row in ledger.page_facts() if row["dataset"] == "streaming_sessions")
        ledger.database.write(
            "update page set stop = stop - 1 where slice_id = ? and number = ?", page["slice_id"], page["number"]
        )

    problems = job.problems()
    assert len(problems) == 1
    assert "rows are committed" in problems[0]


def test_the_command_line_ends_with_one_line_and_the_right_exit_code(job):
    ended = job.cli(*RUN)

    assert ended.returncode == 0
    assert ended.stdout.startswith(f"{DATE}: published; 3 slices, 13 pages")
    assert len(ended.stdout.splitlines()) == 1

    stopped = job.cli(*RUN, "--max-items", "50", "--json")
    assert stopped.returncode == 3
    (found,) = json.loads(stopped.stdout)["runs"]
    assert [entry["state"] for entry in found["slices"]] == ["complete", "walking", "walking"]
    assert all(entry["starting_token"] for entry in found["slices"][1:])

    status = json.loads(job.cli("status", "--json").stdout)
    assert [run["exit_code"] for run in status["runs"]] == [3, 0]
    assert {entry["state"] for entry in status["unfinished"]} == {"complete", "walking"}
    assert {entry["dataset"] for entry in status["snapshots"]} == {"studios", "streaming_sessions"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--starting-token", "abc"], "--starting-token: this is not a starting token"),
        (["run", "--snapshot-date", "soon"], "--snapshot-date: found 'soon'"),
        (["run", "--snapshot-date", "2999-01-01"], "2999-01-01 is in the future"),
        (
            ["run", "--dataset", "sessions"],
            "'sessions' is not defined (did you mean streaming_sessions?); known are studios",
        ),
        (["run", "--max-duration", "long"], "expected a duration"),
        (["sql", "select * from nowhere"], "there is no catalog yet"),
        (["query", "nothing"], "query 'nothing' does not exist"),
        (["query", "idle_sessions", "--days", "1"], "unknown parameter days; it takes --hours INTEGER"),
        (["describe", "nothing"], "table 'nothing' is not filled"),
    ],
)
def test_an_operators_mistake_is_a_sentence_and_not_a_traceback(job, arguments, says):
    ended = job.cli(*arguments)

    assert ended.returncode in (1, 2)
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.on_disk
def test_the_embedded_studio_needs_no_credentials_and_no_network(tmp_path, monkeypatch):
    """The default configuration, as `make demo` uses it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    job = job_at(tmp_path, EmbeddedStudioStandIn(), rest="emulator: {sessions_per_studio: 60, page_size: 20}")
    (outcome,) = job.run()

    assert outcome.exit_code == 0
    assert outcome.counts["rows"] == 2 + len(list(listed_sessions(World(sessions_per_studio=60))))


class EmbeddedStudioStandIn:
    """Only the words that go into the configuration: the job starts the studio itself."""

    endpoint_url = "embedded"
    credentials = EmbeddedStudio.credentials


def test_slices_are_planned_in_few_transactions(tmp_path, monkeypatch):
    """Each transaction waits for the disk: one for the studios, and one for the sessions of all of them."""
    planned, add = [], Ledger.add_slices

    def counted(ledger, slices):
        slices = list(slices)
        planned.append(len(slices))
        add(ledger, slices)

    monkeypatch.setattr(Ledger, "add_slices", counted)
    with studio_of(World(studios=30, sessions_per_studio=2)) as studio:
        job = job_at(tmp_path, studio).lend_credentials(monkeypatch)
        assert job.run()[0].exit_code == 0
    assert planned == [1, 30]


def test_forty_studios_are_walked_concurrently(tmp_path, monkeypatch):
    """With one request at a time, no two would be in flight together."""
    with studio_of(World(studios=40, sessions_per_studio=30), page_size=10, latency_s=0.02) as studio:
        job = job_at(tmp_path, studio, rest="run: {concurrency: 16}").lend_credentials(monkeypatch)
        (outcome,) = job.run()

    assert outcome.exit_code == 0
    assert len(outcome.slices) == 41
    overlapping = job.ask(
        "select count(*) from etl_slices a join etl_slices b on a.slice_id < b.slice_id"
        " and a.observed_from < b.observed_until and b.observed_from < a.observed_until"
    )
    assert overlapping[0][0] > 100


def test_status_says_how_old_each_studio_is_and_calls_for_help_past_the_configured_age(job):
    job.configure("status: {max_age: 0s}")
    assert job.cli("status").returncode == 5, "nothing was ever published"
    job.run()

    late = job.cli("status", "--json")
    in_time = job.cli("status", "--json", "--max-age", "1h")

    assert late.returncode == 5
    assert {row["state"] for row in json.loads(late.stdout)["snapshots"]} == {"too old"}
    assert in_time.returncode == 0
    assert {row["state"] for row in json.loads(in_time.stdout)["snapshots"]} == {"ok"}


def test_a_studio_that_is_no_longer_listed_calls_for_no_help(job, studio):
    job.run()
    with studio_of(World(studios=1, sessions_per_studio=120)) as smaller:
        (left,) = smaller.world.studio_ids
        (outcome,) = job_at(job.directory, smaller).run(DATE + dt.timedelta(days=1))
    assert outcome.exit_code == 0

    found = json.loads(job.cli("status", "--json", "--max-age", "0s").stdout)

    states = {row["slice"]: row["state"] for row in found["snapshots"]}
    gone = next(name for name in studio.world.studio_ids if name != left)
    assert states == {left: "too old", gone: "no longer listed", "": "too old"}


def test_a_dataset_with_fixed_parameters_too_calls_for_help(job, studio):
    """What a slice is asked for with is not only what its parent's record says."""
    job.configure(
        "datasets:\n- studios\n- {name: images, service: nimble,"
        " operation: list_streaming_images, key: [streaming_image_id], parameters: {owner: someone},"
        " for_each: {dataset: studios, bind: {studioId: studio_id}}}"
    )
    job.run()

    found = json.loads(job.cli("status", "--json", "--max-age", "0s").stdout)

    images = [row for row in found["snapshots"] if row["dataset"] == "images"]
    assert len(images) == len(studio.world.studio_ids)
    assert {row["state"] for row in images} == {"too old"}


@pytest.mark.parametrize(
    ("datasets", "table"),
    [
        ("{name: snapshots, service: nimble, operation: list_studios, key: [studio_id]}", "snapshots"),
        ("{name: etl_runs, service: nimble, operation: list_studios, key: [studio_id]}", "etl_run_tags"),
        ("studios, {name: s, item: studio, service: nimble, operation: list_studios, key: [studio_id]}", "studio_tags"),
    ],
)
def test_a_table_that_has_the_name_of_another_is_refused(job, datasets, table):
    """Found when the catalog is built, it would end every night after its commits."""
    job.configure(f"datasets: [{datasets}]")

    done = job.cli("config", "check")

    assert done.returncode == 2
    assert f"its table {table} would have the name of one of" in done.stderr


def test_log_lines_can_be_json_and_the_last_line_is_the_result(job):
    done = job.cli("--log-format", "json", "run", "--config", str(job.config))
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines
    assert {line["level"] for line in lines} == {"INFO"}
    assert all(line["time"] and line["message"] for line in lines)
    assert len(done.stdout.splitlines()) == 1
