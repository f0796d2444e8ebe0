"""Promises that a mutant once broke without any test noticing: see tests/mutants."""

import datetime as dt
import logging
import random
import re
import signal
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from support.job import DATE, NIGHT, RUN, job_at
from support.studios import LIST, asked_for_sessions, fired, studio_of
from support.warehouse import NEXT_DATE, THINGS, build, publish, record_syncs, stage

import etl.pipeline.write
from etl.emulator import World
from etl.emulator.world import Listing
from etl.errors import LedgerError, WarehouseError
from etl.extract.datasets import select_datasets
from etl.extract.parsed import MalformedPageError, proof_hook, read_parsed_page
from etl.extract.service_model import describe_operation, model_session
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.load.delta.commit import Commit
from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement, Tables
from etl.model import Dataset
from etl.pipeline.ahead import Ahead
from etl.pipeline.plan import Plan
from etl.pipeline.walks import Stop
from etl.storage.disk import Disk

OTHER_KEY = (
    "datasets: [studios, {name: streaming_sessions, service: nimble, operation: list_streaming_sessions, key: [arn],"
    " for_each: {dataset: studios, bind: {studioId: studio_id}}}]"
)


def only_ledger(job):
    (path,) = ledger_paths(job.directory / "state")
    return Ledger.open(path)


# The source


def test_fault_7_after_they_expired_credentials_are_those_that_the_environment_has_now(job, studio, monkeypatch):
    """A key that the studio does not know takes the place of the first: the refusal shows that it was used."""
    studio.set_faults([f"expired-credentials:{LIST},page=3,times=1"])

    def change_key(_part, _page):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSE")

    (outcome,) = job.run(on_page=change_key)

    assert fired(studio) == {"expired-credentials"}
    assert any("UnrecognizedClientException" in facts.error for facts in outcome.slices if facts.error)


ANSWER = b"<DescribeVolumesResponse><volumeSet/></DescribeVolumesResponse>"


@pytest.mark.parametrize(
    ("body", "length", "says"),
    [
        (ANSWER, len(ANSWER) + 1, "bytes arrived of"),
        (ANSWER[:-1], None, "not XML"),
        (b"<html></html>", None, "the body is <html>"),
        (b"", None, "not XML"),
    ],
)
def test_fault_1_2_what_botocore_parses_must_be_a_page_too(body, length, says):
    volumes = Dataset(name="volumes", service="ec2", operation="describe_volumes", key=("volume_id",))
    prove = proof_hook(describe_operation(model_session(), volumes))
    prove(response_dict={"status_code": 200, "headers": {}, "body": ANSWER})
    headers = {} if length is None else {"content-length": str(length)}
    with pytest.raises(MalformedPageError, match=says):
        prove(response_dict={"status_code": 200, "headers": headers, "body": body})


class OnePage(list):
    """What a paginator gives; no maximum has cut it."""

    resume_token = None


def test_fault_1_parsed_page_without_its_list_is_no_page():
    """Where a service writes empty lists, one that is missing is not empty."""
    names = Dataset(name="names", service="dynamodb", operation="list_tables", key=("value",))
    operation = describe_operation(model_session(), names)
    empty = {"TableNames": [], "ResponseMetadata": {}}
    assert read_parsed_page(names, operation, OnePage([empty]), 1, 0).records == 0
    with pytest.raises(MalformedPageError, match="'TableNames' is missing"):
        read_parsed_page(names, operation, OnePage([{"ResponseMetadata": {}}]), 1, 0)


# Which run goes on


def fingerprint(directory, studio, source="", rest=""):
    settings = job_at(directory, studio, source=source, rest=rest).settings()
    datasets = select_datasets(settings.datasets, settings.privacy.rules)
    exported = [entry if isinstance(entry, str) else entry.name for entry in settings.exported]
    describe = partial(describe_operation, model_session())
    return Plan.make(datasets, exported, describe, settings.source, settings.privacy.secret).fingerprint


@pytest.mark.parametrize(
    ("source", "rest"),
    [
        ("  studio_ids: [us-west-2-abc]", ""),
        ("  account_id: '123456789012'", ""),
        ("  region: us-east-1", ""),
        ("  filters: {owned_by: someone}", ""),
        ("", "datasets: [streaming_sessions]"),
        ("", OTHER_KEY),
    ],
)
def test_fault_17_whatever_decides_which_rows_a_run_has_is_in_its_fingerprint(tmp_path, studio, source, rest):
    assert fingerprint(tmp_path, studio, source, rest) != fingerprint(tmp_path, studio)


