"""The first minutes: the wheel, the demonstration, `init`, `doctor`, a rehearsal, flags where people write them."""

import datetime as dt
import json
import os
import shlex
import subprocess
import sys
import zipfile
from email.utils import format_datetime
from pathlib import Path

import pytest
from support.answers import Answers, http
from support.job import DATE, RUN
from support.studios import LIST, SESSIONS, fired

from etl.configfile import load_settings
from etl.ledger.directory import ledger_paths, lock

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What a wheel brings, unpacked; libraries are those of this environment."""
    site = tmp_path_factory.mktemp("site")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(site)!r}))"
    name = subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with zipfile.ZipFile(site / name.strip()) as wheel:
        wheel.extractall(site)
    return site


def test_the_demonstration_of_a_wheel_needs_no_configuration_and_ends_with_commands_that_work(installed, tmp_path):
    def call(*arguments):
        code = f"import sys; sys.path.insert(0, {str(installed)!r}); import etl.cli\n"
        code += "print(etl.__file__, file=sys.stderr); etl.cli.main()"
        return subprocess.run(
            [sys.executable, "-I", "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "NIMBLE_ETL_EMULATOR__SESSIONS_PER_STUDIO": "60"},
        )  # fmt: skip

    ended = call("demo")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.startswith(str(installed)), "the wheel, not the checkout"
    assert ended.stdout.count(": published; 3 slices") == 3
    assert {path.name for path in tmp_path.iterdir()} == {"nimble-etl-demo"}
    assert (tmp_path / "nimble-etl-demo/report.html").stat().st_size > 10_000

    shown = [shlex.split(line) for line in ended.stdout.partition("Ask it yourself:")[2].splitlines() if line]
    assert len(shown) >= 3
    for program, *arguments in shown:
        assert program == "nimble-etl"
        assert call(*arguments).returncode == 0, arguments
    there = ("--config", "nimble-etl-demo/config.yaml")
    costs = call("query", "costs_by_month", *there, "--format", "json").stdout
    assert any(json.loads(month)["instance_cost"] for month in costs.splitlines())
    assert call("catalog", *there).returncode == 0
    assert call("query", "costs_by_month", *there, "--format", "json").stdout == costs, "the prices stay"
    assert call("report").returncode == 0
    assert (tmp_path / "report.html").exists()
    assert call("run").returncode == 2, "only who asks is led to the demonstration"


def test_a_demonstration_goes_where_it_is_told(job):
    ended = job.cli("demo")
    assert ended.returncode == 2
    assert "source.endpoint_url is not 'embedded'" in ended.stderr


def start(tmp_path, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "etl", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def test_init_writes_the_file_that_comes_with_the_project(tmp_path):
    assert start(tmp_path, "init").returncode == 0
    assert (tmp_path / "config.yaml").read_text() == (ROOT / "config.yaml").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_init_for_aws_leaves_out_what_is_of_the_embedded_studio(tmp_path):
    ended = start(tmp_path, "init", "--aws", "--region", "eu-west-3", "--config", "sub/aws.yaml")
    assert ended.returncode == 0, ended.stderr
    settings = load_settings(tmp_path / "sub/aws.yaml")
    assert (settings.source.endpoint_url, settings.source.region, settings.datasets) == (None, "eu-west-3", ())
    text = (tmp_path / "sub/aws.yaml").read_text()
    assert "studio" not in text
    assert text.count("#") > 15
    next_step = shlex.split(ended.stdout.splitlines()[-1].removeprefix("next: "))
    assert next_step[0] == "nimble-etl"
    added = ["ec2" if word == "SERVICE" else "describe_volumes" if word == "OPERATION" else word for word in next_step]
    assert start(tmp_path, *added[1:]).returncode == 0
    assert start(tmp_path, "config", "check", "--config", "sub/aws.yaml").returncode == 0


def test_init_for_an_inventory_has_all_that_its_services_list(tmp_path):
    ended = start(tmp_path, "init", "--inventory", "sqs, s3,sts")
    assert ended.returncode == 0, ended.stderr
    assert "sts has no operation that lists something" in ended.stderr
    datasets = load_settings(tmp_path / "config.yaml").datasets
    assert {dataset.service for dataset in datasets} == {"sqs", "s3"}
    assert len(datasets) > 10
    assert start(tmp_path, "config", "check").returncode == 0


@pytest.mark.parametrize("arguments", [["--inventory", "s4"], ["--inventory", "s3,no such"], ["--region", "a b"]])
def test_init_leaves_nothing_behind_if_it_cannot_be_done(arguments, tmp_path):
    ended = start(tmp_path, "init", *arguments)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_never_writes_over_a_file(tmp_path):
    (tmp_path / "config.yaml").write_text("datasets: [studios]\n")
    ended = start(tmp_path, "init")
    assert ended.returncode == 2
    assert "config.yaml: there is such a file already" in ended.stderr
    assert (tmp_path / "config.yaml").read_text() == "datasets: [studios]\n"


def test_without_a_configuration_the_message_names_what_writes_one(tmp_path):
    ended = start(tmp_path, "config", "check")
    assert ended.returncode == 2
    assert "`nimble-etl init` writes one" in ended.stderr
    assert start(tmp_path, "init").returncode == 0
    assert start(tmp_path, "config", "check").returncode == 0


def diagnoses(ended):
    return {one["about"]: one for one in json.loads(ended.stdout)["diagnoses"]}


def test_doctor_finds_nothing_where_a_night_works(job, studio):
    ended = job.cli("doctor", "--json")
    assert ended.returncode == 0, ended.stdout
    found = diagnoses(ended)
    assert {one["verdict"] for one in found.values()} == {"ok"}
    assert {
        "versions",
        "configuration",
        "state_dir",
        "warehouse",
        "proxy",
        "endpoint of nimble",
        "clock",
    } < found.keys()
    assert found["credentials"]["found"] == "they are of account 123456789012"
    assert "has 20 records" in found["streaming_sessions"]["found"]
    assert [request.operation for request in studio.requests].count(SESSIONS) == 1
    assert ledger_paths(job.directory / "state") == []
    assert job.cli("doctor").stdout.splitlines()[-1].startswith("ok       streaming_sessions: ")


def test_doctor_says_what_is_not_allowed_and_goes_on(job, studio):
    studio.set_faults([f"access-denied:{LIST},times=ever"])
    ended = job.cli("doctor", "--json")
    assert fired(studio) == {"access-denied"}
    assert ended.returncode == 5
    problems = [one for one in diagnoses(ended).values() if one["verdict"] == "problem"]
    assert [one["about"] for one in problems] == ["streaming_sessions"]
    assert "nimble:ListStreamingSessions" in problems[0]["found"]


def test_doctor_says_that_a_listing_could_not_be_tried(job, studio):
    studio.set_faults(["access-denied:operation=ListStudios,times=ever"])
    found = diagnoses(job.cli("doctor", "--json"))
    assert (found["studios"]["verdict"], found["streaming_sessions"]["verdict"]) == ("problem", "doubt")


def test_doctor_compares_the_clock_with_the_server(tmp_path):
    late = format_datetime(dt.datetime.now(dt.UTC) - dt.timedelta(hours=1), usegmt=True)
    with Answers(http(b"{}", "403 Forbidden", Date=late)) as server:
        source = "\n".join(
            ("source:", f"  endpoint_url: http://127.0.0.1:{server.server_address[1]}", "  account_id: '123456789012'")
        )
        (tmp_path / "config.yaml").write_text(f"{source}\n  retry: {{timeout: 1, wait_max: 0.01}}\n")
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}
        ended = start(tmp_path, "doctor", "--json", **keys)
    clock = diagnoses(ended)["clock"]
    assert clock["verdict"] == "problem"
    assert "AWS refuses more than 300 s: set it right" in clock["found"]
    assert 3590 < int(clock["found"].split()[0]) < 3900


@pytest.mark.parametrize(
    ("line", "about", "found"),
    [
        ("datasets: [nowhere]", "datasets", "nowhere"),
        ("datasets: 7", "configuration", "line 1"),
        ("state_dir: a file/state", "state_dir", "a file"),
        ("source: {endpoint_url: 'http://127.0.0.1:9'}", "endpoint of nimble", "check the network, the proxy"),
    ],
)
def test_doctor_finds_each_mistake_and_no_traceback(line, about, found, tmp_path):
    (tmp_path / "a file").write_text("")
    (tmp_path / "config.yaml").write_text(f"{line}\n")
    ended = start(tmp_path, "doctor", "--json", AWS_EC2_METADATA_DISABLED="true")
    assert ended.returncode == 5, ended.stderr
    assert "Traceback" not in ended.stderr
    told = diagnoses(ended)[about]
    assert told["verdict"] == "problem"
    assert found in told["found"]


def test_a_rehearsal_shows_the_slices_and_writes_nothing(job, studio):
    first = json.loads(job.cli(*RUN, "--dry-run", "--json").stdout)["slices"]
    assert [one["pages_last_time"] for one in first] == [None] * len(first)
    assert not (job.directory / "state").exists()
    assert not (job.directory / "warehouse").exists()
    assert job.finish(*RUN) == 0
    asked, before = len(studio.requests), ledger_paths(job.directory / "state")

    with lock(job.directory / "state"):  # a night may be under way
        ended = job.cli(*RUN, "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert [request.operation for request in studio.requests[asked:] if request.operation != "GetCallerIdentity"] == [
        "ListStudios"
    ]
    assert ledger_paths(job.directory / "state") == before
    pages = {row[0]: row[1] for row in job.ask("select slice_id, pages from etl_slices")}
    assert (
        f"{len(pages)} slices, {sum(pages.values())} pages last time, 0 slices new; nothing was written" in ended.stdout
    )
    for studio_id in studio.world.studio_ids:
        assert studio_id in ended.stdout


def test_a_rehearsal_of_a_date_in_the_future_is_refused_as_a_run_is(job):
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
    for flags in ((), ("--dry-run",)):
        ended = job.cli("run", "--snapshot-date", str(tomorrow), *flags)
        assert (ended.returncode, f"{tomorrow} is in the future" in ended.stderr) == (2, True)


def test_a_rehearsal_says_what_keeps_it_from_knowing_the_slices(job, studio):
    studio.set_faults(["access-denied:operation=ListStudios,times=ever"])
    ended = job.cli(*RUN, "--dry-run")
    assert ended.returncode == 1
    assert "nimble:ListStudios" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--log-format", "json", "run"],
        ["run", "--log-format", "json"],
        ["run", "--log-format=json", "--unless-published"],
    ],
)
def test_global_flags_may_stand_behind_the_command(arguments, job):
    ended = job.cli(*arguments, "--snapshot-date", str(DATE), "--config", str(job.config))
    assert ended.returncode == 0, ended.stderr
    assert {json.loads(line)["level"] for line in ended.stderr.splitlines()} == {"INFO"}


def test_a_global_flag_without_its_value_is_named(tmp_path):
    ended = start(tmp_path, "status", "--log-level")
    assert ended.returncode == 2
    assert "--log-level: found ''" in ended.stderr


def test_the_shell_completes_commands():
    words = {"_NIMBLE_ETL_COMPLETE": "complete_bash", "COMP_WORDS": "nimble-etl re", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['nimble-etl']; from etl.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **words}
    )
    assert ended.stdout.split() == ["replay", "report"]


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("query cos", ["costs_by_month", "costs_by_owner", "costs_by_tag"]),
        ("describe streaming_session_t", ["streaming_session_tags"]),
        ("run --dataset stu", ["studios"]),
        ("forget --dataset str", ["streaming_sessions"]),
    ],
)
def test_the_shell_completes_names(tmp_path, typed, completed):
    assert start(tmp_path, "init").returncode == 0
    assert completions(tmp_path, typed) == completed


def test_without_a_configuration_the_shell_completes_what_it_can(tmp_path):
    assert completions(tmp_path, "describe s") == []
    (tmp_path / "config.yaml").write_text("datasets: 1")
    assert completions(tmp_path, "run --dataset s") == []


def completions(tmp_path, typed):
    """Return what bash is told when somebody types this and presses the tab key."""
    asked = {"_NIMBLE_ETL_COMPLETE": "complete_bash", "COMP_WORDS": f"nimble-etl {typed}"}
    code = "import sys; sys.argv = ['nimble-etl']; import etl.cli; etl.cli.main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **asked, "COMP_CWORD": str(typed.count(" ") + 1)},
    )  # fmt: skip
    assert ended.stderr == ""
    return ended.stdout.split()
