"""Providers of credentials fail in every way that Python has, and each failure is a sentence that names the provider.

The real boto3 looks for credentials as it does on a machine; only the services that it asks are on loopback.
"""

import datetime as dt
import json
import sys

import pytest
from support.answers import Answers, http
from support.shapes import part

from etl.errors import ConfigError, CredentialsError, TransientSourceError
from etl.extract.datasets import builtin_datasets

SESSIONS = builtin_datasets()["streaming_sessions"]
SLICE = part("studio-1", dataset="streaming_sessions")
ROLE = "arn:aws:iam::123456789012:role/nightly"
KEYS = "aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = not-a-secret\n"
PAGE = http(json.dumps({"sessions": []}).encode())
GOOD = {"Version": 1, "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "canary-secret", "SessionToken": "canary-token"}


def sts_error(code, message, status="403 Forbidden"):
    return http(
        f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>".encode(),
        status,
    )


def process(code):
    """Return a profile whose credentials a program of Python prints."""
    return f"[default]\ncredential_process = {sys.executable} -c '{code}'\n"


def printing(**changes):
    document = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return process(f"print({json.dumps(json.dumps(document))})".replace("'", ""))


OVER, SOON = "2020-01-01T00:00:00Z", "soon"
BROKEN_PROCESSES = {
    "is not there": "[default]\ncredential_process = /none/at/all\n",
    "cannot be split": "[default]\ncredential_process = echo 'a\n",
    "fails": process("raise SystemExit(1)"),
    "says why it fails": process('raise SystemExit("log in first")'),
    "prints a warning first": process('print("warning"); print({})'),
    "prints a list": process("print([])"),
    "prints nothing": process("pass"),
    "prints no UTF-8": process("import sys; sys.stdout.buffer.write(bytes([255]))"),
    "prints another version": printing(Version=2),
    "prints half of them": printing(SecretAccessKey=None),
    "prints credentials that are over": printing(Expiration=OVER),
    "prints a date that is none": printing(Expiration=SOON),
    "prints numbers": printing(AccessKeyId=5),
    "prints a line break in a key": printing(SecretAccessKey="canary\nsecret"),
}


@pytest.mark.parametrize("how", BROKEN_PROCESSES)
def test_a_credential_process_that_is_broken_is_a_sentence_and_a_matter_of_the_operator(machine, source_of, how):
    machine(BROKEN_PROCESSES[how])
    with pytest.raises(
        ConfigError, match=r"^account: .*custom-process \(credential_process of the profile\): "
    ) as caught:
        _ = source_of("http://127.0.0.1:9").account_id
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)


