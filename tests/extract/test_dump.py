"""Saved CLI output: every form of it, cut into pieces anywhere, gives the same records; and nothing else gives any."""

import codecs
import copy
import gzip
import json
import os
import re
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.dumps import printed, save
from support.shapes import ACCOUNT, REGION

import etl.extract.dump
from etl.errors import ConfigError, SourceError
from etl.extract.datasets import builtin_datasets
from etl.extract.dump import Dump
from etl.extract.service_model import describe_operation, model_session
from etl.model import Dataset

SESSIONS = builtin_datasets()["streaming_sessions"]


def session(number, **members):
    return {
        "sessionId": f"session-{number}",
        "arn": f"arn:aws:nimble:{REGION}:{ACCOUNT}:streaming-session/session-{number}",
        "tags": {"Name": "Zoë 🎬", "bracket": '}]{["\\'},
        **members,
    }


RECORDS = [session(number, stoppedAt=None) for number in range(5)]


def dump_of(dataset=SESSIONS, account_id=None, region=None):
    """Return a dump that has read nothing; service models are loaded once."""
    dump = copy.copy(_dump_of(dataset.model_dump_json()))
    dump.account_id, dump.region = account_id, region
    return dump


@cache
def _dump_of(definition):
    dataset = Dataset.model_validate_json(definition)
    return Dump(dataset, describe_operation(model_session(), dataset), None, None)


def read(tmp_path, *contents, dump=None):
    """Return the pages of a dump of some files."""
    return list((dump or dump_of()).pages(save(tmp_path, *contents)))


def records_of(pages, key="sessions"):
    found = [record for page in pages for record in json.loads(page.body)[key]]
    assert [page.records for page in pages] == [len(json.loads(page.body)[key]) for page in pages]
    return found


DOCUMENT = printed({"sessions": RECORDS})
FORMS = {
    "a document": DOCUMENT,
    "a compact document": json.dumps({"sessions": RECORDS}),
    "other members before and after": printed({"Count": [5, {"sessions": []}], "sessions": RECORDS, "more": {"a": 1}}),
    "a null token": printed({"nextToken": None, "sessions": RECORDS}),
    "documents one after the other": printed({"sessions": RECORDS[:2], "nextToken": "a"})
    + json.dumps({"sessions": []})
    + printed({"nextToken": "", "sessions": RECORDS[2:]}),
    "a document per line": "\n".join(json.dumps({"sessions": [record]}) for record in RECORDS),
    "a record per line": "\r\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS) + "\r\n",
    "records, printed": "".join(map(printed, RECORDS)),
    "a bare list": printed(RECORDS),
    "bare lists": printed(RECORDS[:3]) + printed([]) + printed(RECORDS[3:]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "packed",
    [
        str.encode,
        lambda text: gzip.compress(text.encode()),
        lambda text: pa.compress(text.encode(), codec="zstd", asbytes=True),
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
    ],
    ids=["plain", "gzip", "zstd", "utf-8 with a mark", "utf-16"],
)
def test_every_form_gives_the_same_records(tmp_path, form, packed):
    pages = read(tmp_path, packed(FORMS[form]))

    assert records_of(pages) == RECORDS
    assert pages[-1].next_starting_token is None


def test_several_files_are_read_in_the_order_given(tmp_path):
    assert records_of(read(tmp_path, printed(RECORDS[3:]), FORMS["a document"])) == [*RECORDS[3:], *RECORDS]


def test_a_pipe_is_a_file_too():
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(gzip.compress(DOCUMENT.encode()))
    try:
        (page,) = dump_of().pages([Path(f"/dev/fd/{reading}")])
    finally:
        os.close(reading)

    assert records_of([page]) == RECORDS


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
LISTS = st.lists(
    st.dictionaries(st.text().filter(lambda name: name != "arn"), VALUES, max_size=4).map(
        lambda members: {"sessionId": "s", **members}
    ),
    max_size=4,
)
LAWS = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@LAWS
# Its pieces end at the 32nd character: at -2. and at -2e-, each of which begins with a number that is whole.
@example(records=[{"sessionId": "s", "aaaaaa": -2.5e-300}], size=1, indent=None, ascii_only=True, form="lines")
@example(records=[{"sessionId": "s", "aaaaa": -2e-300}], size=1, indent=None, ascii_only=True, form="lines")
@given(
    records=LISTS,
    size=st.integers(1, 40),
    indent=st.none() | st.integers(0, 4),
    ascii_only=st.booleans(),
    form=st.sampled_from(["document", "list", "lines"]),
)
def test_where_pieces_are_cut_makes_no_difference(  # noqa: PLR0913, PLR0917
    tmp_path, monkeypatch, records, size, indent, ascii_only, form
):
    """Inside a character, an escape, a number, a literal: what is whole in the file arrives whole."""
    monkeypatch.setattr(etl.extract.json_window, "_PIECE_BYTES", size)

    def text(value):
        # UTF-8 has no lone surrogates; in JSON they are escapes.
        return json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "backslashreplace")

    content = {
        "document": lambda: text({"sessions": records, "nextToken": None}),
        "list": lambda: text(records),
        "lines": lambda: b"\n".join(map(text, records)) or b"[]",
    }[form]()

    assert records_of(read(tmp_path, content)) == json.loads(json.dumps(records))