def test_fault_17_accounts_and_regions_are_in_the_fingerprint_and_roles_are_not(tmp_path, studio):
    """With another role, the run goes on: the former one may have been refused."""
    sources = [
        "",
        "  accounts: [{id: '111111111111', role: a}]",
        "  accounts: [{id: '222222222222', role: a}]",
        "  accounts: [{id: '111111111111', role: a, regions: [us-east-1]}]",
        "  regions: us-*",
        "  organization: {role: a}",
        "  organization: {role: a, skip: ['111111111111']}",
        "  organization: {role: a, units: [r-emb1]}",
    ]
    found = [fingerprint(tmp_path, studio, source) for source in sources]
    assert len(set(found)) == len(found)
    assert found == [fingerprint(tmp_path, studio, source.replace("role: a", "role: b")) for source in sources]


@pytest.mark.parametrize(
    "rest", ["run: {concurrency: 3}", "warehouse: {path: elsewhere}", "datasets: [streaming_sessions, studios]"]
)
def test_what_changes_no_row_lets_a_run_go_on(tmp_path, studio, rest):
    assert fingerprint(tmp_path, studio, rest=rest) == fingerprint(tmp_path, studio)


def test_fresh_begins_anew_and_the_run_that_it_leaves_is_never_resumed(job, studio):
    (left,) = job.run(overrides={"max_items": 45})
    asked = len(studio.requests)

    (outcome,) = job.run(fresh=True, overrides={"max_items": 45})
    (resumed,) = job.run()

    assert outcome.run.run_id != left.run.run_id
    assert asked_for_sessions(studio, asked).count(None) == 2, "each studio from its first page on, once"
    assert resumed.run.run_id == outcome.run.run_id


@pytest.mark.parametrize("damage", [lambda body: body[:5000], lambda body: b"hello" * len(body), lambda _: b""])
def test_fault_38_fresh_sets_a_damaged_ledger_aside_and_says_which(job, caplog, damage):
    """The message names --fresh as the way out: it must be one, on this night and on those that follow."""
    job.run(overrides={"max_items": 45})
    (path,) = ledger_paths(job.directory / "state")
    path.write_bytes(damaged := damage(path.read_bytes()))
    with pytest.raises(LedgerError, match="--fresh"):
        job.run()

    with caplog.at_level(logging.WARNING):
        (outcome,) = job.run(fresh=True)

    assert outcome.exit_code == 0
    assert str(path) in caplog.text
    assert path.with_suffix(".damaged").read_bytes() == damaged, "it is the operator's to look at"
    assert [again.exit_code for again in job.run()] == [0]


# Publishing


@pytest.fixture
def losing_stage(monkeypatch):
    """Stages of the child table lose their rows on the way to the disk, and nothing says so."""
    lost = []
    write = Stage.write

    def write_unless_lost(self, batch: pa.RecordBatch):
        if self._name == "streaming_session_tags" and batch.num_rows:
            lost.append(batch)
        else:
            write(self, batch)

    monkeypatch.setattr(Stage, "write", write_unless_lost)
    return lost


def test_what_is_read_back_must_be_what_was_written_or_it_is_not_published(job, losing_stage):
    (outcome,) = job.run()

    assert losing_stage
    assert re.search(
        r"table streaming_session_tags.*: 0 rows were read back, \d+ were written", str(outcome.failure)
    ), outcome.failure
    assert job.exported_rows()[1:] == [[], []]
    with only_ledger(job) as ledger:
        assert {facts.publication for facts in ledger.slices("streaming_sessions")} == {None}


def test_records_that_became_nothing_keep_the_slice_from_being_published(job, monkeypatch):
    """Rows, rejects and duplicates are all the records, or nothing is committed."""
    real = etl.pipeline.write.flatten

    def flatten_all_but_one(layout, snapshot, part, pages, repeated):
        superseded = {**repeated.superseded, 1: repeated.superseded.get(1, frozenset()) | {0}}
        return real(layout, snapshot, part, pages, replace(repeated, superseded=superseded))

    monkeypatch.setattr(etl.pipeline.write, "flatten", flatten_all_but_one)
    monkeypatch.setattr(Ahead, "add", lambda self, *_: self.give_up())
    (outcome,) = job.run()

    nothing_is_published(job, outcome)


