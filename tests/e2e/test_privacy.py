"""What privacy does not allow is in no table, no reject and no log; hashes still join."""

import datetime as dt
import hashlib
import hmac
import json
import signal

import pytest
from support.damage import flipped
from support.job import DATE, NIGHT, RUN, job_at
from support.stores import overwrite
from support.studios import LIST, fired

from etl.configfile import load_settings
from etl.errors import ConfigError
from etl.extract.datasets import builtin_datasets
from etl.jobs.replay import Selection, replay
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.load.delta.tables import Tables

KEY = "a key that only the operator knows"
DATASETS = "datasets: [studios, streaming_sessions, studio_components]"
RULES = """
privacy:
  rules:
    "*": {created_by: hash}
    streaming_sessions:
      {owned_by: drop, started_by: hash, session_id: hash, tags.Project: hash, tags.Artist level: drop}
"""


@pytest.fixture
def private(job, monkeypatch):
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", KEY)
    job.configure(f"{DATASETS}\n{RULES}")
    return job


def hashed(value):
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


def everything_written(job):
    """Return all text of all that readers see, one value after the other."""
    names = job.ask("select table_name from information_schema.tables")
    assert len(names) > len(Tables(job.store).names())
    return "\n".join(
        job.ask(f'select string_agg(t::varchar, chr(10)) from "{name}" t')[0][0] or "" for (name,) in names
    )


def test_hashed_columns_still_join_and_dropped_ones_are_null(private):
    private.run()

    joined = private.ask("select count(*) from streaming_sessions join streaming_session_tags using (session_id)")
    assert joined == private.ask("select count(*) from streaming_session_tags")
    assert joined[0][0] > 0
    assert private.ask("select count(owned_by), count(*) > 0 from streaming_sessions") == [(0, True)]
    lengths = private.ask(
        "select distinct length(session_id), length(created_by), length(coalesce(started_by, created_by))"
        " from streaming_sessions"
    )
    assert lengths == [(64, 64, 64)]
    projects = private.ask("select distinct length(value) from streaming_session_tags where key = 'Project'")
    assert projects == [(64,)]
    assert private.ask("select count(*) from streaming_session_tags where key = 'Artist level'") == [(0,)]
    assert private.ask("select count(*) from streaming_sessions where tags['Artist level'] is not null") == [(0,)]
    assert private.problems() == []


def test_the_same_value_has_the_same_keyed_hash_everywhere(private):
    private.run()
    users = {record["createdBy"] for record in job_records(private)}
    for table in ("studio_components", "streaming_sessions"):
        found = {value for (value,) in private.ask(f"select distinct created_by from {table}")}
        assert found
        assert table == "studio_components" or found == {hashed(user) for user in users}
    joined = private.ask("select count(*) > 0 from studio_components join streaming_sessions using (created_by)")
    assert joined == [(True,)]


def job_records(job):
    """Return the records of the ledger's pages: what really came over the wire."""
    found = []
    with Ledger.open(ledger_paths(job.directory / "state")[-1]) as ledger:
        for facts in ledger.slices("streaming_sessions"):
            for page in ledger.pages(facts.slice):
                found += json.loads(page.body)["sessions"]
    return found


def test_nothing_private_is_in_any_table_even_where_records_are_rejected(private, studio):
    studio.set_faults([f"bad-timestamp:{LIST},page=2,times=2"])

    (outcome,) = private.run()

    assert fired(studio) == {"bad-timestamp"}
    assert outcome.counts["rejects"] == 2
    records = job_records(private)
    secrets = {record[name] for record in records for name in ("createdBy", "ownedBy", "sessionId")}
    secrets |= {record["tags"]["Project"] for record in records if "Project" in record.get("tags", {})}
    written = everything_written(private)
    # Whole values only: the last part of an ARN is allowed.
    found = {secret for secret in secrets if any(form % secret in written for form in ("'%s'", ": %s,", '"%s"'))}
    assert found - allowed_elsewhere(records) == set()
    assert len(written) > 1000


def allowed_elsewhere(records):
    """Return values of the private columns that other, allowed columns of the same records also have."""
    allowed = set()
    for record in records:
        for name, value in record.items():
            if name not in {"createdBy", "ownedBy", "sessionId", "startedBy", "tags"} and isinstance(value, str):
                allowed.add(value)
        allowed |= {value for key, value in record.get("tags", {}).items() if key not in {"Project", "Artist level"}}
    return allowed


def test_what_can_hold_secrets_is_hashed_without_a_word(job, monkeypatch):
    job.configure(DATASETS)
    with pytest.raises(ConfigError, match=r"studio_components\..* no key; set NIMBLE_ETL_PRIVACY__KEY"):
        job.run()
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", KEY)

    job.run()

    scripts = job.ask("select distinct length(script_parameters) from studio_components")
    assert set(scripts) <= {(64,), (None,)}
    assert (64,) in scripts
    endpoints = job.ask(
        "select distinct length(configuration_license_service_configuration_endpoint) from studio_components"
    )
    assert set(endpoints) <= {(64,), (None,)}
    assert job.ask("select count(name) > 0 from studio_components") == [(True,)], "names are allowed"
    assert "studio_component_script_parameters" not in Tables(job.store).names()


