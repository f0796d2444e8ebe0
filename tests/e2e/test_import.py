"""What people saved with the AWS CLI, imported: the same rows as a direct export, with the same guarantees."""

import datetime as dt
import gzip
import json
import signal
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from botocore.session import Session
from support.dumps import printed, rows_apart_from_pages, save
from support.job import DATE, DATE_FLAG, NIGHT, Job, job_at
from support.shapes import ACCOUNT
from support.studios import studio_of

from etl.emulator import World
from etl.errors import LockedError
from etl.events import STEPS
from etl.extract.service_model import MODELS
from etl.jobs.dumps import ImportRequest, import_dump
from etl.jobs.replay import Selection, replay
from etl.ledger.directory import ledger_paths, lock
from etl.load.delta.tables import Tables

WORLD = World(studios=1, sessions_per_studio=120)
(STUDIO,) = WORLD.studio_ids


@pytest.fixture(scope="module")
def source():
    """That studio, 20 sessions on a page."""
    with studio_of(WORLD) as it:
        yield it


@pytest.fixture(scope="module")
def parsed(source):
    """Return what boto3 answers, all pages as one response, or one by one: the CLI prints the same."""
    session = Session()
    session.get_component("data_loader").search_paths.append(str(MODELS))
    key_id, secret = source.credentials
    client = boto3.session.Session(key_id, secret, botocore_session=session, region_name="us-west-2").client(
        "nimble", endpoint_url=source.endpoint_url
    )

    def ask(*, paginate=True, **limits):
        pages = client.get_paginator("list_streaming_sessions").paginate(studioId=STUDIO, PaginationConfig=limits)
        return pages.build_full_result() if paginate else list(pages)

    return ask


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    """The rows of a direct export of that studio."""
    job = job_at(tmp_path_factory.mktemp("exported"), source)
    ended = job.cli("run", "--dataset", "streaming_sessions", "--studio-id", STUDIO, *DATE_FLAG)
    assert ended.returncode == 0, ended.stderr
    return rows_apart_from_pages(job)


@pytest.fixture
def job(tmp_path, source, monkeypatch):
    """An import needs no credentials, but a bucket does."""
    job = job_at(tmp_path / "job", source)
    return job if job.kind == "disk" else job.lend_credentials(monkeypatch)


def imported(job, *files, date=DATE, **request):
    request = {"dataset": "streaming_sessions", "parents": {"studioId": STUDIO}, **request}
    return import_dump(job.settings(), ImportRequest([*map(Path, files)], snapshot_date=date, **request))


def plus_two_hours(instant):
    return instant.astimezone(dt.timezone(dt.timedelta(hours=2))).isoformat(timespec="microseconds")


@pytest.mark.parametrize(
    "instant",
    [
        pytest.param(dt.datetime.isoformat, id="2024-10-01T12:00:00+00:00"),
        pytest.param(plus_two_hours, id="2024-10-01T14:00:00.000000+02:00"),
        pytest.param(lambda instant: instant.strftime("%Y-%m-%dT%H:%M:%SZ"), id="2024-10-01T12:00:00Z"),
        pytest.param(dt.datetime.timestamp, id="1727784000.0"),
        pytest.param(lambda instant: int(instant.timestamp()), id="1727784000"),
    ],
)
def test_what_the_cli_prints_becomes_the_rows_of_a_direct_export(tmp_path, job, parsed, exported, instant):
    outcome = imported(job, *save(tmp_path, printed(parsed(), instant)))

    assert outcome.exit_code == 0
    assert rows_apart_from_pages(job) == exported
    assert job.problems() == []
    assert job.ask("select exit_code, invocations, slices_published, pages, records from etl_runs") == [
        (0, 1, 1, 1, len(exported[0]))
    ]


def test_pages_of_a_loop_in_one_file_or_in_several_are_one_slice(tmp_path, job, parsed, exported):
    pages = [printed(page) for page in parsed(paginate=False)]
    assert len(pages) > 3

    imported(job, *save(tmp_path, "".join(pages)))
    assert rows_apart_from_pages(job) == exported
    imported(job, *save(tmp_path, *pages))
    assert rows_apart_from_pages(job) == exported


def test_max_items_and_its_continuation_are_one_listing(tmp_path, job, parsed, exported):
    first = parsed(MaxItems=50)
    assert first["NextToken"]
    rest = parsed(StartingToken=first["NextToken"])

    outcome = imported(job, *save(tmp_path, printed(first), printed(rest)))

    assert outcome.exit_code == 0
    assert rows_apart_from_pages(job) == exported


