"""What an operator sees: the last attempt, what is unfinished, who may read, and a catalog that is gone."""

import datetime as dt
import json
import os
import tempfile
from pathlib import Path

import pytest
from deltalake import DeltaTable
from support.job import AS_NOBODY, DATE, NIGHT, RUN, finished, job_at
from support.studios import LIST, fired, studio_of

from etl.configfile import load_settings
from etl.emulator import World
from etl.errors import ConfigError
from etl.jobs.night import Request, run
from etl.jobs.status import status
from etl.ledger.directory import ledger_paths
from etl.load.delta.sources import fillers
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME
from etl.pipeline.walks import Stop
from etl.storage.disk import Disk


def shown(job, what):
    return json.loads(job.cli("status", "--json").stdout)[what]


# The last attempt


def test_status_tells_the_last_attempt_and_its_error_although_nothing_was_ever_published(job, studio):
    studio.set_faults(["access-denied:operation=ListStudios"])

    assert job.finish(*RUN) == 1
    assert fired(studio) == {"access-denied"}

    (attempt,) = shown(job, "attempts")
    assert attempt["exit_code"] == 1
    assert "nimble:ListStudios" in attempt["error"]
    assert "nimble:ListStudios" in job.cli("status").stdout
    assert job.ask("select count(*) from etl_runs") == [(1,)], "the failed night is a fact, too"


def test_status_tells_an_attempt_that_ended_before_its_first_request(job):
    job.configure("run: {max_items: 5}")
    job.config.write_text(job.config.read_text().replace("  retry:", "  account_id: '210987654321'\n  retry:"))
    assert job.finish(*RUN, AWS_ACCOUNT_ID="123456789012") == 2

    (attempt,) = shown(job, "attempts")
    assert (attempt["exit_code"], attempt["run_id"]) == (2, None)
    assert "source.account_id is 210987654321" in attempt["error"]
    assert shown(job, "runs") == []


def test_a_better_attempt_takes_the_place_of_a_worse_one(job, studio):
    studio.set_faults(["access-denied:operation=ListStudios"])
    assert job.finish(*RUN) == 1
    studio.set_faults([])
    assert job.finish(*RUN) == 0

    (attempt,) = shown(job, "attempts")
    assert (attempt["exit_code"], attempt["error"]) == (0, None)
    assert job.ask("select exit_code from etl_runs where run_id = $run", run=attempt["run_id"]) == [(0,)]


@pytest.mark.parametrize("content", ["", "[]", "{", "7"])
def test_a_note_of_somebody_else_is_no_attempt(job, content):
    job.run()
    (job.directory / "state" / "last_attempt.json").write_text(content)
    assert status(job.settings(), 1).attempts == []


# Unfinished runs


def test_status_says_which_unfinished_run_a_changed_configuration_has_orphaned(job):
    job.run(overrides={"max_items": 30})
    (going_on,) = {row["next"] for row in shown(job, "unfinished")}
    assert going_on == "run continues it"
    assert {(row["account_id"], row["region"]) for row in shown(job, "unfinished")} == {("123456789012", "us-west-2")}

    job.configure("datasets: [studios]")
    (orphaned,) = {row["next"] for row in shown(job, "unfinished")}
    assert orphaned == "asked for with other settings or flags: only such a run continues it"
    job.run()
    assert shown(job, "unfinished"), "what status said is so: no run of this configuration has continued it"


def test_a_studio_that_is_misspelt_is_named_with_the_one_that_is_near(job):
    job.run(overrides={"datasets": ["studios"]})
    ((studio_id,), *_) = job.ask("select studio_id from studios order by all")

    assert job.finish(*RUN, "--studio-id", f"{studio_id[:-1]}_") == 5

    assert f"(did you mean {studio_id}?)" in job.log


# run --unless-published


def test_a_second_line_of_cron_does_nothing_if_the_night_is_published(job, studio):
    job.run()
    asked = len(studio.requests)

    assert job.run(unless_published=True) == []
    assert job.finish(*RUN, "--unless-published") == 0
    assert "nothing to do, run" in job.log
    assert len(studio.requests) == asked

    assert len(job.run(DATE - dt.timedelta(days=1), unless_published=True)) == 1, "another date is another night"