def test_a_rule_may_allow_again(job):
    allow = ", ".join(f"{name}: allow" for name in default_rules())
    job.configure(f"{DATASETS}\nprivacy: {{rules: {{studio_components: {{{allow}}}}}}}")
    assert job.run()[0].exit_code == 0
    assert "studio_component_script_parameters" in Tables(job.store).names()


def default_rules():
    return builtin_datasets()["studio_components"].privacy


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (
            "{streaming_sessions: {owner: hash}}",
            "column 'owner' does not exist .did you mean owned_by.*; expected one of",
        ),
        ("{streaming_sessions: {owned_by.x: hash}}", "column 'owned_by' is not a map"),
        ("{sessions: {owned_by: hash}}", "'sessions' is no dataset"),
        ("{streaming_sessions: {owned_by: encrypt}}", "privacy.rules.streaming_sessions.owned_by: found 'encrypt'"),
    ],
)
def test_a_rule_that_would_not_work_is_refused(job, monkeypatch, rules, says):
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", KEY)
    job.configure(f"privacy: {{rules: {rules}}}")
    with pytest.raises(ConfigError, match=says):
        job.run()


def test_the_key_does_not_belong_in_the_file_and_is_never_shown(job, monkeypatch):
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", KEY)
    assert KEY not in job.cli("config", "show").stdout
    job.configure(f"privacy: {{key: {KEY}}}")
    with pytest.raises(ConfigError, match=r"line \d+: privacy.key does not belong in the file") as caught:
        load_settings(job.config)
    assert KEY not in str(caught.value)


def test_verify_and_replay_use_the_same_key(private, monkeypatch):
    private.run()
    before = private.rows("streaming_sessions")
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", "another key")
    assert any(private.problems())

    replay(private.settings(), Selection(since=DATE))

    assert private.rows("streaming_sessions") != before
    assert not any(private.problems())


def test_a_night_is_published_without_marts_where_privacy_leaves_nothing_to_compute(
    tmp_path, studio, monkeypatch, caplog
):
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", KEY)
    rules = "privacy: {rules: {streaming_sessions: {tags: hash, volume_configuration_size: hash}}}"
    job = job_at(tmp_path / "job", studio, marts=True, rest=rules).lend_credentials(monkeypatch)

    (outcome,) = job.run()

    assert outcome.exit_code == 5
    assert [check.name for check in outcome.failed_checks] == ["marts_are_built"]
    assert "marts, checks, flat views and dictionary are left out: Binder Error" in caplog.text
    assert job.ask("select count(*) > 200, count(distinct length(tags)) from streaming_sessions") == [(True, 1)]
    assert job.ask("select count(*) from information_schema.tables where table_name = 'daily_hours'") == [(0,)]


def test_what_a_killed_run_began_to_publish_is_finished_with_the_key(private):
    environment = {"NIMBLE_ETL_FAILPOINT": "table.committed:2", "NIMBLE_ETL_PRIVACY__KEY": KEY}
    assert private.finish(*RUN, **environment) == -signal.SIGKILL, private.log

    (outcome,) = private.run()

    assert outcome.exit_code == 0
    assert private.ask("select distinct length(session_id) from streaming_sessions") == [(64,)]
    assert not any(private.problems())


PEOPLE = ("created_by", "owned_by", "started_by", "stopped_by", "updated_by", "terminated_by")


def test_fault_73_a_rule_that_begins_later_brings_no_former_value_into_the_change_log(job, studio, monkeypatch):
    """The night before was written without it; what changed and what vanished would repeat its values."""
    job.configure("datasets: [streaming_sessions]")
    studio.set_instant(NIGHT - dt.timedelta(days=1))
    job.run(DATE - dt.timedelta(days=1))
    columns = values_of(job, "select column_name from duckdb_columns() where table_name = 'streaming_sessions'")
    ruled = [name for name in PEOPLE if name in columns]
    people = {name for column in ruled for name in values_of(job, f"select {column} from streaming_sessions")}
    projects = values_of(job, "select tags['Project'] from streaming_sessions")
    assert people
    assert projects
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", KEY)
    rules = ", ".join(f"{name}: {'hash' if name == 'owned_by' else 'drop'}" for name in ruled)
    job.configure(f"privacy: {{rules: {{streaming_sessions: {{{rules}, tags.Project: drop}}}}}}")
    studio.set_instant(NIGHT)

    job.run(DATE)

    later = f"from streaming_session_changes where snapshot_date = '{DATE}'"
    assert values_of(job, f"select change {later}") == {"appeared", "changed", "vanished"}
    ((written,),) = job.ask(f"select string_agg(t::varchar, chr(10)) from (select * {later}) t")
    assert not [name for name in people if name in written]
    assert not [name for name in projects if f"={name}" in written or f'"{name}"' in written]
    by_rule = f"select count(*) {later} and list_contains(changed_columns, 'owned_by')"
    assert job.ask(by_rule) == [(0,)], "that a value is hashed now is no change of it"