@LAWS
@given(size=st.integers(1, 60), bad=st.integers(20, len(DOCUMENT.encode()) - 2))
def test_a_byte_that_is_no_text_is_named_wherever_pieces_are_cut(tmp_path, monkeypatch, size, bad):
    monkeypatch.setattr(etl.extract.json_window, "_PIECE_BYTES", size)
    content = bytearray(DOCUMENT.encode())
    content[bad:bad] = b"\x01\xff"

    with pytest.raises(SourceError) as caught:
        read(tmp_path, bytes(content))

    # The character before may have been cut in two: then it is its first byte that is wrong.
    named = int(str(caught.value).partition("byte ")[2].partition(":")[0])
    assert bad - 3 <= named <= bad + 1


@pytest.mark.parametrize(
    ("encoding", "byte", "found"),
    [("utf-8", 13, "n"), ("utf-8-sig", 16, "n"), ("utf-16", 28, "n"), ("utf-16-le", 1, "\x00")],
)
def test_bytes_are_those_of_the_file_whatever_its_encoding(tmp_path, encoding, byte, found):
    """Without its mark, UTF-16 is no text that anyone could tell."""
    with pytest.raises(SourceError, match=re.escape(f"byte {byte}: found {found!r}")):
        read(tmp_path, '{"sessions": null}'.encode(encoding))


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_a_cut_off_document_is_refused_wherever_it_is_cut(tmp_path, monkeypatch, size):
    monkeypatch.setattr(etl.extract.json_window, "_PIECE_BYTES", size)
    content = json.dumps({"sessions": RECORDS[:2], "nextToken": None}).encode()
    for end in range(len(content)):
        with pytest.raises(SourceError, match=r"dump-0, byte \d+: .*; expected what `aws nimble list-streaming-sess"):
            read(tmp_path, content[:end])


def test_the_text_of_a_record_is_kept_as_it_is(tmp_path):
    """A lone surrogate, a number that no double holds: what a walk would store, an import stores too."""
    text = r'{ "sessionId":"s", "a":1e400, "b":0.1000, "c":12345678901234567890123, "d":"\ud800\u0000" }'

    (page,) = read(tmp_path, f'{{"sessions": [{text}, {text}]}}')

    assert page.body == f'{{"sessions":[{text},{text}]}}'.encode()


def test_pages_have_up_to_1000_records_and_each_but_the_last_a_token_of_its_own(tmp_path):
    pages = read(tmp_path, printed({"sessions": [session(number) for number in range(2001)]}))

    assert [page.number for page in pages] == [1, 2, 3]
    assert [page.records for page in pages] == [1000, 1000, 1]
    assert [(page.first, page.stop) for page in pages] == [(0, 1000), (0, 1000), (0, 1)]
    tokens = [page.next_starting_token for page in pages]
    assert tokens[-1] is None
    assert len({*tokens}) == 3


def test_records_that_are_large_make_smaller_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(etl.extract.dump, "_PAGE_CHARACTERS", 500)
    pages = read(tmp_path, DOCUMENT)

    assert records_of(pages) == RECORDS
    assert max(page.records for page in pages) < len(RECORDS)


def test_a_listing_without_records_is_one_empty_page(tmp_path):
    (page,) = read(tmp_path, '{"sessions": []}\n', dump=dump_of(account_id=ACCOUNT, region=REGION))

    assert (page.records, page.next_starting_token) == (0, None)


@pytest.mark.parametrize(
    ("last", "token"),
    [
        ({"sessions": [], "NextToken": "of the CLI"}, "of the CLI"),
        ({"nextToken": "of the service", "sessions": []}, "of the service"),
        ({"sessions": []}, None),
        ([session(7)], None),
        (session(7), None),
    ],
)
def test_the_token_of_the_last_document_says_whether_there_was_more(tmp_path, last, token):
    pages = read(tmp_path, printed({"sessions": RECORDS, "nextToken": "earlier"}), printed(last))

    assert pages[-1].next_starting_token == token


# Whose resources they are


def test_account_and_region_are_those_of_the_arns(tmp_path):
    dump = dump_of()
    read(tmp_path, DOCUMENT, dump=dump)

    assert (dump.account_id, dump.region) == (ACCOUNT, REGION)