@pytest.mark.parametrize(
    "packed", [str.encode, lambda text: gzip.compress(text.encode()), lambda text: pa.compress(text.encode(), "zstd")]
)
def test_standard_input_is_read_compressed_or_not(job, parsed, exported, packed):
    dump = bytes(packed(printed(parsed())))
    ended = job.cli("import", "-", "--studio-id", STUDIO, *DATE_FLAG, input=dump, text=False)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.decode().startswith(f"{DATE}: published; 1 slices, 1 pages")
    assert b"page 1 is the last" in ended.stderr
    assert rows_apart_from_pages(job) == exported


def test_a_second_import_of_a_date_replaces_and_another_date_is_another_snapshot(tmp_path, job, parsed, exported):
    (file,) = save(tmp_path, printed(parsed()))
    for _ in range(2):
        last = imported(job, file)

    assert rows_apart_from_pages(job) == exported
    assert job.ask("select distinct run_id from streaming_sessions_history") == [(last.run.run_id,)]

    imported(job, file, date=DATE - dt.timedelta(days=1))
    assert job.ask("select count(distinct snapshot_date) from streaming_sessions_history") == [(2,)]
    assert rows_of_current(job) == len(exported[0])


def rows_of_current(job):
    return job.ask("select count(*) from streaming_sessions")[0][0]


def test_an_import_and_a_run_of_the_same_date_replace_each_other(tmp_path, job, parsed, monkeypatch):
    job.lend_credentials(monkeypatch)
    (file,) = save(tmp_path, printed(parsed()))
    job.run()
    before = rows_apart_from_pages(job)

    outcome = imported(job, file)
    assert rows_apart_from_pages(job) == before
    assert job.ask("select distinct run_id from streaming_sessions_history") == [(outcome.run.run_id,)]
    assert job.ask("select count(*) from studios") == [(1,)], "other datasets of the date stay"

    job.run()
    assert rows_apart_from_pages(job) == before
    assert job.problems() == []


def test_replay_writes_an_import_anew_from_its_ledger(tmp_path, job, parsed, exported):
    (file,) = save(tmp_path, printed(parsed()))
    outcome = imported(job, file)
    file.unlink()

    replay(job.settings(), Selection(run_id=outcome.run.run_id))

    assert rows_apart_from_pages(job) == exported
    assert job.problems() == []


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_and_begun_again_the_rows_are_the_same(tmp_path, job, parsed, exported, step):
    (file,) = save(tmp_path, printed(parsed()))
    command = ("import", str(file), "--studio-id", STUDIO, *DATE_FLAG)
    assert job.finish(*command, NIMBLE_ETL_FAILPOINT=step) == -signal.SIGKILL, job.log
    assert json.loads(job.cli("status", "--json").stdout)["unfinished"] == [], "no run is promised to go on with it"

    assert job.finish(*command) == 0, job.log
    assert rows_apart_from_pages(job) == exported
    assert job.problems() == []


def test_a_run_does_not_stumble_over_a_killed_import(tmp_path, job, parsed, monkeypatch):
    job.lend_credentials(monkeypatch)
    (file,) = save(tmp_path, printed(parsed()))
    command = ("import", str(file), "--studio-id", STUDIO, *DATE_FLAG)
    assert job.finish(*command, NIMBLE_ETL_FAILPOINT="page.stored") == -signal.SIGKILL
    (left,) = ledger_paths(job.directory / "state")

    (outcome,) = job.run()

    assert outcome.exit_code == 0
    assert outcome.run.run_id != left.stem
    assert job.problems() == []


def test_an_import_waits_for_no_run(tmp_path, job, parsed):
    (file,) = save(tmp_path, printed(parsed()))
    with lock(job.directory / "state"), pytest.raises(LockedError, match="another run holds the lock"):
        imported(job, file)


def test_ledgers_that_are_old_enough_are_deleted(tmp_path, job, parsed):
    (file,) = save(tmp_path, printed(parsed()))
    imported(job, file)
    (path,) = ledger_paths(job.directory / "state")
    path.rename(path.with_name(f"20200101T000000Z-{path.name.partition('-')[2]}"))

    imported(job, file)

    (left,) = ledger_paths(job.directory / "state")
    assert not left.name.startswith("2020")


# What is not published without a word


def test_what_ends_with_a_token_is_refused(tmp_path, job, parsed):
    (file,) = save(tmp_path, printed(parsed(MaxItems=50)))

    ended = job.cli("import", str(file), "--studio-id", STUDIO, *DATE_FLAG)

    assert ended.returncode == 1
    assert "the last document has a token" in ended.stderr
    assert "--publish-partial" in ended.stderr
    assert ledger_paths(job.directory / "state") == []
    assert "streaming_sessions" not in Tables(job.store).names()


