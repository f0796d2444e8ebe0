"""Fault 80: a key that different records share. Whatever a key is made of, no record is lost in silence."""

import datetime as dt
import json

import pytest
from support.answers import KEY, Answers, http
from support.job import DATE, DATE_FLAG, RUN, Job
from support.shapes import ACCOUNT

from etl.ledger.directory import ledger_paths

NEXT = (DATE + dt.timedelta(days=1)).isoformat()
IMAGES = [
    {"imageDigest": "sha256:a", "imageTag": "1"},
    {"imageDigest": "sha256:a", "imageTag": "latest"},
    {"imageDigest": "sha256:b", "imageTag": "2"},
    {"imageDigest": "sha256:c"},
    {"imageTag": "lost"},
]
LATER_CHANGES = f"select change, image_digest from image_changes where snapshot_date > '{DATE}' order by 1"
DATASET = (
    "datasets: [{name: images, service: ecr, operation: list_images, item: image,"
    " parameters: {repositoryName: repository}, key: %s}]"
)


def page(images, token=None):
    return http(json.dumps({"imageIds": images, **({"nextToken": token} if token else {})}).encode())


def job_of(directory, answers, key):
    return Job(directory, answers.url, KEY, source=f"  account_id: '{ACCOUNT}'", rest=DATASET % key)


def with_key(job, key):
    lines = job.config.read_text().splitlines()
    lines = [DATASET % key if line.startswith("datasets:") else line for line in lines]
    job.config.write_text("\n".join(lines))


def test_fault_80_a_key_that_different_records_share_costs_these_records_their_rows_and_the_run_says_so(tmp_path):
    """The remedy in the message is followed: then every record is there, without a request."""
    with Answers(page(IMAGES[:4])) as answers:
        job = job_of(tmp_path, answers, "[image_digest]")

        assert job.finish(*RUN) == 5, job.log

        asked = len(answers.paths)
        assert "the key image_digest of dataset images does not identify a record: 2 records" in job.log
        assert "such as record 0 of page 1 and record 1 of page 1" in job.log
        assert job.ask("select image_digest from images order by 1") == [("sha256:b",), ("sha256:c",)]
        rejects = job.ask("select record from etl_rejects order by record_number")
        assert [json.loads(record) for (record,) in rejects] == IMAGES[:2]
        with_key(job, "[image_digest, image_tag]")
        (ledger,) = ledger_paths(tmp_path / "state")
        assert f"`key: []` for the whole record; then nimble-etl replay {ledger.stem}" in job.log
        assert job.finish("replay", ledger.stem) == 0, job.log
        assert len(answers.paths) == asked
    assert len(job.rows("images")) == 4
    assert job.rows("etl_rejects") == []
    assert job.finish("verify") == 0, job.log


def test_fault_23_80_a_key_that_few_records_have_does_not_empty_the_table(tmp_path):
    """Night 1 is good. Before night 2 somebody names a member as the key that all records but one lack."""
    with Answers(page(IMAGES[:4])) as answers:
        job = job_of(tmp_path, answers, "[image_digest, image_tag]")
        assert job.finish(*RUN) == 0, job.log
        before = job.rows("images")
        answers.queue = [page([{"imageDigest": f"sha256:{i}"} for i in range(4)])]
        with_key(job, "[image_tag]")

        assert job.finish("run", "--snapshot-date", NEXT) == 1, job.log

    assert "0 rows of 4 records, its snapshot of" in job.log
    assert "--allow-fall" in job.log
    assert job.rows("images") == before


@pytest.mark.parametrize("key", ["[image_digest, image_tag]", "[]"])
def test_a_record_is_the_same_the_next_night_whatever_its_key_is_made_of(key, tmp_path):
    """Also if a part of its key is null. Of night 2, one record has vanished and one has appeared; none has changed."""
    with Answers(http(), page(IMAGES[:2], "more"), page(IMAGES[2:])) as answers:  # the first one is asked by STS
        job = job_of(tmp_path, answers, key)
        assert job.finish(*RUN) == 0, job.log
        answers.queue = [page([*reversed(IMAGES[1:]), {"imageDigest": "sha256:d"}])]

        assert job.finish("run", "--snapshot-date", NEXT) == 0, job.log

    assert job.ask(LATER_CHANGES) == [("appeared", "sha256:d"), ("vanished", "sha256:a")]
    assert len(job.rows("images")) == 5
    assert job.finish("verify") == 0, job.log


def test_a_record_that_is_rejected_has_not_vanished_although_its_key_is_partly_null(tmp_path):
    with Answers(page(IMAGES)) as answers:
        job = job_of(tmp_path, answers, "[image_digest, image_tag]")
        assert job.finish(*RUN) == 0, job.log
        answers.queue = [page([*IMAGES[:3], IMAGES[3], {**IMAGES[3], "new": 1}, IMAGES[4]])]

        assert job.finish("run", "--snapshot-date", NEXT) == 5, job.log

        assert job.ask(LATER_CHANGES) == []
        answers.queue = [page(IMAGES)]
        later = (DATE + dt.timedelta(days=2)).isoformat()
        assert job.finish("run", "--snapshot-date", later) == 0, job.log
    assert job.ask(LATER_CHANGES) == []


def test_a_record_goes_from_everywhere_although_its_key_is_partly_null(tmp_path):
    with Answers(page(IMAGES)) as answers:
        job = job_of(tmp_path, answers, "[image_digest, image_tag]")
        assert job.finish(*RUN) == 0, job.log

    assert job.finish("forget", "--dataset", "images", "--where", "image_digest=sha256:c", "--yes") == 0, job.log

    assert len(job.rows("images")) == 4
    assert job.finish("verify") == 0, job.log


def test_whole_records_are_no_key_where_privacy_hides_a_part_of_them(tmp_path):
    with Answers(page(IMAGES)) as answers:
        job = job_of(tmp_path, answers, "[]")
        job.configure("privacy: {rules: {images: {image_tag: drop}}}")

        assert job.finish("run", *DATE_FLAG) == 2, job.log

    assert "the key of images is the whole record" in job.log
    assert answers.paths == []


def test_fault_80_a_key_in_doubt_is_said_before_the_first_request_until_the_dataset_has_rows(tmp_path):
    doubt = (
        "dataset images: key [image_digest] is in doubt: image_digest: not enough to tell records apart. "
        "Different records with an equal key become rejects. Perhaps [image_digest, image_tag] or [] is meant"
    )
    with Answers(page(IMAGES[1:4])) as answers:
        job = job_of(tmp_path, answers, "[image_digest]")
        checked = job.cli("config", "check")
        assert (checked.returncode, checked.stderr.count(doubt)) == (0, 1)
        assert answers.paths == []

        assert job.finish(*RUN) == 0, job.log

        assert job.log.count(doubt) == 1
        assert job.log.index(doubt) < job.log.index(" begins: export")
        assert job.finish("run", "--snapshot-date", NEXT) == 0, job.log
        assert job.log.count(doubt) == 1, "rows with equal keys would have shown"
        with_key(job, "[image_digest, image_tag]")
        assert "in doubt" not in job.cli("config", "check").stderr