def test_records_that_became_nothing_while_they_were_staged_ahead_keep_the_slice_from_being_published(job, monkeypatch):
    real = Ahead.add

    def add_all_but_one(self, slice_, page):
        real(self, slice_, replace(page, first=page.first + 1))

    monkeypatch.setattr(Ahead, "add", add_all_but_one)
    (outcome,) = job.run()

    nothing_is_published(job, outcome)


def nothing_is_published(job, outcome):
    assert re.search(r"records became \d+ rows, 0 rejects and 0 duplicates", str(outcome.failure)), outcome.failure
    assert outcome.exit_code == 1
    tables = Tables(Disk(job.directory / "warehouse"))
    assert [name for name in tables.names() if tables.file_count(name)] == []


def test_fault_23_no_record_at_all_is_a_fall_however_small_the_studio(tmp_path, monkeypatch):
    with studio_of(World(studios=1, sessions_per_studio=3)) as studio:
        job = job_at(tmp_path, studio).lend_credentials(monkeypatch)
        job.run()
        before = job.rows("streaming_sessions")
        studio.set_faults([f"empty-list:{LIST},times=ever"])

        (outcome,) = job.run()

        assert fired(studio) == {"empty-list"}
        assert outcome.exit_code == 5
        assert job.rows("streaming_sessions") == before != []


@pytest.mark.parametrize("by_deadline", [False, True])
def test_fault_44_after_a_signal_nothing_is_published_after_the_deadline_what_is_complete(job, by_deadline):
    """A machine that shuts down does not wait for Parquet files; a night whose time is over still shows what it has."""
    stop = Stop()

    def stop_at_the_first_session(part, _page):
        if part.dataset == "streaming_sessions":
            stop.by_deadline = by_deadline
            stop.set()

    (outcome,) = job.run(stop=stop, on_page=stop_at_the_first_session)

    assert outcome.exit_code == 3
    published = [facts.slice.dataset for facts in outcome.slices if facts.publication is not None]
    assert published == (["studios"] if by_deadline else [])
    assert (job.directory / "warehouse" / "warehouse.duckdb").exists() is by_deadline


@pytest.mark.parametrize(
    "step", ["table.committed", "publication.marked", "facts.published", "catalog.built", "catalog.swapped"]
)
def test_fault_32_to_34_a_run_is_open_until_readers_see_it_and_ends_without_another_request(job, studio, step):
    """Closed too early, its catalog would be missing until the next full export."""
    job = job_at(job.directory, studio, source="  account_id: '123456789012'")
    assert job.finish(*RUN, NIMBLE_ETL_FAILPOINT=step) == -signal.SIGKILL
    asked = len(studio.requests)

    assert job.finish(*RUN) == 0
    assert len(studio.requests) == asked
    with only_ledger(job) as ledger:
        assert ledger.run().state == "published"
    assert job.ask("select count(*) from etl_runs") == [(1,)]


def test_fault_32_what_a_killed_run_began_to_publish_is_whole_in_the_next_catalog_whoever_builds_it(job):
    """Tags of that night are committed, its sessions are not; the next run is for another night and another request."""
    assert job.finish(*RUN, NIMBLE_ETL_FAILPOINT="table.committed:4") == -signal.SIGKILL
    tables = Tables(Disk(job.directory / "warehouse"))
    assert tables.dates("streaming_session_tags") == [DATE]
    assert tables.dates("streaming_sessions") == []

    job.run(DATE + dt.timedelta(days=1), overrides={"datasets": ["studios"]})

    sessions = "select distinct snapshot_date, session_id from streaming_sessions_history"
    tagged = "select distinct snapshot_date, session_id from streaming_session_tags_history"
    assert job.ask(tagged) != []
    assert job.ask(f"{tagged} except {sessions}") == []


# Proof


def test_verify_names_a_snapshot_whose_values_differ_though_its_rows_are_as_many(job):
    """Whoever edits a data file leaves checksums that are right."""
    job.run()
    (file,) = Tables(Disk(job.directory / "warehouse")).read("streaming_sessions").files[DATE]
    table = pq.ParquetFile(file).read()
    place = table.schema.get_field_index("state")
    pq.write_table(
        table.set_column(place, "state", pc.replace_substring(table["state"], "READY", "STOPPED")), Path(file)
    )

    problems = job.problems()
    assert len([problem for problem in problems if "table streaming_sessions," in problem]) == 2, "both studios"
    assert all("and values differ" in problem for problem in problems)