ROLE_BY_KEYS = f"[default]\nrole_arn = {ROLE}\nsource_profile = b\n"
OTHERS = {
    "web identity without its file": (
        "",
        {"WEB_IDENTITY_TOKEN_FILE": "/none", "ROLE_ARN": ROLE},
        "assume-role-with-web",
    ),
    "web identity without a role": ("", {"WEB_IDENTITY_TOKEN_FILE": "/none"}, "assume-role-with-web-identity"),
    "MFA without a terminal": (f"{ROLE_BY_KEYS}mfa_serial = m\n[profile b]\n{KEYS}", {}, "assume-role .* no terminal"),
    "a role of nobody": (ROLE_BY_KEYS, {}, "assume-role .*source_profile"),
    "a role of itself": (f"[default]\nrole_arn = {ROLE}\nsource_profile = default\n", {}, "assume-role"),
    "half of the keys": ("", {"ACCESS_KEY_ID": "a"}, r"env .*AWS_SECRET_ACCESS_KEY"),
    "a date that is none": (
        "",
        {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "CREDENTIAL_EXPIRATION": "soon"},
        "env",
    ),
    "a line break": ("", {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "canary\n"}, "env .*line breaks"),
    "half of a file": ("[default]\naws_access_key_id = a\n", {}, "config-file"),
    "SSO without a login": (
        "[default]\nsso_start_url = u\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = r\n",
        {},
        "sso",
    ),
    "SSO of no session": ("[default]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n", {}, "sso"),
    "a login that is over": ("[default]\nlogin_session = arn:aws:iam::1:user/u\n", {}, "login"),
    "a container elsewhere": ("", {"CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/x"}, "container-role"),
    "a container without its token": (
        "",
        {"CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/", "CONTAINER_AUTHORIZATION_TOKEN_FILE": "/none"},
        "container-role",
    ),
    "a limit that is no number": ("", {"METADATA_SERVICE_TIMEOUT": "abc"}, "AWS configuration .*'abc'"),
    "a mode that is none": (
        "",
        {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULTS_MODE": "abc"},
        "boto3 makes no",
    ),
    "an endpoint that is none": (
        "[default]\nservices = none\n",
        {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"},
        "AWS conf",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_any_other_provider_that_is_broken_is_a_sentence_too(machine, source_of, what):
    config, variables, says = OTHERS[what]
    machine(config, **variables)
    url = None if what == "an endpoint that is none" else "http://127.0.0.1:9"
    with pytest.raises(ConfigError, match=says) as caught:
        _ = source_of(url).account_id
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("how", BROKEN_PROCESSES)
def test_a_provider_that_breaks_in_mid_walk_leaves_the_walk_resumable(machine, source_of, how):
    """Credentials that last five minutes are asked for anew for each request."""
    until = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
    machine(printing(Expiration=f"{until:%Y-%m-%dT%H:%M:%SZ}"))
    with Answers(PAGE) as answers:
        source = source_of(answers.url)
        source.fetch_page(SESSIONS, SLICE, 1, None, None)
        machine(BROKEN_PROCESSES[how])
        source._renew_credentials(SLICE.account_id)
        with pytest.raises(
            CredentialsError, match=r"^streaming_sessions\[studioId='studio-1'\], page 2: .*custom-process"
        ):
            source.fetch_page(SESSIONS, SLICE, 2, None, None)
        machine(printing())
        source._renew_credentials(SLICE.account_id)
        assert source.fetch_page(SESSIONS, SLICE, 2, None, None).records == 0


def test_credentials_that_cannot_be_renewed_say_so_and_not_more_than_once(machine, source_of, tmp_path, caplog):
    """The same credentials, which end in mid-walk; their program is gone by then."""
    program, until = tmp_path / "program", dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
    document = json.dumps({**GOOD, "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}"})
    program.write_text(f"#!/bin/sh\necho '{document}'\n")
    program.chmod(0o755)
    machine(f"[default]\ncredential_process = {program}\n")
    with Answers(PAGE) as answers:
        source = source_of(answers.url)
        source.fetch_page(SESSIONS, SLICE, 1, None, None)
        program.unlink()
        with pytest.raises(CredentialsError, match=r"custom-process .*No such file or directory") as caught:
            source.fetch_page(SESSIONS, SLICE, 2, None, None)
    assert "canary" not in str(caught.value) + caplog.text


def test_a_role_that_may_not_be_assumed_is_named_with_the_action(machine, source_of):
    with Answers(sts_error("AccessDenied", "User u is not authorized")) as sts, Answers(PAGE) as answers:
        machine(f"{ROLE_BY_KEYS}[profile b]\n{KEYS}", ENDPOINT_URL_STS=sts.url)
        with pytest.raises(
            ConfigError, match=rf"assume-role .*sts:AssumeRole on {ROLE} answered 403 AccessDenied: .*grant it"
        ):
            _ = source_of(answers.url).account_id
        with pytest.raises(ConfigError, match=rf"page 1: .*need sts:AssumeRole on {ROLE}"):
            source_of(answers.url).fetch_page(SESSIONS, SLICE, 1, None, None)
        assert answers.paths == []


def test_a_service_that_gives_out_credentials_and_does_not_answer_now_is_waited_for(machine, source_of, monkeypatch):
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    with Answers(sts_error("Throttling", "slow down", "400 Bad Request")) as sts:
        machine(f"{ROLE_BY_KEYS}[profile b]\n{KEYS}", ENDPOINT_URL_STS=sts.url, MAX_ATTEMPTS="1")
        with pytest.raises(
            TransientSourceError, match=r"assume-role .*Throttling: slow down; run again when it answers"
        ):
            _ = source_of("http://127.0.0.1:9").account_id
    machine("", CONTAINER_CREDENTIALS_FULL_URI="http://127.0.0.1:9/")
    with pytest.raises(TransientSourceError, match=r"container-role .*Could not connect"):
        _ = source_of("http://127.0.0.1:9").account_id


@pytest.mark.parametrize("code", ["InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"])
def test_a_key_that_is_not_known_is_called_that(machine, source_of, code):
    machine("", ACCESS_KEY_ID="AKIDEXAMPLE", SECRET_ACCESS_KEY="x")
    with (
        Answers(sts_error(code, "The security token included in the request is invalid.")) as sts,
        pytest.raises(ConfigError, match=f"{code}: .*the access key id of the credentials is not known there"),
    ):
        _ = source_of(sts.url).account_id


def identity(account):
    body = f"<GetCallerIdentityResult><Account>{account}</Account></GetCallerIdentityResult>"
    return http(f"<GetCallerIdentityResponse>{body}</GetCallerIdentityResponse>".encode())


def test_the_configured_account_is_compared_with_that_of_the_credentials(machine, source_of, caplog):
    caplog.set_level("INFO")
    machine("", ACCESS_KEY_ID="a", SECRET_ACCESS_KEY="b")
    with Answers(identity("2" * 12)) as sts:
        assert source_of(sts.url, account_id="2" * 12).account_id == "2" * 12
        with pytest.raises(
            ConfigError, match=f"source.account_id is {'1' * 12}, and the credentials are of account {'2' * 12}"
        ):
            _ = source_of(sts.url, account_id="1" * 12).account_id
        sts.queue = [http(b"<html/>")]
        assert source_of(sts.url, account_id="1" * 12).account_id == "1" * 12
        assert "source.account_id is taken as it is" in caplog.text
        machine("", ACCOUNT_ID="3" * 12)
        asked = len(sts.paths)
        with pytest.raises(ConfigError, match=f"are of account {'3' * 12}"):
            _ = source_of(sts.url, account_id="1" * 12).account_id
        assert len(sts.paths) == asked, "the provider says which"


@pytest.mark.parametrize(
    "reply",
    [
        http(b"<html>hello</html>"),
        http(b"{}", "404 Not Found"),
        http(b'{"message": "no such operation"}', "400 Bad Request"),
    ],
)
def test_an_endpoint_without_sts_is_said_with_what_to_set(machine, source_of, reply):
    machine("", ACCESS_KEY_ID="a", SECRET_ACCESS_KEY="b")
    with Answers(reply) as answers, pytest.raises(ConfigError, match=r"has no STS: .*set source\.account_id"):
        _ = source_of(answers.url).account_id
    with Answers(reply) as answers:
        machine("", ENDPOINT_URL=answers.url)
        with pytest.raises(ConfigError, match=r"has no STS: .*set source\.account_id"):
            _ = source_of(None).account_id
        machine("", ENDPOINT_URL=answers.url.replace("//", "//user:canary@"))
        with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:\d+ has no STS") as caught:
            _ = source_of(None).account_id
        assert "canary" not in str(caught.value)
