"""The AWS CLI itself: what its last release that knows Nimble Studio prints is imported as a direct export would be."""

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest
from support.job import DATE, NIGHT, job_at

from etl.emulator import EmbeddedStudio, StudioSettings, World
from etl.verify import verify

AWS = Path(__file__).parents[2] / ".venv-aws" / "bin" / "aws"
TABLES = ("streaming_sessions_history", "streaming_session_tags_history")
DATE_FLAG = ("--snapshot-date", DATE.isoformat())
WORLD = World(studios=1, sessions_per_studio=120)
(STUDIO,) = WORLD.studio_ids
LIST = ("nimble", "list-streaming-sessions", "--studio-id", STUDIO)


@pytest.fixture(scope="module")
def source():
    with EmbeddedStudio(WORLD, StudioSettings(page_size=20, instant=NIGHT)) as studio:
        yield studio


@pytest.fixture(scope="module")
def aws(source, tmp_path_factory):
    """Run the CLI against the embedded studio; return what it prints."""
    assert AWS.exists(), f"there is no {AWS}; `make .venv-aws/bin/aws` installs requirements-aws.lock there"
    directory = tmp_path_factory.mktemp("aws")
    key_id, secret = source.credentials

    def run(*arguments, settings=""):
        (directory / "config").write_text(f"[default]\nregion = us-west-2\n{settings}\n")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "AWS_CONFIG_FILE": str(directory / "config"),
            "AWS_ACCESS_KEY_ID": key_id,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONUTF8": "1",
        }
        ended = subprocess.run(
            [AWS, "--endpoint-url", source.endpoint_url, *arguments], env=environment, capture_output=True, check=False
        )
        assert ended.returncode == 0, ended.stderr.decode()
        return ended.stdout

    return run


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    """The rows of a direct export."""
    job = job_at(tmp_path_factory.mktemp("exported"), source)
    ended = job.cli("run", *DATE_FLAG)
    assert ended.returncode == 0, ended.stderr
    return rows(job)


@pytest.fixture
def job(tmp_path, source):
    return job_at(tmp_path / "job", source)


def rows(job):
    """What a page is differs, and nothing else."""
    return [job.rows(f"(select * exclude (page_number) from {table})") for table in TABLES]


def imported(job, *printed, dataset=("--studio-id", STUDIO)):
    files = []
    for number, content in enumerate(printed):
        files.append(job.directory / f"dump-{number}.json")
        files[-1].write_bytes(content)
    return job.cli("import", *map(str, files), *dataset, *DATE_FLAG)


@pytest.mark.parametrize("settings", ["", "cli_timestamp_format = iso8601"], ids=["as sent", "iso8601"])
def test_what_the_cli_prints_becomes_the_rows_of_a_direct_export(aws, job, exported, settings):
    """Version 1 prints timestamps as they were sent, version 2 (and 1, if told so) as ISO 8601."""
    ended = imported(job, aws(*LIST, settings=settings))

    assert ended.returncode == 0, ended.stderr
    assert len(exported[0]) > 100
    assert rows(job) == exported
    assert [finding.problem for finding in verify(job.settings()) if finding.problem] == []


def test_its_first_and_its_remaining_items_are_one_listing(aws, job, exported):
    first = aws(*LIST, "--max-items", "50")
    refused = imported(job, first)
    assert (refused.returncode, "has a token" in refused.stderr) == (1, True)

    rest = aws(*LIST, "--starting-token", json.loads(first)["NextToken"])
    ended = imported(job, first, gzip.compress(rest))

    assert ended.returncode == 0, ended.stderr
    assert rows(job) == exported


def test_pages_of_a_loop_are_one_listing(aws, job, exported):
    pages = [aws(*LIST, "--no-paginate")]
    while token := json.loads(pages[-1]).get("nextToken"):
        pages.append(aws(*LIST, "--no-paginate", "--next-token", token))
    assert len(pages) > 3

    ended = imported(job, b"".join(pages))

    assert ended.returncode == 0, ended.stderr
    assert rows(job) == exported


def test_the_list_that_query_prints_is_a_listing(aws, job, exported):
    ended = imported(job, aws(*LIST, "--query", "sessions"))

    assert ended.returncode == 0, ended.stderr
    assert rows(job) == exported


@pytest.mark.parametrize("output", ["text", "table"])
def test_its_other_formats_are_refused_in_a_sentence(aws, job, output):
    ended = imported(job, aws(*LIST, "--output", output))

    assert ended.returncode == 1
    assert "expected what `aws nimble list-streaming-sessions --output json` prints" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_studios_are_imported_too(aws, job):
    ended = imported(job, aws("nimble", "list-studios"), dataset=("--dataset", "studios"))

    assert ended.returncode == 0, ended.stderr
    assert job.ask("select studio_id from studios") == [(STUDIO,)]
