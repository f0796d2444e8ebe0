"""Secrets and personal data: canaries in credentials and in records, and where they must not turn up."""

import json
from dataclasses import dataclass

import pytest
from support.job import DATE_FLAG, NIGHT, RUN, job_at
from support.shapes import EVERYTHING, dataset, list_of, member, operation, page, part, snapshot, structure
from support.studios import LIST, SESSIONS, fired, studio_of

from etl.emulator import World, app, signature
from etl.emulator.faults import FAULTS, _error
from etl.transform.batches import flatten
from etl.transform.schema import layout_of

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIACANARYKEYID00001",
    "AWS_SECRET_ACCESS_KEY": "canary/secret+key",
    "AWS_SESSION_TOKEN": "canary//session+token==",
    "NIMBLE_ETL_PRIVACY__KEY": "canary-privacy-key",
}
USER, TAG_KEY, TAG_VALUE, NAME, SCRIPT = PERSONAL = [
    f"canary-{what}" for what in ("user", "tag-key", "tag-value", "name", "script")
]

BAD_SIGNATURE = f"""The request signature we calculated does not match the signature you provided.

The Canonical String for this request should have been
'GET
/2020-08-01/studios

x-amz-security-token:{CREDENTIALS["AWS_SESSION_TOKEN"]}
'

The String-to-Sign should have been
'AWS4-HMAC-SHA256 Credential={CREDENTIALS["AWS_ACCESS_KEY_ID"]}'
"""
"""As AWS answers: from the third line on, it repeats the request."""


@dataclass(frozen=True)
class Marked(World):
    """Canaries wherever users leave something of themselves."""

    def page(self, *where):
        page = super().page(*where)
        return page._replace(records=[marked(record) for record in page.records])


def marked(record):
    record = record | {name: USER for name in record if name.endswith("By")}
    record |= {name: NAME for name in record if name in {"name", "displayName", "description"}}
    if "initializationScripts" in record:
        record["initializationScripts"] = [{**one, "script": SCRIPT} for one in record["initializationScripts"]]
    return record | {"tags": {TAG_KEY: TAG_VALUE}}


def _tags(value):
    def spoil(reply, _call):
        page = json.loads(reply.body)
        next(iter(value for value in page.values() if isinstance(value, list)))[0]["tags"] = value
        return reply.__class__(reply.status, json.dumps(page).encode(), reply.headers)

    return spoil


