"""Rows that are staged while their pages arrive: the same is published, and the ledger is read only if need be."""

import datetime as dt
import json

import pytest
from support.answers import KEY, Answers, http
from support.job import DATE, Job
from support.shapes import ACCOUNT

from etl.errors import LedgerError
from etl.ledger.ledger import Ledger
from etl.pipeline import ahead as module
from etl.pipeline.walks import Stop

NEXT = DATE + dt.timedelta(days=1)
REPOSITORIES = ("one", "two")
DATASETS = """
datasets:
- {name: repositories, service: ecr, operation: describe_repositories, key: [repository_name], item: repository}
- name: images
  service: ecr
  operation: list_images
  item: image
  key: [image_digest, image_tag]
  for_each: {dataset: repositories, bind: {repositoryName: repository_name}}
"""


def images(*tags, token=None, **more):
    listed = [{"imageDigest": f"sha256:{tag}", "imageTag": tag, **more} for tag in tags]
    return http(json.dumps({"imageIds": listed, **({"nextToken": token} if token else {})}).encode())


LISTED = http(json.dumps({"repositories": [{"repositoryName": name} for name in REPOSITORIES]}).encode())


@pytest.fixture
def read(monkeypatch):
    """The datasets whose pages are read from a ledger, apart from those that slices come from."""
    found = []
    pages = Ledger.pages

    def counted(self, slice_):
        if slice_.dataset == "images":
            found.append(slice_.dataset)
        return pages(self, slice_)

    monkeypatch.setattr(Ledger, "pages", counted)
    return found


def job_of(tmp_path, monkeypatch, answers):
    monkeypatch.setenv("AWS_ACCOUNT_ID", ACCOUNT)  # the first answer is not for STS
    return Job(
        tmp_path, answers.url, KEY, source=f"  account_id: '{ACCOUNT}'", rest=f"run: {{concurrency: 1}}\n{DATASETS}"
    ).lend_credentials(monkeypatch)


def shown(job):
    return job.ask("select repository_name, image_digest, image_tag, page_number from images order by all")


def as_from_the_ledger(job, outcome):
    """Whether the rows are those that `replay` makes of the ledger."""
    columns = "select * exclude extracted_at from images_history order by all"
    before = job.ask(columns), job.ask("select dataset, rows, rejects, duplicates from etl_slices order by all")
    assert job.finish("replay", outcome.run.run_id) == outcome.exit_code, job.log
    return before == (
        job.ask(columns), job.ask("select dataset, rows, rejects, duplicates from etl_slices order by all")
    )  # fmt: skip


def test_a_night_that_was_walked_in_one_go_reads_no_page_again(tmp_path, monkeypatch, read):
    with Answers(LISTED, images("1", "2", token="t"), images("3"), images("4")) as answers:
        job = job_of(tmp_path, monkeypatch, answers)

        (outcome,) = job.run()

        assert outcome.exit_code == 0
        assert read == []
        assert [row[1:] for row in shown(job)] == [
            ("sha256:1", "1", 1), ("sha256:2", "2", 1), ("sha256:3", "3", 2), ("sha256:4", "4", 1)
        ]  # fmt: skip
        assert as_from_the_ledger(job, outcome)


def test_records_that_do_not_fit_are_rejects(tmp_path, monkeypatch, read):
    pages = images("1", imageTag=3), images("2"), images("3", other={"a": 1})
    with Answers(LISTED, *pages) as answers:
        job = job_of(tmp_path, monkeypatch, answers)
        (outcome,) = job.run()
        assert read == []
        assert job.ask("select count(*) from etl_rejects") == [(1,)]
        assert as_from_the_ledger(job, outcome)


def test_a_key_that_is_there_twice_is_settled_from_the_ledger(tmp_path, monkeypatch, read):
    with Answers(LISTED, images("1", "2", token="t"), images("2", "3"), images("4")) as answers:
        job = job_of(tmp_path, monkeypatch, answers)
        (outcome,) = job.run()
        assert read
        assert [row[1:] for row in shown(job)] == [
            ("sha256:1", "1", 1), ("sha256:2", "2", 2), ("sha256:3", "3", 2), ("sha256:4", "4", 1)
        ]  # fmt: skip
        assert sum(facts.duplicates for facts in outcome.slices) == 1


def test_the_pages_of_an_earlier_process_are_read_once_while_others_arrive(tmp_path, monkeypatch, read):
    with Answers(LISTED, images("1", token="t"), images("2"), images("3")) as answers:
        job = job_of(tmp_path, monkeypatch, answers)
        stop = Stop()
        (stopped,) = job.run(stop=stop, on_page=lambda slice_, _: slice_.dataset == "images" and stop.set())
        assert stopped.exit_code == 3
        assert read == []

        (outcome,) = job.run()

        assert outcome.exit_code == 0
        assert read == ["images"]
        assert [row[2] for row in shown(job)] == ["1", "2", "3"]