@dataclass(frozen=True)
class Reordered(World):
    """A studio that lists the tags of its sessions in another order after the night, and is otherwise the same."""

    def _listing(self, operation, parameters, at):
        listing = super()._listing(operation, parameters, NIGHT)
        if at == NIGHT:
            return listing
        return Listing(listing.size, lambda place: with_reversed_tags(listing.record(place)))


def with_reversed_tags(record):
    return {**record, "tags": dict(reversed(record["tags"].items()))} if record.get("tags") else record


def test_tags_in_another_order_are_no_change(tmp_path, monkeypatch):
    with studio_of(Reordered(studios=1, sessions_per_studio=20)) as studio:
        job = job_at(tmp_path, studio).lend_credentials(monkeypatch)
        job.run()
        studio.set_instant(NIGHT + dt.timedelta(seconds=1))
        job.run(DATE + dt.timedelta(days=1))

    orders = (
        "select count(distinct tags::varchar) as orders from streaming_sessions_history where cardinality(tags) > 1"
    )
    assert set(job.ask(f"{orders} group by session_id")) == {(2,)}
    assert job.ask("select distinct change from streaming_session_changes") == [("appeared",)]


# Tables and catalog


@pytest.fixture
def tables(tmp_path):
    return Tables(Disk(tmp_path / "warehouse"))


def test_fault_42_two_first_writers_of_a_date_do_not_double_its_rows(tables, monkeypatch):
    """Neither removes a file, so to deltalake their commits are no conflict: both would land."""
    write, others = DeltaTable.create_write_transaction, []

    def after_another(self, *args, **kwargs):
        if not others:
            others.append("run-2")
            publish(tables, {"a": [8]}, run="run-2")
        write(self, *args, **kwargs)

    publish(tables, {"a": [0]}, date=NEXT_DATE, run="run-0")
    monkeypatch.setattr(DeltaTable, "create_write_transaction", after_another)
    publish(tables, {"a": [1]}, run="run-1")

    assert others
    assert [row["n"] for row in tables.rows("things", DATE, ["n"])] == [1]


def test_fault_36_commit_that_another_process_made_meanwhile_is_synced(tables, monkeypatch):
    """It was killed between commit and sync; whoever finds the commit while making the same one syncs it."""
    publish(tables, {"a": [1]})
    late = stage(tables, {"a": [1]})
    events = record_syncs(monkeypatch)
    late.commit("run-1", 1)
    assert ("sync", "00000000000000000001.json") in events
    assert ("sync", "_delta_log") in events
    assert len(list((tables.store.path / "things").rglob("*.parquet"))) == 1


def test_fault_39_flipped_byte_is_never_carried_into_a_new_file(tables):
    """It would be written there with a checksum that is right, and nothing could tell any more."""
    publish(tables, {"a": [1], "b": list(range(500))})
    (name,) = tables.read("things").files[DATE]
    file = Path(name)
    content = file.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    commit = Commit(tables, "things", THINGS, Replacement(DATE, "slice_id", ("a",)), "run-2")

    def carried():
        schema = pa.schema([column.remove_metadata() for column in THINGS if column.name != "snapshot_date"])
        return pa.Table.from_batches(
            commit._kept([str(file.relative_to(tables.store.path / "things"))], schema), schema
        )

    rows, refused = carried(), 0
    assert rows.num_rows == 500
    chance = random.Random(39)
    for _ in range(150):
        flipped = bytearray(content)
        flipped[chance.randrange(4, footer)] ^= 0x10
        file.write_bytes(flipped)
        try:
            assert carried() == rows
        except WarehouseError:
            refused += 1
    assert refused > 100


def test_fault_50_who_holds_the_old_catalog_open_keeps_every_byte_of_it(tables):
    publish(tables, {"a": [1]})
    catalog = build(tables)
    before = catalog.read_bytes()
    with catalog.open("rb") as held:
        publish(tables, {"b": list(range(1000))}, run="run-2")
        assert build(tables).read_bytes() != before
        assert held.read() == before