@pytest.fixture
def known_canaries(monkeypatch):
    """Studios know the canaries as their credentials, and answer a bad signature as AWS does."""
    monkeypatch.setattr(signature, "ACCESS_KEY_ID", CREDENTIALS["AWS_ACCESS_KEY_ID"])
    monkeypatch.setattr(signature, "SECRET_ACCESS_KEY", CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
    signature._signing_key.cache_clear()
    monkeypatch.setitem(FAULTS, "signature", _error(403, "SignatureDoesNotMatch", BAD_SIGNATURE))
    monkeypatch.setitem(FAULTS, "surrogate-tags", _tags({TAG_KEY: TAG_VALUE, f"{TAG_KEY}-2": f"{TAG_VALUE}\ud800"}))
    monkeypatch.setitem(FAULTS, "wrong-tags", _tags({TAG_KEY: [TAG_VALUE]}))
    yield
    signature._signing_key.cache_clear()


@pytest.fixture
def studio(known_canaries):  # noqa: ARG001
    with studio_of(Marked(studios=1, sessions_per_studio=160)) as studio:
        yield studio


@pytest.fixture
def job(tmp_path, studio):
    return job_with_canaries(tmp_path, studio)


def job_with_canaries(directory, studio):
    job = job_at(
        directory / "job",
        studio,
        source="  account_id: '123456789012'",
        rest="datasets: [studios, streaming_sessions, studio_components]",
    )
    job.credentials = (CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
    return job


def said(job, *arguments, **environment):
    """Run a command with the canaries as its credentials; return its exit code, and all that it wrote."""
    (job.directory / "log").unlink(missing_ok=True)
    return job.finish(*arguments, **CREDENTIALS, **environment), job.log


def canaries_in(text, canaries):
    return [canary for canary in canaries if canary in text]


def stored(job):
    """Return all that the job left: files as they are, tables as text."""
    files = [path.read_bytes().decode(errors="replace") for path in job.directory.rglob("*") if path.is_file()]
    if has_catalog(job):
        for (name,) in job.ask("select table_name from information_schema.tables"):
            files += [row for (row,) in job.ask(f'select t::varchar from "{name}" t')]
    return "\n".join(files)


def has_catalog(job):
    return (job.directory / "warehouse" / "warehouse.duckdb").exists()


def check(job, output):
    """Credentials are nowhere; what is in records is in no message."""
    assert canaries_in(output, [*CREDENTIALS.values(), *PERSONAL]) == []
    assert canaries_in(stored(job), CREDENTIALS.values()) == []
    if has_catalog(job):
        messages = job.ask("select string_agg(reason) from etl_rejects") + job.ask(
            "select string_agg(concat(error, drift::varchar)) from etl_slices"
        )
        assert canaries_in(str(messages), PERSONAL) == []


PASSING = [
    *(f"{kind}:{LIST},page=2,times=1" for kind in ("html", "truncate", "bad-utf8", "missing-list", "wrong-type")),
    *(f"{kind}:{LIST},page=3,times=1" for kind in ("throttle", "reset", "bad-gzip", "expired-credentials")),
    *(
        f"{kind}:{LIST},page={page},times=1"
        for page, kind in enumerate(("surrogate-tags", "bad-timestamp", "wrong-tags"), 4)
    ),
    *(f"{kind}:{LIST},page={page},times=1" for page, kind in enumerate(("nested-type", "unknown-member"), 7)),
]


@pytest.mark.parametrize(
    ("level", "log_format"),
    [("debug", "text"), ("debug", "json"), ("info", "text"), ("warning", "json"), ("error", "text")],
)
def test_fault_56_no_log_level_says_what_is_secret_or_personal(level, log_format, job, studio):
    """A night with everything that passes, and with records that do not fit."""
    studio.set_faults(PASSING)

    exit_code, output = said(job, "--log-level", level, "--log-format", log_format, *RUN, "--config", str(job.config))

    assert [rule.partition(":")[0] for rule in PASSING if rule.partition(":")[0] not in fired(studio)] == []
    assert exit_code == 5, output
    assert "4 rejects" in output
    check(job, output)
    assert canaries_in(stored(job), PERSONAL) == [USER, TAG_KEY, TAG_VALUE, NAME], "they did come; scripts are hashed"


REFUSALS = ["signature", "access-denied", "quota", "clock-skew", "vanish", "cycle-tokens"]


def test_fault_56_no_refusal_of_the_source_says_what_is_secret_or_personal(tmp_path, known_canaries):  # noqa: ARG001
    """Each studio is refused in its own way."""
    world = Marked(studios=len(REFUSALS), sessions_per_studio=60)
    with studio_of(world) as studio:
        job = job_with_canaries(tmp_path, studio)
        faults = zip(REFUSALS, world.studio_ids, strict=True)
        studio.set_faults([f"{kind}:{LIST},studio={studio_id},times=ever" for kind, studio_id in faults])

        exit_code, output = said(job, *RUN, NIMBLE_ETL_LOG_LEVEL="debug", NIMBLE_ETL_DEBUG="1")

        assert fired(studio) == set(REFUSALS)
    assert exit_code == 5, output
    assert all(f"studioId='{studio_id}'], page" in output for studio_id in world.studio_ids)
    check(job, output)


def test_fault_56_a_traceback_does_not_repeat_the_request_that_was_signed_wrong(job, monkeypatch):
    """The account is asked for before any page, and its failure ends the run."""

    def refuse(**_request):
        raise signature.SignatureError("SignatureDoesNotMatch", BAD_SIGNATURE)

    monkeypatch.setattr(app, "verify_signature", refuse)
    job.config.write_text(job.config.read_text().replace("  account_id: '123456789012'\n", ""))

    exit_code, output = said(job, *RUN, NIMBLE_ETL_LOG_LEVEL="debug", NIMBLE_ETL_DEBUG="1")

    assert exit_code == 1
    assert "Traceback" in output
    assert "The request signature we calculated does not match" in output
    check(job, output)


def test_fault_56_no_url_with_a_key_in_it_is_in_the_log(job, studio):
    """Neither that of a health check nor that of a proxy."""
    job.configure("on_finish: {url: 'http://127.0.0.1:1/ping/canary-check'}")
    proxy = "http://canary-proxy-user:canary-proxy-password@127.0.0.1:1"

    exit_code, output = said(job, *RUN, HTTP_PROXY=proxy, NO_PROXY="", NIMBLE_ETL_LOG_LEVEL="debug")

    assert exit_code == 3, output
    assert "Failed to connect to proxy URL" in output
    assert "on_finish.url: " in output
    assert canaries_in(output + stored_state(job), ["canary-proxy", "canary-check"]) == []
    assert studio.requests == []


def stored_state(job):
    return "".join(path.read_bytes().decode(errors="replace") for path in (job.directory / "state").rglob("*.sqlite*"))


MISTAKES = {
    "unknown key": "source: {aws_secret_access_key: canary-in-file}",
    "broken line": "source: {aws_secret_access_key: canary-in-file",
    "repeated key": "secret: canary-in-file\nsecret: canary-in-file-too",
    "wrong type": "source: {region: [canary-in-file]}",
    "password in a URL": "source: {endpoint_url: 'http://user:canary-in-file@host'}",
    "privacy key": "privacy: {key: canary-in-file}",
    "a list": "- canary-in-file",
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("debug", ["", "1"])
def test_fault_56_a_mistake_in_the_configuration_does_not_repeat_what_may_be_secret(mistake, debug, job):
    job.config.write_text(MISTAKES[mistake])

    exit_code, output = said(job, *RUN, NIMBLE_ETL_DEBUG=debug)

    assert exit_code == (1 if debug else 2), output
    assert str(job.config) in output
    assert "canary" not in output


def test_fault_56_a_mistake_in_the_environment_does_not_repeat_what_may_be_secret(job):
    exit_code, output = said(job, *RUN, NIMBLE_ETL_SOURCE="canary-in-environment", NIMBLE_ETL_DEBUG="1")

    assert exit_code == 1
    assert "environment NIMBLE_ETL_SOURCE" in output
    assert "canary" not in output


def test_fault_56_no_command_about_the_job_shows_what_is_secret_or_personal(job):
    assert said(job, *RUN)[0] == 0

    for command in (["config", "show"], ["config", "check"], ["status"], ["verify"], ["datasets"]):
        exit_code, output = said(job, *command)

        assert exit_code == 0
        assert canaries_in(output, [*CREDENTIALS.values(), *PERSONAL]) == [], command


BROKEN_DUMPS = {
    "not JSON": lambda text: text.replace('"sessionId"', "sessionId", 1),
    "truncated": lambda text: text[: len(text) // 2],
    "no list": lambda text: text.replace('"sessions"', '"other"', 1),
    "a record that does not fit": lambda text: text.replace('"updatedAt":"', '"updatedAt":"soon ', 1),
}


@pytest.mark.parametrize("how", BROKEN_DUMPS)
def test_fault_56_58_a_broken_dump_is_not_quoted(how, job, studio):
    studio_id = studio.world.studio_ids[0]
    records = studio.world.page(SESSIONS, {"studioId": studio_id}, NIGHT, 0, 10).records
    text = json.dumps({"sessions": records}, default=lambda at: at.isoformat(), separators=(",", ":"))
    broken = BROKEN_DUMPS[how](text)
    assert broken != text
    (job.directory / "dump.json").write_text(broken)

    exit_code, output = said(
        job, "import", str(job.directory / "dump.json"), *DATE_FLAG, "--studio-id", studio_id,
        NIMBLE_ETL_LOG_LEVEL="debug", NIMBLE_ETL_DEBUG="1",
    )  # fmt: skip

    assert exit_code == (5 if how.startswith("a record") else 1), output
    assert canaries_in(output, PERSONAL) == []


@pytest.mark.parametrize(
    ("name", "value", "is_shown"),
    [
        ("count", 2**40, True),
        ("secretCount", 2**40, False),
        ("limits", {"canary": {"most": 2**40, "names": ["canary"]}}, False),
        ("record", {"secretCount": 2**40}, False),
    ],
)
def test_fault_56_the_reason_of_a_reject_repeats_no_sensitive_value_and_no_tag(name, value, is_shown):
    secret = member("secret_count", "integer", sensitive=True)
    record = list_of("record", structure("element", secret))
    shape = operation(EVERYTHING.model_copy(update={"members": (*EVERYTHING.members, secret, record)}))
    things = dataset()
    arrived = page([{"thingId": "1", name: [value] if name == "record" else value}])

    (flat,) = flatten(layout_of(things, shape), snapshot(things, shape), part(), [arrived])

    (reject,) = flat.rejects.to_pylist()
    assert reject["reason"].startswith(name)
    assert (str(2**40) in reject["reason"]) is is_shown
    assert "canary" not in reject["reason"]
    assert str(2**40) in reject["record"], "the record itself is whole"