def values_of(job, statement):
    return {value for (value,) in job.ask(statement) if value}


LATER = """
privacy:
  rules:
    "*": {created_by: hash, owned_by: drop, extra: drop}
    streaming_sessions: {started_by: hash, tags.Project: hash, tags.Artist level: drop, status_message: drop}
"""
SHOWN = {
    "streaming_sessions_history": "run_id, extracted_at",
    "streaming_session_tags_history": "run_id, extracted_at",
    "streaming_session_changes": "run_id",
    "streaming_sessions_versions": "run_id",
    "etl_rejects": "run_id, extracted_at",
}


def shown(job):
    """Return all rows that readers see, without what differs between two runs that see the same."""
    return {
        name: job.ask(f"select t::varchar from (select * exclude ({less}) from {name}) as t order by all")
        for name, less in SHOWN.items()
    }


@pytest.mark.parametrize("kept", ["all ledgers", "no ledger", "one ledger"])
def test_rules_reach_rows_whose_ledgers_are_gone(job, studio, tmp_path, monkeypatch, kept):
    """After `replay`, what is there is what a job would have written that had the rules from the first night on."""
    monkeypatch.setenv("NIMBLE_ETL_PRIVACY__KEY", KEY)
    always = job_at(tmp_path / "always", studio).lend_credentials(monkeypatch)
    always.configure(LATER)
    for number in range(3):
        studio.set_instant(NIGHT + dt.timedelta(days=number))
        date = DATE + dt.timedelta(days=number)
        for one in (job, always):
            studio.set_faults([f"unknown-member:{LIST},page=1,times=1", f"bad-timestamp:{LIST},page=2,times=2"])
            one.run(date)
            assert "bad-timestamp" in fired(studio)
    before = shown(job)
    paths = ledger_paths(job.directory / "state")
    for path in {"all ledgers": [], "no ledger": paths, "one ledger": [paths[0], paths[2]]}[kept]:
        path.unlink()
    job.configure(LATER)

    replay(job.settings(), Selection(since=DATE))

    for name, rows in shown(always).items():
        assert sorted({*shown(job)[name]} ^ {*rows}) == [], name
    assert shown(job) == shown(always)
    assert shown(job) != before
    assert job.problems() == []
    assert job.ask("select count(*) > 0 from etl_rejects") == [(True,)]


def test_a_table_that_a_rule_hides_loses_its_former_rows(job):
    job.run()
    ledger_paths(job.directory / "state")[0].unlink()
    job.configure("privacy: {rules: {streaming_sessions: {tags: drop}}}")

    replay(job.settings(), Selection(since=DATE))

    assert job.ask("select count(*) from streaming_session_tags_history") == [(0,)]
    assert job.ask("select count(tags), count(*) > 0 from streaming_sessions") == [(0, True)]
    assert job.problems() == []


def test_a_dataset_that_nobody_defines_any_more_is_named(job):
    mine = "{name: my_studios, service: nimble, operation: list_studios, key: [studio_id], result_key: studios}"
    job.configure(f"datasets: [{mine}]")
    job.run()
    ledger_paths(job.directory / "state")[0].unlink()
    job.config.write_text(job.config.read_text().replace(mine, "studios"))
    job.run(DATE + dt.timedelta(days=1))
    job.configure("privacy: {rules: {'*': {display_name: drop}}}")

    outcomes = replay(job.settings(), Selection(since=DATE))

    assert [outcome.exit_code for outcome in outcomes] == [5]
    assert "table my_studios: the rule for *.display_name cannot be applied" in str(outcomes[0].failed_checks)


def test_a_damaged_date_without_a_ledger_keeps_no_other_from_the_rules(job):
    second = DATE + dt.timedelta(days=1)
    job.run()
    job.run(second)
    ledger_paths(job.directory / "state")[0].unlink()
    (file,) = Tables(job.store).read("streaming_sessions").files[DATE]
    overwrite(job.store, file, flipped(job.store.read(file), 5000))
    job.configure("privacy: {rules: {streaming_sessions: {owned_by: drop}}}")

    outcomes = replay(job.settings(), Selection(since=DATE))

    assert [outcome.exit_code for outcome in outcomes] == [5]
    assert f"snapshot_date={DATE}" in str(outcomes[0].failed_checks), "the damaged file is named"
    assert job.ask("select count(owned_by), count(*) > 0 from streaming_sessions") == [(0, True)]