@pytest.mark.parametrize("paginated", [True, False], ids=["--max-items", "--no-paginate"])
def test_what_ends_with_a_token_is_published_if_asked_for_and_marked(tmp_path, job, parsed, paginated):
    response = parsed(MaxItems=20) if paginated else parsed(paginate=False)[0]
    (file,) = save(tmp_path, printed(response))

    ended = job.cli("import", str(file), "--studio-id", STUDIO, *DATE_FLAG, "--publish-partial")

    assert ended.returncode == 5, ended.stderr
    assert job.ask("select is_partial, is_published, state, rows from etl_slices") == [(True, True, "failed", 20)]
    assert job.ask("select count(*) from streaming_sessions_history") == [(20,)]
    assert rows_of_current(job) == 0, "it is no complete snapshot"
    assert "Traceback" not in ended.stderr
    assert job.problems() == []


def test_a_partial_dump_never_replaces_a_complete_snapshot_of_its_date(tmp_path, job, parsed, exported):
    whole, part = save(tmp_path, printed(parsed()), printed(parsed(MaxItems=20)))
    imported(job, whole)

    outcome = imported(job, part, publish_partial=True)

    assert outcome.exit_code == 1
    assert rows_apart_from_pages(job) == exported


def test_a_dump_with_far_fewer_records_is_held_back_until_it_is_allowed(tmp_path, job, parsed, exported):
    sessions = parsed()["sessions"]
    whole, few = save(tmp_path, printed({"sessions": sessions}), printed({"sessions": sessions[:10]}))
    imported(job, whole)

    held = imported(job, few)
    assert held.exit_code == 1
    assert "a fall of" in held.slices[0].error
    assert rows_apart_from_pages(job) == exported

    assert imported(job, few, allow_fall=True).exit_code == 0
    assert rows_of_current(job) == 10


# What records may be like


def test_unknown_members_nulls_and_misfits_arrive_as_in_a_walk(tmp_path, job, parsed):
    sessions = parsed()["sessions"]
    sessions[0] |= {"gpuCount": 2, "stoppedAt": None}
    sessions[1] |= {"createdAt": "soon"}
    sessions[2] |= {"sessionId": sessions[3]["sessionId"], "updatedAt": "2001-01-01T00:00:00Z"}

    outcome = imported(job, *save(tmp_path, printed({"sessions": sessions})))

    assert outcome.exit_code == 5
    assert (outcome.counts["rejects"], outcome.counts["duplicates"]) == (1, 1)
    assert job.ask(
        "select extra, stopped_at is null from streaming_sessions where session_id = $id", id=sessions[0]["sessionId"]
    ) == [('{"gpuCount":2}', True)]
    ((reason, record),) = job.ask("select reason, record from etl_rejects")
    assert "createdAt is 'soon'" in reason
    assert json.loads(record)["sessionId"] == sessions[1]["sessionId"]


def test_account_and_region_come_from_flags_where_records_have_no_arn(tmp_path, job, parsed):
    sessions = [{name: value for name, value in s.items() if name != "arn"} for s in parsed()["sessions"]]
    (file,) = save(tmp_path, printed({"sessions": sessions}))
    command = ("import", str(file), "--studio-id", STUDIO, *DATE_FLAG)

    refused = job.cli(*command)
    assert refused.returncode == 2
    assert "name them with --account-id and --region" in refused.stderr

    ended = job.cli(*command, "--account-id", "111122223333", "--region", "eu-west-1")
    assert ended.returncode == 0, ended.stderr
    assert job.ask("select distinct account_id, region, studio_id from streaming_sessions") == [
        ("111122223333", "eu-west-1", STUDIO)
    ]


def test_a_dataset_without_a_parent_needs_no_parameter(tmp_path, job):
    studios = [dict(record) for record in WORLD.records("ListStudios", {}, NIGHT)]
    (file,) = save(tmp_path, printed({"studios": studios}))

    ended = job.cli("import", str(file), "--dataset", "studios", *DATE_FLAG)

    assert ended.returncode == 0, ended.stderr
    assert job.ask("select studio_id from studios") == [(studios[0]["studioId"],)]


