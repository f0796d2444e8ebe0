"""Dumps that are cut off, no JSON, several in one, compressed badly, or endless: fault 58."""

import gzip
import json
import re
import subprocess
import sys

import pyarrow as pa
import pytest
from support.dumps import printed, save
from support.job import DATE, DATE_FLAG, Job
from support.shapes import ACCOUNT
from support.warehouse import THINGS, rows_of

from etl.errors import ConfigError, EtlError, SourceError
from etl.jobs.dumps import ImportRequest, import_dump
from etl.ledger.directory import ledger_paths
from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement, Tables
from etl.storage.disk import Disk

ARN = "arn:aws:nimble:us-west-2:123456789012:streaming-session/"
RECORDS = [{"sessionId": f"s-{number}", "arn": f"{ARN}s-{number}", "ownedBy": "Zoë"} for number in range(50)]
TEXT = printed({"sessions": RECORDS})
WHOLE = TEXT.encode()
GZIPPED, ZSTD = gzip.compress(WHOLE, mtime=0), pa.compress(WHOLE, codec="zstd", asbytes=True)


@pytest.fixture
def job(tmp_path):
    """A job that asks nobody anything."""
    return Job(tmp_path / "job", "http://127.0.0.1:1", ("none", "none"))


@pytest.fixture
def published(job, tmp_path):
    """A job with a snapshot, and what readers see of it."""
    (tmp_path / "whole.json").write_bytes(WHOLE)
    assert load(job, tmp_path / "whole.json").exit_code == 0
    return seen(job)


def load(job, *paths):
    return import_dump(job.settings(), ImportRequest(paths, "streaming_sessions", DATE, {"studioId": "studio"}))


def seen(job):
    """Everything that an import may change."""
    ledgers = [path.name for path in (job.directory / "state" / "runs").iterdir()]
    return job.rows("streaming_sessions_history"), job.ask("select run_id from etl_runs"), ledgers


def cut(content, at):
    return content[: content.index(at) + len(at)]


def line(number):
    return json.dumps(RECORDS[number]).encode() + b"\n"


