"""The AWS CLI itself: what its last release that knows Nimble Studio prints is imported as a direct export would be."""

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest
from support.dumps import rows_apart_from_pages, save
from support.job import DATE_FLAG, job_at
from support.studios import studio_of

from etl.emulator import World
from etl.load.delta.tables import Tables

AWS = Path(__file__).parents[2] / ".venv-aws" / "bin" / "aws"
STUDIOS = ("studios_history", "studio_tags_history")
WORLD = World(studios=2, sessions_per_studio=120)
STUDIO = WORLD.studio_ids[0]
LIST = ("nimble", "list-streaming-sessions", "--studio-id", STUDIO)


@pytest.fixture(scope="module")
def source():
    with studio_of(WORLD) as studio:
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
    """A job that exported that studio directly."""
    job = job_at(tmp_path_factory.mktemp("exported"), source)
    ended = job.cli("run", "--studio-id", STUDIO, *DATE_FLAG)
    assert ended.returncode == 0, ended.stderr
    return job


@pytest.fixture
def job(tmp_path, source):
    return job_at(tmp_path / "job", source)


def imported(job, *printed, flags=("--studio-id", STUDIO)):
    return job.cli("import", *map(str, save(job.directory, *printed)), *flags, *DATE_FLAG)


@pytest.mark.parametrize("settings", ["", "cli_timestamp_format = iso8601"], ids=["as sent", "iso8601"])
def test_what_the_cli_prints_becomes_the_rows_of_a_direct_export(aws, source, job, exported, settings):
    """Version 1 prints timestamps as they were sent, version 2 (and 1, if told so) as ISO 8601."""
    dump = aws(*LIST, settings=settings)
    asked = len(source.requests)

    ended = imported(job, dump)

    assert ended.returncode == 0, ended.stderr
    assert len(source.requests) == asked, "an import asks nobody"
    assert len(rows_apart_from_pages(job)[0]) > 100
    assert rows_apart_from_pages(job) == rows_apart_from_pages(exported)
    assert job.problems() == []


def test_its_first_and_its_remaining_items_are_one_listing(aws, job, exported):
    first = aws(*LIST, "--max-items", "50")
    rest = aws(*LIST, "--starting-token", json.loads(first)["NextToken"])
    ended = imported(job, first, gzip.compress(rest))

    assert ended.returncode == 0, ended.stderr
    assert rows_apart_from_pages(job) == rows_apart_from_pages(exported)


def test_items_that_are_not_all_are_published_only_if_asked_for(aws, job):
    first = aws(*LIST, "--max-items", "7")

    refused = imported(job, first)
    assert refused.returncode == 1
    assert "the last document has a token" in refused.stderr
    assert "streaming_sessions" not in Tables(job.store).names()

    ended = imported(job, first, flags=("--studio-id", STUDIO, "--publish-partial"))
    assert ended.returncode == 5, ended.stderr
    assert job.ask("select count(*) from streaming_sessions_history") == [(7,)]


def test_pages_of_a_loop_are_one_listing(aws, job, exported):
    pages = [aws(*LIST, "--no-paginate")]
    while token := json.loads(pages[-1]).get("nextToken"):
        pages.append(aws(*LIST, "--no-paginate", "--next-token", token))
    assert len(pages) > 3

    ended = imported(job, b"".join(pages))

    assert ended.returncode == 0, ended.stderr
    assert rows_apart_from_pages(job) == rows_apart_from_pages(exported)


def test_the_list_that_query_prints_is_a_listing(aws, job, exported):
    ended = imported(job, aws(*LIST, "--query", "sessions"))

    assert ended.returncode == 0, ended.stderr
    assert rows_apart_from_pages(job) == rows_apart_from_pages(exported)


@pytest.mark.parametrize("output", ["text", "table"])
def test_its_other_formats_are_refused_in_a_sentence(aws, job, output):
    ended = imported(job, aws(*LIST, "--output", output))

    assert ended.returncode == 1
    assert "expected what `aws nimble list-streaming-sessions --output json` prints" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_studios_are_imported_too(aws, job, exported):
    ended = imported(job, aws("nimble", "list-studios"), flags=("--dataset", "studios"))

    assert ended.returncode == 0, ended.stderr
    assert rows_apart_from_pages(job, STUDIOS) == rows_apart_from_pages(exported, STUDIOS)
    assert all(rows_apart_from_pages(job, STUDIOS))