def test_a_second_line_of_cron_finishes_a_night_that_is_unfinished(job):
    job.run(overrides={"max_items": 30})
    outcomes = run(job.settings(), Request(DATE, unless_published=True), Stop())
    assert [outcome.exit_code for outcome in outcomes] == [0]
    assert len(ledger_paths(job.directory / "state")) == 1


def test_a_second_line_of_cron_repeats_a_night_with_a_slice_that_failed(job, studio):
    studio.set_faults([f"access-denied:{LIST},page=2"])
    assert [outcome.exit_code for outcome in job.run()] == [5]
    assert fired(studio) == {"access-denied"}
    studio.set_faults([])

    assert [outcome.exit_code for outcome in job.run(unless_published=True)] == [0]
    assert job.run(unless_published=True) == []


def test_another_request_is_not_published_by_this_one(job):
    job.run(overrides={"datasets": ["studios"]})
    assert len(job.run(unless_published=True)) == 1


# A catalog that is gone


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_a_catalog_that_is_gone_is_built_anew_by_the_command_that_messages_name(job, damage):
    job.run()
    right, catalog = job.exported_rows(), job.directory / "warehouse" / CATALOG_NAME
    catalog.chmod(0o644)
    if damage == "gone":
        catalog.unlink()
    else:
        catalog.write_bytes(b"no catalog" * 1000)

    ended = job.cli("sql", "from studios")
    assert ended.returncode == 1
    assert "`nimble-etl catalog` builds" in ended.stderr
    if damage == "gone":
        assert job.cli("status").returncode == 5
        assert "`nimble-etl catalog` builds it" in job.cli("status").stdout

    assert json.loads(job.cli("catalog", "--json").stdout) == {"failed_checks": []}
    assert job.exported_rows() == right
    assert job.cli("sql", "from studios").returncode == 0
    assert job.cli("status").returncode == 0


# Fault 78: users who may only read, and those who may not even that


@pytest.fixture
def published(small_studio, monkeypatch):
    """A published night in a directory that others may enter; its log may be written by all."""
    with tempfile.TemporaryDirectory() as directory:  # pytest's own may be entered by nobody else
        Path(directory).chmod(0o755)
        job = job_at(Path(directory) / "job", small_studio, marts=True).lend_credentials(monkeypatch)
        small_studio.set_instant(NIGHT)
        job.run()
        log = job.directory / "log"
        log.touch()
        log.chmod(0o666)
        yield job


def as_nobody(job, *arguments):
    """Run a command as a user who owns nothing; return its exit code and what it has written."""
    before = len(job.log)
    code = finished(job.start_program(AS_NOBODY, *arguments))
    return code, job.log[before:]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@needs_root
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("status",), "this user may not look into it. What these ledgers say is not shown"),
        (("verify",), "Rows are not compared with the pages in these ledgers"),
        (("sql", "select count(*) as n from studios"), "n"),
        (("check",), "nothing_is_missing"),
        (("query", "idle_sessions"), "session_id"),
    ],
)
def test_fault_78_a_user_who_may_only_read_gets_answers(published, arguments, says):
    code, output = as_nobody(published, *arguments)
    assert (code, "Traceback" in output) == (0, False), output
    assert says in output


@needs_root
@pytest.mark.parametrize(
    "arguments",
    [
        RUN,
        ("replay", "--since", str(DATE)),
        ("compact",),
        ("vacuum",),
        ("catalog",),
        ("forget", "--dataset", "studios", "--yes"),
    ],
)
def test_fault_78_a_user_who_may_only_read_changes_nothing_and_is_told(published, arguments):
    code, output = as_nobody(published, *arguments)
    assert (code, "Traceback" in output) == (2, False), output
    assert str(published.directory / "state") in output
    assert "Permission denied" in output


