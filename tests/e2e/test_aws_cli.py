"""What the last AWS CLI that knew Nimble Studio saves of a studio becomes the same rows as a direct run."""

import os
import subprocess
from pathlib import Path

import pytest
from support.job import DATE, job_at

from etl.verify import verify

AWS = Path(__file__).parents[2] / ".venv-aws" / "bin" / "aws"
"""awscli 1.35.13 brings botocore 1.35.47, the last with a model of Nimble Studio."""


@pytest.fixture
def aws(job, studio):
    """A function that runs the CLI against the studio and returns the path of what it printed."""
    assert AWS.exists(), f"{AWS} is missing; `make .venv-aws/bin/aws` installs it"

    def run(name, *arguments):
        path = job.directory / f"{name}.json"
        with path.open("wb") as file:
            subprocess.run(
                [AWS, "nimble", *arguments, "--endpoint-url", studio.endpoint_url, "--region", "us-west-2"],
                env={**os.environ, **job.environment},
                stdout=file,
                check=True,
            )
        return str(path)

    return run


def rows(job, table):
    return job.ask(
        f"select t::varchar from (select * exclude (run_id, extracted_at, page_number) from {table}) t order by all"
    )


def test_saved_output_of_the_real_cli_is_imported_to_the_rows_of_a_direct_run(job, studio, aws, tmp_path):
    job.run()
    imported = job_at(tmp_path / "imported", studio)
    dumps = [(aws("studios", "list-studios"), "studios", ())]
    for studio_id in studio.world.studio_ids:
        dump = aws(studio_id, "list-streaming-sessions", "--studio-id", studio_id)
        dumps.append((dump, "streaming_sessions", ("--studio-id", studio_id)))
    asked = len(studio.requests)

    for dump, dataset, slice_flags in dumps:
        done = imported.cli("import", dump, "--dataset", dataset, *slice_flags, "--snapshot-date", DATE.isoformat())
        assert done.returncode == 0, done.stderr

    assert len(studio.requests) == asked, "an import asks nobody"
    for table in ("studios", "studio_tags", "streaming_sessions", "streaming_session_tags"):
        assert rows(imported, table) == rows(job, table) != []
    assert [finding.problem for finding in verify(imported.settings()) if finding.problem] == []


def test_pages_that_the_cli_cut_off_are_not_taken_for_the_whole(studio, aws, tmp_path):
    first = studio.world.studio_ids[0]
    dump = aws("part", "list-streaming-sessions", "--studio-id", first, "--max-items", "7")
    imported = job_at(tmp_path / "imported", studio)
    flags = ("--studio-id", first, "--snapshot-date", DATE.isoformat())

    refused = imported.cli("import", dump, *flags)

    assert refused.returncode != 0
    assert "Nothing was imported" in refused.stderr
    assert not (imported.directory / "warehouse" / "streaming_sessions").exists()
    assert imported.cli("import", dump, *flags, "--publish-partial").returncode == 0
    assert imported.ask("select count(*) from streaming_sessions_history") == [(7,)]
