"""The way of a request: endpoints, proxies and certificates, and what has no effect on the embedded studio."""

import pytest
from support.answers import KEY, Answers, http, stopped_source_at
from support.shapes import part

from etl.errors import ConfigError, EtlError, TransientSourceError
from etl.extract.datasets import builtin_datasets

SESSIONS = builtin_datasets()["streaming_sessions"]
SLICE = part("studio-1", dataset="streaming_sessions")
KEYS = {"ACCESS_KEY_ID": KEY[0], "SECRET_ACCESS_KEY": KEY[1]}
PAGE = http(b'{"sessions": []}')


@pytest.mark.parametrize("how", ["is not there", "is no PEM", "is a directory"])
@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "ca_bundle"])
def test_certificates_that_cannot_be_used_are_found_before_any_request(  # noqa: PLR0913, PLR0917  fixtures
    machine, source_of, monkeypatch, tmp_path, how, variable
):
    path = tmp_path / ("" if how == "is a directory" else "bundle.pem")
    if how == "is no PEM":
        path.write_text("no certificate")
    machine(f"[default]\nca_bundle = {path}\n" if variable == "ca_bundle" else "", **KEYS)
    if variable != "ca_bundle":
        monkeypatch.setenv(variable, str(path))
    with pytest.raises(ConfigError, match=rf"AWS_CA_BUNDLE.*'{path}' cannot be used: .*; expected a file .* PEM"):
        source_of("https://127.0.0.1:9").fetch_page(SESSIONS, SLICE, 1, None, None)
    with Answers(PAGE) as answers:
        assert source_of(answers.url).fetch_page(SESSIONS, SLICE, 1, None, None).records == 0, "it needs none"


PROXIES = [
    "http://user:can#ary-word@127.0.0.1:9",
    "http://user:can/ary-word@127.0.0.1:9",
    "http://user:canary-word@127.0.0.1:port",
    "http://user:canary-word@[::1:9",
    "socks5://user:canary-word@127.0.0.1:9",
    "user:canary word@",
]


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_proxy_that_cannot_be_used_is_found_at_once_and_its_password_never_said(
    machine, source_of, monkeypatch, proxy
):
    machine("", **KEYS)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(ConfigError, match=r"environment HTTP_PROXY: is no URL of a proxy that boto3 can use") as caught:
        source_of("http://127.0.0.1:9").fetch_page(SESSIONS, SLICE, 1, None, None)
    assert "ary" not in str(caught.value)
    assert "user" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["http://user:canary%23word@127.0.0.1:9", "user:canary%23word@127.0.0.1:9"])
def test_a_proxy_that_is_not_there_is_named_without_its_password(machine, source_of, monkeypatch, proxy):
    machine("", **KEYS)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(TransientSourceError, match=r"Failed to connect to proxy URL: .*@127\.0\.0\.1:9") as caught:
        source_of("http://127.0.0.1:9").fetch_page(SESSIONS, SLICE, 1, None, None)
    assert "canary" not in str(caught.value)


def test_keys_never_come_out_of_an_error_of_a_library(machine, source_of, monkeypatch):
    machine("", ACCESS_KEY_ID="AKIDEXAMPLE", SECRET_ACCESS_KEY="canary/secret", SESSION_TOKEN="canary+token")

    def leak(_auth, request):
        raise ValueError(f"Invalid header value b'canary+token' of {request} with canary/secret, canary%2Fsecret")

    with Answers(PAGE) as answers:
        source = source_of(answers.url)
        source.fetch_page(SESSIONS, SLICE, 1, None, None)
        machine("", SECRET_ACCESS_KEY="another", SESSION_TOKEN="other")
        source._renew_credentials("123456789012")
        monkeypatch.setattr("botocore.auth.SigV4Auth.add_auth", leak)
        with pytest.raises(EtlError, match=r"Invalid header value b'\*\*\*' of .* with ") as caught:
            source.fetch_page(SESSIONS, SLICE, 2, None, None)
    assert "canary" not in str(caught.value) + str(caught.value.__cause__)


ENDPOINTS = {
    "of all services": ("", "ENDPOINT_URL"),
    "of the service": ("", "ENDPOINT_URL_NIMBLE"),
    "of the profile": ("[default]\nendpoint_url = {url}\n", None),
    "of the profile, for the service": (
        "[default]\nservices = s\n[services s]\nnimble =\n  endpoint_url = {url}\n",
        None,
    ),
}


@pytest.mark.parametrize("how", ENDPOINTS)
def test_the_endpoint_in_force_is_the_one_that_requests_go_to(machine, source_of, how):
    config, variable = ENDPOINTS[how]
    with Answers(PAGE) as answers:
        machine(config.format(url=answers.url), **KEYS, **({variable: answers.url} if variable else {}))
        source = source_of(None)
        assert source.endpoint_of(SESSIONS) == answers.url
        assert source.fetch_page(SESSIONS, SLICE, 1, None, None).records == 0
        machine(config.format(url=answers.url), IGNORE_CONFIGURED_ENDPOINT_URLS="true")
        assert source_of(None).endpoint_of(SESSIONS) is None


def test_nothing_that_is_configured_for_aws_reaches_the_embedded_studio(machine, monkeypatch):
    machine(
        "[broken",
        PROFILE="nobody",
        MAX_ATTEMPTS="abc",
        DEFAULTS_MODE="abc",
        CA_BUNDLE="/none",
        USE_FIPS_ENDPOINT="true",
    )
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with Answers(PAGE) as answers:
        source = stopped_source_at(answers.url)
        source.operation(SESSIONS)
        assert source.fetch_page(SESSIONS, SLICE, 1, None, None).records == 0


def test_a_configuration_of_aws_that_cannot_be_read_is_a_sentence(machine, source_of, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied", "config")

    machine("[default]\n", **KEYS)
    monkeypatch.setattr("botocore.configloader.load_config", refuse)
    with pytest.raises(ConfigError, match=r"AWS configuration: .*Permission denied.*; see AWS_PROFILE, ~/\.aws/config"):
        source_of(None)
    assert stopped_source_at("http://127.0.0.1:9").operation(SESSIONS).name == "ListStreamingSessions"