@needs_root
@pytest.mark.parametrize("arguments", [("status",), ("verify",), ("sql", "from studios"), ("check",)])
@pytest.mark.parametrize("what", ["warehouse", "catalog", "log of a table", "file of a table"])
def test_fault_78_what_this_user_may_not_read_is_not_called_damaged(published, what, arguments):
    warehouse = published.directory / "warehouse"
    paths = {
        "warehouse": warehouse,
        "catalog": warehouse / CATALOG_NAME,
        "log of a table": warehouse / "studios" / "_delta_log",
        "file of a table": next((warehouse / "studios").glob("snapshot_date=*/*.parquet")),
    }
    paths[what].chmod(0)

    code, output = as_nobody(published, *arguments)

    assert "Traceback" not in output
    needs_none = {("log of a table", "sql"), ("log of a table", "check"), ("file of a table", "check")}
    assert code == (0 if (what, arguments[0]) in needs_none else 2), output
    assert code == 0 or ("ermission denied" in output and (str(paths[what]) in output or "studios" in output))


@needs_root
def test_a_ledger_that_this_user_may_not_open_is_counted(published):
    state = published.directory / "state"
    state.chmod(0o755)
    code, output = as_nobody(published, "status")
    assert (code, f"{state / 'runs'}: this user may not open 1 of 1 ledgers" in output) == (0, True), output


def test_a_configuration_that_is_a_directory_is_named(job):
    job.config.unlink()
    job.config.mkdir()
    ended = job.cli("status")
    assert ended.returncode == 2
    assert f"{job.config}: Is a directory" in ended.stderr
    assert "Traceback" not in ended.stderr


# Fault 79: demo data and real ones


@pytest.fixture
def other_account():
    """A studio of another account, at another endpoint."""
    with studio_of(World(sessions_per_studio=40, account_id="210987654321")) as studio:
        yield studio


def test_fault_79_another_account_gets_into_a_warehouse_only_if_it_is_said(job, other_account):
    job.run()
    before = job.exported_rows()
    stranger = job_at(job.directory, other_account)

    assert stranger.finish(*RUN) == 2
    assert "is filled with account 123456789012 of http://127.0.0.1" in stranger.log
    assert "found account 210987654321 of http://127.0.0.1" in stranger.log
    assert job.exported_rows() == before

    assert stranger.finish(*RUN, "--accept-source") == 0
    assert stranger.finish(*RUN) == 0, "it is known by now"
    assert job.ask("select count(distinct account_id) from streaming_sessions") == [(2,)]


def test_fault_79_demo_data_never_mix_with_real_ones(tmp_path, studio, monkeypatch):
    demo = tmp_path / "config.yaml"
    demo.write_text("emulator: {studios: 1, sessions_per_studio: 20}\n")
    run(load_settings(demo), Request(DATE), Stop())
    real = job_at(tmp_path, studio).lend_credentials(monkeypatch)

    with pytest.raises(ConfigError, match=r"is filled with account 123456789012 of the embedded studio; found"):
        real.run()


def test_fault_79_a_saved_listing_of_another_account_gets_in_only_if_it_is_said(job, tmp_path):
    job.run()
    arn = "arn:aws:nimble:us-west-2:210987654321:streaming-session/abc"
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps({"sessions": [{"sessionId": "abc", "arn": arn}]}))
    arguments = ("import", str(dump), "--snapshot-date", str(DATE), "--studio-id", "elsewhere")

    assert job.finish(*arguments) == 2
    assert "found account 210987654321 in saved listings" in job.log
    assert job.finish(*arguments, "--accept-source") == 0
    assert job.finish(*arguments) == 0


def test_a_warehouse_that_a_former_version_has_filled_takes_the_source_of_the_next_night(job):
    job.run()
    table = DeltaTable(job.directory / "warehouse" / "etl_runs")
    table.alter.set_table_properties({"nimble-etl.sources": "[]"}, raise_if_not_exists=False)
    assert fillers(Tables(Disk(job.directory / "warehouse"))) == frozenset()

    job.run(DATE + dt.timedelta(days=1))

    (one,) = fillers(Tables(Disk(job.directory / "warehouse")))
    assert one.account_id == "123456789012"


