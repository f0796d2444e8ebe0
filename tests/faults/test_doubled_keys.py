"""Fault 70: a key twice in one JSON object. Every JSON reader keeps one of the two values in silence."""

import pytest
from support.answers import KEY, Answers, http
from support.damage import change_ledger
from support.dumps import save
from support.job import DATE_FLAG, RUN, Job
from support.shapes import ACCOUNT

from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger

SOURCE = f"  account_id: '{ACCOUNT}'\n  studio_ids: [s]"
ONE = "datasets: [streaming_sessions]"


def job_of(directory, answers):
    return Job(directory, answers.url, KEY, source=SOURCE, rest=ONE)


@pytest.mark.parametrize(
    "body",
    [
        b'{"sessions":[{"sessionId":"a"},{"sessionId":"b"}],"sessions":[{"sessionId":"c"}]}',
        b'{"sessions":[{"sessionId":"a"}],"sessions":[]}',
        b'{"sessions":[{"sessionId":"a"},{"sessionId":"b"}],"sessions":[{"sessionId":"b"}]}',
        b'{"sessions":[{"sessionId":"a"}],"sessions":[{"sessionId":"a"}]}',
        b'{"sessions" : [ {"sessionId":"a"} ],\n "sessions" : [ {"sessionId":"a"} , {"sessionId":"b"} ]}',
        b'{"sessions":[{"sessionId":"a"}],"sess\\u0069ons":[]}',
        b'{"nextToken":"more","sessions":[{"sessionId":"a"}],"nextToken":null}',
    ],
)
def test_fault_70_a_page_with_two_lists_or_two_tokens_is_no_page(body, tmp_path):
    with Answers(http(body)) as answers:
        job = job_of(tmp_path, answers)

        assert job.finish(*RUN) == 3, job.log

    assert "is there twice" in job.log
    assert "Traceback" not in job.log
    with Ledger.open(*ledger_paths(tmp_path / "state")) as ledger:
        assert [facts.pages for facts in ledger.slices()] == [0]


@pytest.mark.parametrize(
    "record",
    [
        '{"sessionId":"a","sessionId":"b"}',
        '{"sessionId":"a","tags":{"k":"1","k":"2"}}',
        '{"sessionId":"a" , "tags" : {"k":"1", "\\u006b" :"1"}}',
        '{"sessionId":"a","new":{"deep":[{"x":1,"x":1}]}}',
    ],
)
def test_fault_70_a_record_with_a_key_twice_is_a_reject_and_keeps_its_text(record, tmp_path):
    body = f'{{"sessions":[{{"sessionId":"first"}},{record},{{"sessionId":"last","tags":{{"k":"a:b"}}}}]}}'
    with Answers(http(body.encode())) as answers:
        job = job_of(tmp_path, answers)

        assert job.finish(*RUN) == 5, job.log

    assert job.ask("select session_id from streaming_sessions order by all") == [("first",), ("last",)]
    assert job.ask("select reason, record from etl_rejects") == [("has a key twice in one object", record)]
    assert job.problems() == []


def test_fault_70_a_dump_with_a_member_twice_is_refused_and_names_the_byte(tmp_path):
    job = Job(tmp_path, "http://127.0.0.1:9", KEY, rest=ONE)
    (file,) = save(tmp_path, '{"sessions": [], "NextToken": "a", "NextToken": null}')

    done = job.cli("import", str(file), "--studio-id", "s", *DATE_FLAG)

    assert done.returncode == 1
    assert "the member 'NextToken' is there a second time" in done.stderr
    assert ledger_paths(tmp_path / "state") == []


# Fault 71


def test_fault_71_an_error_that_nobody_foresaw_costs_its_slice_alone_and_is_told_once(tmp_path, small_studio):
    """The body of one studio's listing makes something raise that is no error of botocore or ours."""
    program = """
import etl.extract.source
import support.job

real = etl.extract.source.Source._request

def surprised(self, dataset, slice_, *rest):
    if dataset.name == "streaming_sessions" and slice_.parents["studioId"] == unlucky:
        raise ZeroDivisionError("of all things")
    return real(self, dataset, slice_, *rest)

etl.extract.source.Source._request = surprised
support.job._child(arguments, environment, log)
"""
    unlucky, lucky = small_studio.world.studio_ids
    job = Job(tmp_path, small_studio.endpoint_url, small_studio.credentials)
    process = job.start_program(program, *RUN, names={"unlucky": unlucky})
    process.join()

    assert process.exitcode == 5, job.log
    assert job.log.count("Traceback (most recent call last)") == 1
    assert "ZeroDivisionError: of all things; nobody foresaw this error" in job.log
    assert job.ask("select distinct studio_id from streaming_sessions") == [(lucky,)]


def test_fault_71_a_ledger_that_surprises_keeps_no_other_job_back(tmp_path, small_studio):
    job = Job(tmp_path, small_studio.endpoint_url, small_studio.credentials)
    assert job.finish(*RUN) == 0
    before = job.exported_rows()
    (path,) = ledger_paths(tmp_path / "state")
    change_ledger(path, "update publication set is_whole = 0")
    change_ledger(path, "update dataset set definition = '{}'")

    for command in (("compact",), ("vacuum",)):
        assert job.finish(*command) in (0, 5), job.log
    assert "Traceback (most recent call last)\n" not in job.log
    assert job.exported_rows() == before