FAULTS = {
    # name: (content, byte that is named, what is said)
    "cut off in a record": (cut(WHOLE, b'"s-7"'), None, "the file ends here, in the midst of a value; it was cut off"),
    "cut off in a text": (cut(WHOLE, b"streaming-session/s-9"), None, "the file ends here, in the midst of a value"),
    "cut off in a character": (cut(WHOLE, b"Zo\xc3"), len(cut(WHOLE, b"Zo")), "this is not UTF-8"),
    "cut off between records": (WHOLE[: WHOLE.rindex(b"},") + 1], None, "where , or ] belongs; it was cut off"),
    "cut off at a comma": (WHOLE[: WHOLE.rindex(b"},") + 2], None, "ends here, where a record belongs"),
    "without its last bracket": (WHOLE.rstrip()[:-1].rstrip(), None, "where , or } belongs; it was cut off"),
    "only the beginning": (b"{", 1, "the file ends here"),
    "nothing in it": (b"", 0, "there is nothing in it"),
    "only white space": (b" \n\t\n", 4, "there is nothing in it"),
    "no JSON": (b"Unable to locate credentials.\n", 0, "found 'U'"),
    "a table of the CLI": (b"-------------\n|  ListStre |\n", 0, "found '-'"),
    "an error of the CLI, then JSON": (b"\nAn error occurred (Throttling)\n" + WHOLE, 1, "found 'A'"),
    "YAML of the CLI": (b"sessions:\n- arn: a\n", 0, "found 's'"),
    "HTML": (b"<html><body>502</body></html>", 0, "found '<'"),
    "binary": (bytes(range(200)) * 9, 128, "this is not UTF-8"),
    "a wrong key": (b'{"Items": [{"sessionId": "a"}]}', 0, "this object has 'Items'"),
    "a list elsewhere": (b'{"data": {"sessions": []}}', 0, "this object has 'data'"),
    "an empty object": (b"{}", 0, "this object has no members"),
    "an error document": (b'{"message": "denied"}', 0, "this object has 'message'"),
    "null for the list": (b'{"sessions": null}', 13, "found 'n' where the list 'sessions' belongs"),
    "an object for the list": (b'{"sessions": {"a": 1}}', 13, "found '{' where the list 'sessions' belongs"),
    "text in the list": (b'{"sessions": [{"sessionId": "a"}, "b"]}', 34, "found '\"' where a record belongs"),
    "a list in the list": (b"[[]]", 1, "found '[' where a record belongs"),
    "numbers in a list": (b"[1, 2]", 1, "found '1' where a record belongs"),
    "only a text": (b'"sessions"', 0, "found '\"'"),
    "a comma at the end of the list": (b'{"sessions": [{"sessionId": "a"},]}', 33, "found ']' where a record belongs"),
    "a comma is missing": (b'{"sessions": [{"sessionId": "a"} {"sessionId": "b"}]}', 33, "found '{' where , or ] bel"),
    "a comma between documents": (line(0)[:-1] + b",\n" + line(1), len(line(0)) - 1, "found ','"),
    "a colon is missing": (b'{"sessions" []}', 12, "found '[' where : belongs"),
    "a name without quotes": (b"{sessions: []}", 1, "found 's' where the name of a member belongs"),
    "a name that is a number": (b"{1: []}", 1, "found '1' where the name of a member belongs"),
    "single quotes": (b"[{'sessionId': 'a'}]", 2, "not JSON: Expecting property name"),
    "NaN": (b'[{"sessionId": "a", "x": NaN}]', 1, "NaN is no JSON number"),
    "a number of 5000 digits": (b'[{"sessionId": "a", "x": ' + b"1" * 5000 + b"}]", 1, "not JSON: Exceeds the limit"),
    "a control character": (b'[{"sessionId": "a\nb"}]', 17, "not JSON: Invalid control character"),
    "nested too deep": (b'[{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", 1, "nested too deep"),
    "a second one that is cut off": (WHOLE + cut(WHOLE, b'"s-3"'), None, "in the midst of a value; it was cut off"),
    "a line that is no record": (line(0) + b'{"x": 1}\n' + line(1), len(line(0)), "this object has 'x'"),
    "Latin 1": (TEXT.encode("latin-1"), WHOLE.index("ë".encode()), "this is not UTF-8"),
    "gzip, cut off": (GZIPPED[:-20], None, "cannot be read any further: Truncated compressed stream"),
    "gzip, only the beginning": (GZIPPED[:2], 0, "cannot be read any further: Truncated"),
    "gzip, its end torn off": (GZIPPED[:-4], None, "cannot be read any further: Truncated"),
    "gzip with a flipped bit": (bytes([*GZIPPED[:60], GZIPPED[60] ^ 255, *GZIPPED[61:]]), None, "any further: zlib"),
    "gzip, then something else": (GZIPPED + b"{}", None, "cannot be read any further|this object has no members"),
    "gzip of something else": (gzip.compress(b"hello"), 0, "found 'h'"),
    "gzip of nothing": (gzip.compress(b""), 0, "there is nothing in it"),
    "gzip twice": (gzip.compress(GZIPPED), None, "this is not UTF-8|found"),
    "zstd, cut off": (ZSTD[:-5], None, "cannot be read any further: Truncated"),
    "another compression": (b"BZh91AY&SY", 0, "found 'B'"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_fault_58_a_file_that_is_no_dump_is_named_with_its_byte_and_changes_nothing(tmp_path, job, published, name):
    content, byte, says = FAULTS[name]
    bad = tmp_path / "bad.json"
    bad.write_bytes(content)

    with pytest.raises(SourceError) as caught:
        load(job, bad)

    message = str(caught.value)
    found = re.match(
        rf"{bad}(?:, uncompressed)?, byte (\d+): (.*); expected what `aws nimble list-streaming-sessions --out", message
    )
    assert found, message
    assert re.search("|".join(map(re.escape, says.split("|"))), found[2]), message
    if byte is not None:
        assert int(found[1]) == byte
    elif "cut off" in name and not name.startswith(("gzip", "zstd")):
        assert int(found[1]) == len(content), "where it ends"
    assert "Nothing was imported" in message
    assert seen(job) == published
    assert job.problems() == []


@pytest.mark.parametrize("first", ["missing", "directory"])
def test_fault_58_what_is_no_file_is_found_before_anything_is_read(tmp_path, job, published, first):
    whole, directory = tmp_path / "whole.json", tmp_path / "directory"
    directory.mkdir()
    with pytest.raises(ConfigError, match=f"{first}: .*; expected a file that `aws … > FILE` wrote") as caught:
        load(job, whole, tmp_path / first)

    assert caught.value.exit_code == 2
    assert seen(job) == published


def test_fault_58_one_bad_file_of_several_is_named_and_none_is_published(tmp_path, job, published):
    """The good ones come first, and have been stored by then."""
    many = tmp_path / "many.json"
    many.write_bytes(b"".join(map(line, range(50))) * 50)
    bad = tmp_path / "bad.json"
    bad.write_bytes(b'{"sessions": [}')

    with pytest.raises(SourceError, match=r"bad\.json, byte 14: found '\}' where a record belongs"):
        load(job, many, bad)

    assert seen(job) == published


def test_fault_58_two_dumps_in_one_file_are_one_listing(tmp_path, job):
    """A hand-written loop leaves that. Records that both have are kept once."""
    both = tmp_path / "both.json.gz"
    both.write_bytes(gzip.compress(WHOLE) + gzip.compress(WHOLE[:-1] + line(0)))

    outcome = load(job, both)

    assert outcome.exit_code == 0
    assert (outcome.counts["rows"], outcome.counts["duplicates"]) == (50, 51)


def test_fault_58_the_command_line_ends_with_a_sentence_and_the_next_run_is_not_disturbed(tmp_path, job):
    bad = tmp_path / "bad.json"
    bad.write_bytes(WHOLE[:-9])
    command = ("--studio-id", "studio", *DATE_FLAG)

    ended = job.cli("import", str(bad), *command)
    missing = job.cli("import", str(tmp_path / "missing.json"), *command)

    assert (ended.returncode, missing.returncode) == (1, 2)
    assert f"nimble-etl: {bad}, byte {len(WHOLE) - 9}: the file ends here" in ended.stderr
    assert "missing.json: No such file or directory" in missing.stderr
    assert "Traceback" not in ended.stderr + missing.stderr
    assert ended.stdout == missing.stdout == ""
    assert ledger_paths(job.directory / "state") == []
    (tmp_path / "whole.json").write_bytes(WHOLE)
    assert load(job, tmp_path / "whole.json").exit_code == 0


def test_fault_58_a_dump_that_the_disk_does_not_give_is_a_sentence(job):
    """The first read fails. The kernel answers EIO to whoever reads this file at its beginning."""
    ended = job.cli("import", "/proc/self/mem", "--studio-id", "studio", *DATE_FLAG)

    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "nimble-etl: /proc/self/mem: cannot be read: Input/output error; expected what `aws "
    )
    assert len(ended.stderr.splitlines()) == 1
    assert ledger_paths(job.directory / "state") == []


# Size

PEAK = """
import sys
import etl.cli
sys.argv = ["nimble-etl", *sys.argv[1:]]
try:
    etl.cli.main()
finally:
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak_mib(job, path, says):
    """Return the peak memory of an import that must be refused at the end of the file, in MiB."""
    ended = subprocess.run(
        [
            sys.executable, "-c", PEAK, "import", path, "--studio-id", "studio", *DATE_FLAG,
            "--config", job.config,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert says in ended.stderr
    return int(ended.stdout) / 1024


def write_large(path, size_mib, opened=open):
    """Write a document of so many MiB of records; it ends with a token, so that it is read to its end and refused."""
    record = json.dumps({**RECORDS[0], "tags": {str(number): "x" * 90 for number in range(10)}}, indent=4).encode()
    with opened(path, "wb") as file:
        file.write(b'{"sessions": [' + record)
        for _ in range(size_mib * 2**20 // (len(record) + 1)):
            file.write(b"," + record)
        file.write(b'], "NextToken": "more"}')


def test_fault_58_memory_does_not_grow_with_the_size_of_a_dump(tmp_path, job):
    """Twelve times the records take no more than a few MiB more: 5 GB take as much."""
    peaks = []
    for size_mib in (8, 96):
        path = tmp_path / f"{size_mib}.json"
        write_large(path, size_mib)
        peaks.append(peak_mib(job, path, "the last document has a token"))

    small, large = peaks
    assert large < small + 24


@pytest.mark.parametrize(
    ("begins", "repeated", "byte"),
    [
        (b'{"Items": [', b'{"sessionId": "a"},', 0),
        (b'{"sessions": [{"sessionId": "', b"x" * 20, 14),
        (b'{"sessions": [{"sessionId": "a", "tags": {}},', b'{"sessionId": [', 45),
        (b"[", b"\n" * 20, None),
    ],
    ids=["a wrong key", "a text without end", "brackets without end", "white space"],
)
def test_fault_58_what_never_ends_is_refused_without_filling_the_memory(tmp_path, job, begins, repeated, byte):
    """Packed 200 MiB: a small file can be a large dump."""
    path = tmp_path / "endless.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(begins)
        piece = repeated * (2**20 // len(repeated))
        for _ in range(200):
            file.write(piece)
    (tmp_path / "empty.json").write_bytes(b"")
    idle = peak_mib(job, tmp_path / "empty.json", "there is nothing in it")

    says = f"byte {byte}: " if byte is not None else "the file ends here"
    assert peak_mib(job, path, says) < idle + 256


def test_fault_46_58_what_was_committed_is_read_back_without_being_loaded(tmp_path):
    """Of half a million rows, some thousand at a time."""
    tables, count, name, run_id = Tables(Disk(tmp_path)), 500_000, "0123456789abcdef", "20261120T020000Z-012345"
    replacement = Replacement(DATE, "slice_id", (name,))
    staged = Stage(tables, "things", THINGS, replacement, run_id)
    staged.write(rows_of(name, range(count), text=[run_id] * count, tags=pa.nulls(count, THINGS.field("tags").type)))
    staged.commit(run_id, 1)
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        assert tables.count("things", replacement) == {name: count}
        assert tables.values("things", replacement, "text") == {run_id}
    finally:
        pa.set_memory_pool(usual)

    assert 0 < pool.max_memory() < 16 * 2**20


def test_fault_58_errors_are_of_the_taxonomy(tmp_path, job):
    """Whatever bytes there are: a sentence with a place, or a dump."""
    path = tmp_path / "dump.json"
    for at in range(0, len(WHOLE), 400):
        path.write_bytes(WHOLE[:at] + b"\x00" + WHOLE[at:])
        with pytest.raises(EtlError, match=rf"byte ({at}|{at - 1}): "):
            load(job, path)


@pytest.mark.parametrize("levels", [250, 900, 974])
def test_fault_61_a_record_that_is_nested_too_deep_is_a_reject_and_keeps_no_command_back(levels, tmp_path, job):
    """A ledger whose page no parser reads ended every later command in a traceback, until somebody removed it."""
    arn = f"arn:aws:nimble:us-west-2:{ACCOUNT}:streaming-session/"
    deep = "[" * levels + "]" * levels
    text = (
        f'{{"sessions": [{{"sessionId": "a", "arn": "{arn}a", "new": {deep}}}, {{"sessionId": "b", "arn": "{arn}b"}}]}}'
    )
    (file,) = save(tmp_path, text)

    done = job.cli("import", str(file), "--studio-id", "s", *DATE_FLAG)

    assert done.returncode == 5, done.stderr
    assert job.ask("select session_id from streaming_sessions where studio_id = 's'") == [("b",)]
    assert job.ask("select reason from etl_rejects") == [("is nested deeper than 200 levels",)]
    for command in (("verify",), ("replay", "--since", "2026-01-01"), ("compact",), ("vacuum",)):
        done = job.cli(*command)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 5)
    assert job.problems() == []