def test_another_key_does_not_publish_what_was_walked_with_the_former_one(job, monkeypatch):
    job.configure("privacy: {rules: {streaming_sessions: {owned_by: hash}}}")
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", "the first key")
    job.run()
    job.run(DATE + dt.timedelta(days=1), overrides={"max_items": 30})
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", "another key")

    with pytest.raises(ConfigError, match=r"privacy.key is another one"):
        job.run(DATE + dt.timedelta(days=1))


def test_another_key_of_hashes_is_noticed_before_every_value_would_change(job, monkeypatch):
    job.configure("privacy: {rules: {streaming_sessions: {owned_by: hash}}}")
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", "the first key")
    job.run()
    first = job.ask("select distinct owned_by from streaming_sessions order by all")
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", "another key")

    with pytest.raises(ConfigError, match=r"privacy.key is another one.*`nimble-etl replay --since DATE`") as caught:
        job.run(DATE + dt.timedelta(days=1))
    assert "another key" not in str(caught.value)
    log_text = "".join(path.read_text() for path in (job.directory / "warehouse/etl_runs/_delta_log").glob("*.json"))
    assert "first key" not in log_text

    assert job.finish("replay", "--since", str(DATE), NIMBLE_ETL_PRIVACY__KEY="another key") == 0
    assert job.ask("select distinct owned_by from streaming_sessions order by all") != first
    job.run(DATE + dt.timedelta(days=1))
    assert job.ask(
        "select count(*) from streaming_session_changes where list_contains(changed_columns, 'owned_by')"
    ) == [(0,)]


# Logs, settings and notifications


def lines_of(ended):
    return [json.loads(line) for line in ended.stderr.splitlines()]


def test_every_line_of_a_log_in_json_is_json_and_says_what_it_is_about(job, studio):
    studio.set_faults([f"internal-error:{LIST},page=2,times=1"])
    ended = job.cli("--log-format", "json", *RUN, "--config", str(job.config))
    assert ended.returncode == 0, ended.stderr
    assert fired(studio) == {"internal-error"}

    (retried,) = [line for line in lines_of(ended) if "trying again" in line["message"]]
    assert retried["run_id"] == ledger_paths(job.directory / "state")[0].stem
    assert (retried["dataset"], retried["page"]) == ("streaming_sessions", 2)
    assert retried["slice"].startswith("streaming_sessions[studioId=")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("run", "--max-items", "x"), 2, "nimble-etl: Invalid value for '--max-items'"),
        (("sql", "from nothing"), 1, "nimble-etl: "),
        (("status", "--config", "/none.yaml"), 2, "nimble-etl: /none.yaml: there is no such file"),
    ],
)
def test_an_error_is_json_too(job, arguments, code, says):
    ended = job.cli("--log-format", "json", *arguments, *(() if "--config" in arguments else ("--config", job.config)))
    assert ended.returncode == code
    (line,) = lines_of(ended)
    assert (line["level"], line["message"].startswith(says)) == ("ERROR", True)


def test_config_show_says_where_each_value_comes_from_and_hides_what_may_be_secret(job, monkeypatch):
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", "canary-2")
    job.configure("on_finish: {url: 'https://hc-ping.com/canary-1'}\nrun:\n  concurrency: 3")
    ended = job.cli("config", "show", "--json")
    rows = {row["setting"]: row for row in json.loads(ended.stdout)["settings"]}
    line = job.config.read_text().splitlines().index("  concurrency: 3") + 1
    assert rows["run.concurrency"] == {"setting": "run.concurrency", "value": 3, "from": f"config.yaml, line {line}"}
    assert rows["run.keep_ledgers"] == {"setting": "run.keep_ledgers", "value": "90d", "from": "default"}
    assert rows["privacy.key"]["from"] == "environment NIMBLE_ETL_PRIVACY__KEY"
    assert "canary" not in ended.stdout


def test_nothing_is_printed_after_an_error_by_what_python_takes_down(job):
    """DuckDB 2.0 would list on standard error which of its objects an error keeps alive."""
    ended = job.cli("status", "--max-age", "soon")
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
