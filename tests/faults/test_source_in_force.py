"""Which source a run has: its endpoint, its account, its keys. What changes in mid-walk, and what must not be mixed."""

import datetime as dt
import json

import pytest
from support.job import DATE, RUN, Job
from support.studios import asked_for_sessions, listed_sessions, studio_of

from etl.emulator import World
from etl.emulator.signature import Key
from etl.errors import ConfigError
from etl.ledger.directory import ledger_paths

ACCOUNT = "  account_id: '123456789012'"
ONE = "run: {concurrency: 1}\n"


@pytest.fixture
def other():
    """Another studio: the same service, other sessions."""
    with studio_of(World(sessions_per_studio=60, seed=99)) as other:
        yield other


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that writes ~/.aws/config; nothing else of AWS is configured."""
    config = tmp_path / "aws-config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return config.write_text


def all_services(monkeypatch, _machine, url):
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)


def this_service(monkeypatch, _machine, url):
    monkeypatch.setenv("AWS_ENDPOINT_URL_NIMBLE", url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)


def profile(monkeypatch, machine, url):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    machine(f"[default]\nendpoint_url = {url}\n")


@pytest.mark.parametrize("put", [all_services, this_service, profile])
def test_fault_17_a_run_is_never_continued_at_another_endpoint_however_it_is_given(  # noqa: PLR0913, PLR0917  fixtures
    tmp_path, monkeypatch, machine, studio, other, put
):  # fmt: skip
    job = Job(tmp_path / "job", "null", studio.credentials, source=ACCOUNT, rest=ONE)
    put(monkeypatch, machine, studio.endpoint_url)
    job.lend_credentials(monkeypatch)
    (first,) = job.run(overrides={"max_items": 10})
    put(monkeypatch, machine, other.endpoint_url)
    (second,) = job.run()
    listed = [session["sessionId"] for session in listed_sessions(other.world)]

    assert (first.exit_code, second.exit_code) == (3, 0)
    assert first.run.run_id != second.run.run_id
    assert sorted(name for (name,) in job.ask("select session_id from streaming_sessions")) == sorted(listed)
    put(monkeypatch, machine, studio.endpoint_url)
    (third, *_) = job.run()
    assert third.run.run_id == first.run.run_id, "at the former endpoint, the former run goes on"


def test_fault_17_keys_of_another_account_than_the_configured_one_are_refused_in_mid_walk(job, studio, monkeypatch):
    job.config.write_text(job.config.read_text().replace("  retry:", f"{ACCOUNT}\n  retry:"))
    job.run(overrides={"max_items": 10})
    asked = len(studio.requests)
    monkeypatch.setenv("AWS_ACCOUNT_ID", "210987654321")

    with pytest.raises(ConfigError, match=r"source\.account_id is 123456789012, .* are of account 210987654321"):
        job.run()

    assert len(studio.requests) == asked


def program_that_prints(path, key_id, secret):
    """Write a program whose credentials last so short that they are asked for anew for each request."""
    until = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
    document = {"Version": 1, "AccessKeyId": key_id, "SecretAccessKey": secret, "SessionToken": "t"}
    path.write_text(f"#!/bin/sh\necho '{json.dumps({**document, 'Expiration': f'{until:%Y-%m-%dT%H:%M:%SZ}'})}'\n")
    path.chmod(0o755)


def test_fault_7_a_provider_that_breaks_in_mid_walk_publishes_what_is_complete_and_the_rest_goes_on_later(
    tmp_path, machine, studio
):  # fmt: skip
    program = tmp_path / "program"
    program_that_prints(program, *studio.credentials)
    machine(f"[default]\ncredential_process = {program}\n")
    job = Job(tmp_path / "job", studio.endpoint_url, studio.credentials, rest=ONE)

    def break_in_the_second_studio(part, page):
        if part.parents.get("studioId") == studio.world.studio_ids[1] and page.number == 2:
            program.unlink()

    (outcome,) = job.run(on_page=break_in_the_second_studio)

    assert outcome.exit_code == 3
    (failed,) = [facts for facts in outcome.slices if facts.error]
    assert failed.pages == 2
    assert "page 3: credentials of the provider custom-process" in failed.error
    assert sum(facts.publication is not None for facts in outcome.slices) == 2
    program_that_prints(program, *studio.credentials)
    asked = len(studio.requests)
    (resumed,) = job.run()
    assert (resumed.exit_code, resumed.run.run_id) == (0, outcome.run.run_id)
    assert None not in asked_for_sessions(studio, asked), "no stored page is asked for again"


def test_fault_7_keys_that_are_exchanged_in_mid_walk_are_loaded_once_more(tmp_path, machine, studio):
    """The service does not know the former ones any more; the new ones are in the file by then."""
    key_id, secret = studio.credentials
    keys = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    machine(keys.format(key_id, secret))
    job = Job(tmp_path / "job", studio.endpoint_url, studio.credentials, rest=ONE)

    def exchange(part, page):
        if part.dataset == "streaming_sessions" and page.number == 2:
            known = studio._app._offices.keys
            known["AKIAANOTHERKEY000000"] = Key(secret, studio.world.account_id)
            known.pop(key_id, None)
            machine(keys.format("AKIAANOTHERKEY000000", secret))

    (outcome,) = job.run(on_page=exchange)

    assert outcome.exit_code == 0
    assert outcome.counts["retries"] == 1


def test_nothing_that_is_configured_for_aws_reaches_a_command_that_does_not_ask_it(tmp_path, studio):
    (tmp_path / "broken").write_text("[broken")
    nonsense = {
        "AWS_PROFILE": "nobody",
        "AWS_CONFIG_FILE": str(tmp_path / "broken"),
        "AWS_CA_BUNDLE": "/none",
        "AWS_MAX_ATTEMPTS": "abc",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "NO_PROXY": "",
    }
    (tmp_path / "saved.json").write_text('{"sessions": []}')
    job = Job(tmp_path / "job", "embedded", studio.credentials, rest="emulator: {sessions_per_studio: 20}")
    place = ("--studio-id", "s", "--account-id", "123456789012", "--region", "us-west-2")
    saved = str(tmp_path / "saved.json")
    commands = [
        RUN,
        ("import", saved, "--snapshot-date", str(DATE - dt.timedelta(days=1)), *place),
        ("replay", "--since", str(DATE)),
        ("describe", "streaming_sessions"),
        ("verify",),
        ("config", "check"),
    ]
    for command in commands:
        assert job.finish(*command, **nonsense) == 0, job.log
    assert len(ledger_paths(job.directory / "state")) == 2