def test_datasets_of_the_configuration_can_be_imported_too(tmp_path, source):
    """Two parameters, another service, names that differ from those of its model."""
    job = job_at(
        tmp_path / "job",
        source,
        rest="""
datasets:
  - {name: farms, service: deadline, operation: list_farms, key: [farm_id]}
  - name: queues
    service: deadline
    operation: list_queues
    for_each: {dataset: farms, bind: {farmId: farm_id}}
    key: [queue_id]
  - {name: channels, service: medialive, operation: list_channels, key: [id]}
""",
    )
    queues, channels = save(
        tmp_path,
        printed({"queues": [{"farmId": "farm-1", "queueId": "queue-1", "createdAt": "2026-11-01T00:00:00+00:00"}]}),
        printed({"Channels": [{"Id": "1", "Arn": "arn:aws:medialive:eu-west-1:111122223333:channel:1", "Name": "x"}]}),
    )
    where = ("--account-id", "111122223333", "--region", "eu-west-1")

    ended = job.cli("import", str(queues), "--dataset", "queues", "--parent", "farmId=farm-1", *where, *DATE_FLAG)
    assert ended.returncode == 0, ended.stderr
    assert job.ask("select farm_id, queue_id, epoch(created_at)::bigint from queues") == [
        ("farm-1", "queue-1", 1793491200)
    ]
    ended = job.cli("import", str(channels), "--dataset", "channels", *DATE_FLAG)
    assert ended.returncode == 0, ended.stderr
    assert job.ask("select id, name, region from channels") == [("1", "x", "eu-west-1")]
    assert job.problems() == []


def test_parameters_and_privacy_rules_of_the_configuration_hold(job, tmp_path, parsed):
    job.configure(
        f"""
datasets:
  - name: sessions
    service: nimble
    operation: list_streaming_sessions
    parameters: {{studioId: {STUDIO}}}
    key: [session_id]
privacy: {{rules: {{sessions: {{owned_by: drop}}}}}}
""",
    )

    outcome = imported(job, *save(tmp_path, printed(parsed())), dataset="sessions", parents={})

    assert outcome.exit_code == 0
    assert job.ask("select distinct studio_id, owned_by from sessions") == [(STUDIO, None)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "expected --studio-id ID"),
        (("--parent", "farmId=f"), "found farmId=f; expected --studio-id ID"),
        (("--parent", "studioId"), "--parent: found 'studioId'; expected NAME=VALUE"),
        (("--studio-id", "a", "--parent", "studioId=b"), "studioId is given twice"),
        (("--studio-id", ""), "expected NAME=VALUE"),
        (("--dataset", "studios", "--studio-id", "a"), "dataset studios: found studioId=a; expected none"),
        (("--dataset", "nothing"), "'nothing' is not defined"),
        (("--studio-id", "a", "--account-id", "12"), "--account-id: found '12'; expected 12 digits"),
        (("--studio-id", "a", "--region", "Oregon"), "--region: found 'Oregon'; expected a name such as"),
        (("--studio-id", "a", "--snapshot-date", "2999-01-01"), "2999-01-01 is in the future"),
        (("--studio-id", "a", "--snapshot-date", "soon"), "--snapshot-date: found 'soon'"),
    ],
)
def test_an_operators_mistake_is_a_sentence_and_leaves_nothing(tmp_path, job, parsed, arguments, says):
    (file,) = save(tmp_path, printed(parsed()))

    ended = job.cli("import", str(file), *DATE_FLAG, *arguments)

    assert ended.returncode in (1, 2)
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ledger_paths(job.directory / "state") == []


def test_fault_64_members_that_are_called_like_columns_of_the_history_do_not_change_its_answers(tmp_path):
    """RDS certificates have ValidFrom: as-of would ask for the date of the API instead of that of the snapshot."""
    job = Job(
        tmp_path,
        "embedded",
        ("", ""),
        rest="datasets: [{name: certificates, service: rds, operation: describe_certificates, "
        "key: [certificate_identifier]}]",
    )
    for day, thumbprint in ((1, "a"), (2, "b"), (3, "b")):
        certificate = {
            "CertificateIdentifier": "ca", "CertificateArn": f"arn:aws:rds:us-west-2:{ACCOUNT}:cert:ca",
            "Thumbprint": thumbprint, "ValidFrom": "2019-01-01T00:00:00+00:00",
        }  # fmt: skip
        (file,) = save(tmp_path, json.dumps({"Certificates": [certificate]}))
        done = job.cli("import", str(file), "--dataset", "certificates", "--snapshot-date", f"2026-11-0{day}")
        assert done.returncode == 0, done.stderr

    columns = "thumbprint, valid_from::varchar, valid_to::varchar, is_current"
    assert job.ask(f"select {columns} from certificates_versions order by valid_from") == [
        ("a", "2026-11-01", "2026-11-02", False),
        ("b", "2026-11-02", None, True),
    ]
    assert job.ask("select thumbprint from certificates_as_of('2026-11-01')") == [("a",)]
    assert job.ask("select thumbprint from certificates_as_of('2026-11-03')") == [("b",)]
    assert job.ask("select distinct year(api_valid_from) from certificates_history") == [(2019,)]