def test_slices_that_an_earlier_process_has_walked_are_read_once(tmp_path, monkeypatch, read):
    with Answers(LISTED, images("1"), images("2")) as answers:
        job = job_of(tmp_path, monkeypatch, answers)
        stop = Stop()
        (stopped,) = job.run(stop=stop, on_page=lambda slice_, _: slice_.dataset == "images" and stop.set())
        assert [facts.pages for facts in stopped.slices if facts.slice.dataset == "images"] == [1, 0]

        (outcome,) = job.run()

        assert outcome.exit_code == 0
        assert read == ["images"]
        assert [row[2] for row in shown(job)] == ["1", "2"]


@pytest.mark.parametrize("harm", ["a page cannot be read", "not all of them come"])
def test_pages_of_an_earlier_process_that_do_not_come_are_looked_for_again(tmp_path, monkeypatch, read, harm):
    with Answers(LISTED, images("1", token="t"), images("2"), images("3")) as answers:
        job = job_of(tmp_path, monkeypatch, answers)
        stop = Stop()
        job.run(stop=stop, on_page=lambda slice_, _: slice_.dataset == "images" and stop.set())
        pages = Ledger.pages

        def harmed(self, slice_):
            if slice_.dataset != "images" or read:
                yield from pages(self, slice_)
                return
            read.append("harmed")
            if harm == "a page cannot be read":
                raise LedgerError(harm)

        monkeypatch.setattr(Ledger, "pages", harmed)

        (outcome,) = job.run()

        assert outcome.exit_code == 0
        assert len(read) > 1
        assert [row[2] for row in shown(job)] == ["1", "2", "3"]


@pytest.mark.parametrize(("slow_s", "batches"), [(3600.0, [3]), (0.0, [2, 1])])
def test_where_pages_come_slowly_fewer_of_them_are_staged_at_once(tmp_path, monkeypatch, slow_s, batches):
    staged = []

    class Watched(module.Flattener):
        def flatten(self, found):
            staged.extend(len(found) for slice_, _ in found[:1] if slice_.dataset == "images")
            return super().flatten(found)

    monkeypatch.setattr(module, "Flattener", Watched)
    monkeypatch.setattr(module, "_FEW_RECORDS", 1)
    monkeypatch.setattr(module, "SLOW_S", slow_s)
    with Answers(LISTED, images("1", token="t"), images("2"), images("3")) as answers:
        job = job_of(tmp_path, monkeypatch, answers)
        (outcome,) = job.run()
        assert staged == batches
        assert as_from_the_ledger(job, outcome)


def test_a_slice_that_fails_leaves_the_others_to_the_ledger(tmp_path, monkeypatch, read):
    refused = http(b'{"__type":"ServerException"}', status="400 Bad Request")
    with Answers(LISTED, images("1", token="t"), refused, refused, images("2")) as answers:
        job = job_of(tmp_path, monkeypatch, answers)
        (outcome,) = job.run()
        assert outcome.exit_code == 5
        assert read
        assert [row[2] for row in shown(job)] == ["2"]


def test_many_rejects_are_not_held_in_memory(tmp_path, monkeypatch, read):
    monkeypatch.setattr(module, "_MOST_REJECTS", 1)
    with Answers(LISTED, images("1", "2", imageTag=3), images("2")) as answers:
        job = job_of(tmp_path, monkeypatch, answers)
        job.run()
        assert read
        assert job.ask("select count(*) from etl_rejects") == [(2,)]


def test_a_second_night_is_compared_with_the_first(tmp_path, monkeypatch, read):
    with Answers(LISTED, images("1", "2"), images("3"), LISTED, images("1", "5"), images("3")) as answers:
        job = job_of(tmp_path, monkeypatch, answers)
        job.run()
        job.run(NEXT)
        assert read == []
        changes = job.ask(f"select change, image_tag from image_changes where snapshot_date = '{NEXT}' order by all")
        assert changes == [("appeared", "5"), ("vanished", "2")]


@pytest.mark.parametrize("name", ["Flattener", "KeyHashes"])
def test_what_fails_while_it_is_staged_is_tried_again_where_it_is_published(tmp_path, monkeypatch, read, name):
    def fail(*_):
        raise RuntimeError("staged too early")

    with Answers(LISTED, images("1"), images("2")) as answers:
        job = job_of(tmp_path, monkeypatch, answers)
        monkeypatch.setattr(module, name, fail)
        (outcome,) = job.run()
        assert outcome.exit_code == 0, "here it does not fail"
        assert read
        assert [row[2] for row in shown(job)] == ["1", "2"]


def test_hashes_of_keys_are_dropped_with_the_last_page_of_a_slice(tmp_path, monkeypatch, read):
    """They take 8 bytes a record. Only a slice with a key that is there twice keeps them until it is published."""
    held = {}
    take = module.Ahead.take

    def look(self, ready):
        self._stage(self._take_waiting())
        held.update({rows.slice_.parents.get("repositoryName"): rows.hashes for rows in self._slices.values()})
        return take(self, ready)

    monkeypatch.setattr(module.Ahead, "take", look)
    with Answers(LISTED, images("1", token="t"), images("2"), images("3", token="t"), images("3")) as answers:
        job = job_of(tmp_path, monkeypatch, answers)
        job.run()
    assert held["one"] is None
    assert held["two"].suspects()
    assert read