def test_without_arns_they_are_as_stated(tmp_path):
    dump = dump_of(account_id=ACCOUNT, region="eu-west-1")
    read(tmp_path, '[{"sessionId": "a"}, {"sessionId": "b", "arn": null}]', dump=dump)

    assert (dump.account_id, dump.region) == (ACCOUNT, "eu-west-1")


def test_without_arns_and_statement_they_stay_unknown(tmp_path):
    dump = dump_of()
    read(tmp_path, '[{"sessionId": "a", "arn": "no arn"}, {"sessionId": "b", "arn": "arn:aws:iam:::x"}]', dump=dump)

    assert (dump.account_id, dump.region) == (None, None)


@pytest.mark.parametrize(
    ("stated", "arn", "says"),
    [
        ({}, f"arn:aws:nimble:eu-west-1:{ACCOUNT}:x/y", f"says Region eu-west-1, others say {REGION}.*--region"),
        ({}, f"arn:aws:nimble:{REGION}:999999999999:x/y", f"says account 9+, others say {ACCOUNT}.*--account-id"),
        ({"region": REGION}, f"arn:aws:nimble:{REGION}:999999999999:x/y", f"account 9+, others say {ACCOUNT}"),
    ],
)
def test_an_arn_that_says_something_else_is_refused_and_both_are_named(tmp_path, stated, arn, says):
    records = [session(1), session(2, arn=arn)]
    content = printed({"sessions": records})
    with pytest.raises(SourceError, match=says) as caught:
        read(tmp_path, content, dump=dump_of(**stated))

    place = content.index("{", content.index("session-1")) if arn else content.index("{", 1)
    assert f"byte {len(content[: content.rindex('    {', 0, content.index('session-2'))].encode()) + 4}" in str(
        caught.value
    ) or f"byte {place}:" in str(caught.value)


@pytest.mark.parametrize("account", ["aws", "1", "", "cloudfront"])
def test_an_arn_of_what_is_no_account_decides_nothing(tmp_path, account):
    dump = dump_of()
    records = [
        session(1, arn=f"arn:aws:iam::{account}:policy/x"),
        session(2),
        session(3, arn=f"arn:aws:iam::{account}:y"),
    ]

    read(tmp_path, printed({"sessions": records}), dump=dump)

    assert (dump.account_id, dump.region) == (ACCOUNT, REGION)


def test_what_the_command_states_counts_more_than_arns(tmp_path):
    """Resources may be shared by another account; whoever has listed them knows where."""
    dump = dump_of(account_id="999999999999", region="eu-west-1")

    read(
        tmp_path,
        printed({"sessions": [session(1), session(2, arn="arn:aws:nimble:us-east-1:111111111111:x/y")]}),
        dump=dump,
    )

    assert (dump.account_id, dump.region) == ("999999999999", "eu-west-1")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('[{"id": "a", "state": "READY"}, {"id": "b"}]', 1),
        ('{"sessions": [{"id": "a", "state": "READY"}]}', 14),
        ('[{"sessionId": null, "state": "READY"}]', 1),
    ],
)
def test_a_list_whose_records_lack_the_key_is_refused(tmp_path, content, place):
    """As 0 rows and some rejects, it would have replaced a good snapshot."""
    with pytest.raises(SourceError, match=rf"byte {place}: this record has '.*', and nothing of its key sessionId"):
        read(tmp_path, content)


def test_a_later_record_without_a_key_is_kept_for_the_rejects(tmp_path):
    content = '[{"sessionId": "a"}, {"state": "READY"}]'
    assert records_of(read(tmp_path, content)) == [{"sessionId": "a"}, {"state": "READY"}]


def test_what_the_cli_decodes_is_text_again_as_on_a_page(tmp_path):
    """It prints the policies of IAM as objects, and the service sends them as text."""
    roles = Dataset(name="roles", service="iam", operation="list_roles", key=("arn",))
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow"}]}
    role = {"Arn": f"arn:aws:iam::{ACCOUNT}:role/r", "RoleName": "r", "AssumeRolePolicyDocument": policy}

    (found,) = records_of(read(tmp_path, printed({"Roles": [role]}), dump=dump_of(roles)), "records")

    assert json.loads(found.pop("AssumeRolePolicyDocument")) == role.pop("AssumeRolePolicyDocument")
    assert found == role


def test_arns_of_other_things_say_nothing(tmp_path):
    """A key in another account, a role without a Region: only the record's own ARN counts."""
    dump = dump_of(Dataset(name="farms", service="deadline", operation="list_farms", key=("farm_id",)))
    farm = {"farmId": "farm-1", "kmsKeyArn": "arn:aws:kms:us-east-1:999999999999:key/k"}

    read(tmp_path, printed({"farms": [farm]}), dump=dump)

    assert (dump.account_id, dump.region) == (None, None)


# Other services


CHANNELS = Dataset(name="channels", service="medialive", operation="list_channels", key=("id",))
ON_THE_WIRE = {
    "id": "1",
    "arn": f"arn:aws:medialive:{REGION}:{ACCOUNT}:channel:1",
    "destinations": [{"id": "d", "settings": [{"streamName": "x"}]}],
    "tags": {"Name": "y"},
    "Unknown": 1,
}
IN_THE_MODEL = {
    "Id": "1",
    "Arn": f"arn:aws:medialive:{REGION}:{ACCOUNT}:channel:1",
    "Destinations": [{"Id": "d", "Settings": [{"StreamName": "x"}]}],
    "Tags": {"Name": "y"},
    "Unknown": 1,
}


@pytest.mark.parametrize(
    "document",
    [
        {"Channels": [IN_THE_MODEL]},
        {"channels": [ON_THE_WIRE], "nextToken": None},
        [IN_THE_MODEL],
        IN_THE_MODEL,
        ON_THE_WIRE,
    ],
)
def test_names_of_the_model_become_those_on_the_wire(tmp_path, document):
    """The CLI prints `Channels` and `Id` of MediaLive, which sends `channels` and `id`."""
    dump = dump_of(CHANNELS)

    assert records_of(read(tmp_path, printed(document), dump=dump), "channels") == [ON_THE_WIRE]
    assert dump.account_id == ACCOUNT


def test_a_number_that_cannot_be_written_again_is_named(tmp_path):
    with pytest.raises(SourceError, match="byte 14: this record has a number that is out of range"):
        read(tmp_path, '{"Channels": [{"Id": "1", "New": 1e400}]}', dump=dump_of(CHANNELS))


def test_records_of_a_service_that_speaks_xml_have_the_names_of_its_model(tmp_path):
    dump = dump_of(Dataset(name="volumes", service="ec2", operation="describe_volumes", key=("volume_id",)))
    volume = {"VolumeId": "vol-1", "Size": 8, "Tags": [{"Key": "a", "Value": "b"}]}

    assert records_of(read(tmp_path, printed({"Volumes": [volume]}), dump=dump), "records") == [volume]


def test_plain_values_become_records_with_a_value(tmp_path):
    dump = dump_of(Dataset(name="queues", service="sqs", operation="list_queues", key=("value",)))

    assert records_of(read(tmp_path, '{"QueueUrls": ["https://a", "https://b"]}', dump=dump), "records") == [
        {"value": "https://a"},
        {"value": "https://b"},
    ]
    with pytest.raises(SourceError, match="byte 0: this object has 'value'"):
        read(tmp_path, '{"value": "https://a"}', dump=dump)


INSTANCES = Dataset(
    name="instances", service="ec2", operation="describe_instances", key=("instance_id",),
    result_key="Reservations[].Instances",
)  # fmt: skip


def test_a_list_that_lies_deeper_is_imported_as_query_prints_it(tmp_path):
    instance = {"InstanceId": "i-1"}

    assert records_of(read(tmp_path, printed([instance]), dump=dump_of(INSTANCES)), "records") == [instance]
    with pytest.raises(SourceError, match=r"--query 'Reservations\[\].Instances\[\]'` prints: records"):
        read(tmp_path, printed({"Reservations": [{"Instances": [instance]}]}), dump=dump_of(INSTANCES))


@pytest.mark.parametrize(("is_truncated", "is_complete"), [(True, False), (False, True)])
def test_a_service_that_says_itself_whether_there_is_more_is_believed(tmp_path, is_truncated, is_complete):
    zones = Dataset(name="zones", service="route53", operation="list_hosted_zones", key=("id",))
    document = {"HostedZones": [{"Id": "z"}], "IsTruncated": is_truncated, "NextMarker": "m"}

    (page,) = read(tmp_path, printed(document), dump=dump_of(zones))

    assert (page.next_starting_token is None) == is_complete


def test_a_service_that_says_there_is_more_without_a_token_is_believed_too(tmp_path):
    """S3 sends no NextMarker without a delimiter: its token is the key of the last record."""
    objects = Dataset(
        name="objects", service="s3", operation="list_objects", key=("key",), result_key="Contents",
        parameters={"Bucket": "b"},
    )  # fmt: skip
    (page,) = read(tmp_path, printed({"IsTruncated": True, "Contents": [{"Key": "k"}]}), dump=dump_of(objects))

    assert page.next_starting_token is not None


def test_a_document_with_its_list_twice_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"byte \d+.*a second time"):
        read(tmp_path, '{"sessions": [], "sessions": []}')


def test_a_file_that_is_missing_is_found_before_any_is_read(tmp_path):
    whole = tmp_path / "whole"
    whole.write_text(printed([session(number) for number in range(1001)]))  # more than the first page
    with pytest.raises(ConfigError, match="missing: No such file or directory"):
        next(dump_of().pages([whole, tmp_path / "missing"]))
