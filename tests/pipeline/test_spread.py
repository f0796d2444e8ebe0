"""A night in many tasks: how slices become tasks, and what becomes of the rows that workers have staged."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.shapes import DATE, dataset, operation, page, part, snapshot

from etl.errors import ConfigError
from etl.ledger.ledger import Ledger
from etl.ledger.segments import Segments
from etl.load.delta import stage as stage_module
from etl.load.delta.parquet import fill
from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement, Tables
from etl.pipeline.counts import Counts
from etl.pipeline.spread import Delivered, Spread, cut
from etl.pipeline.task import Done, Rows
from etl.storage.disk import Disk
from etl.transform.schema import layout_of

SLICES = [part(f"studio-{number}") for number in range(40)]
IDS = [slice_.slice_id for slice_ in SLICES]


@given(st.integers(0, 40), st.integers(1, 50), st.dictionaries(st.sampled_from(IDS), st.integers(0, 500)))
def test_tasks_are_ranges_of_ids_of_about_equal_weight(count, parts, weights):
    slices = SLICES[:count]

    ranges = cut(slices, parts, weights)

    ids = [[slice_.slice_id for slice_ in one] for one in ranges]
    assert [name for one in ids for name in one] == sorted(slice_.slice_id for slice_ in slices)
    assert all(ids)
    assert len(ids) <= parts
    weight_of = {slice_.slice_id: max(1, weights.get(slice_.slice_id, 1)) for slice_ in slices}
    share, largest = sum(weight_of.values()) / parts, max(weight_of.values(), default=0)
    assert all(sum(map(weight_of.get, one)) <= share + largest for one in ids)


def test_slices_of_one_weight_are_spread_evenly():
    assert [len(one) for one in cut(SLICES, 8, {})] == [5] * 8
    assert [len(one) for one in cut(SLICES[:3], 8, {})] == [1, 1, 1]


@pytest.fixture
def facts(tmp_path):
    """The facts about a slice with one page."""
    with Ledger.create(tmp_path / "20261120T020000Z-abcdef.sqlite", "run-1", DATE, "request") as ledger:
        ledger.add_dataset(dataset(), operation(), published=True)
        ledger.add_slice(part("a"))
        ledger.store_page(part("a"), page([{"thingId": "1"}], 1))
        (facts,) = ledger.slices()
        return facts


@pytest.fixture
def staged(tmp_path):
    """What a worker has staged of that slice; and the tables."""
    tables, layout = Tables(Disk(tmp_path / "warehouse")), layout_of(dataset(), operation(), None)
    stage = Stage(tables, "things", layout.schema, Replacement(DATE, "slice_id", ()), "run-1.worker")
    rows = pa.RecordBatch.from_pydict({"slice_id": [part("a").slice_id]})
    stage.write(fill(rows, layout.schema, {"snapshot_date": DATE}))
    return Delivered(tables, layout, snapshot()), {"things": tuple(stage.finish())}


def test_rows_of_the_pages_that_are_published_are_given_away_once(facts, staged):
    delivered, files = staged
    counts = {facts.slice.slice_id: Counts(rows=1)}
    delivered.add(Rows(files, counts, {facts.slice.slice_id: facts.pages_sha256}))

    taken = delivered.take([facts])

    assert taken.counts == counts
    assert taken.stages["things"].finish() == list(files["things"])
    assert delivered.take([facts]) is None


@pytest.mark.parametrize("digests", [{}, {"another": None}, {part("a").slice_id: "of other pages"}])
def test_rows_of_other_pages_than_are_published_are_removed(facts, staged, digests, tmp_path):
    delivered, files = staged
    there = tmp_path / "warehouse"
    delivered.add(Rows(files, {}, {facts.slice.slice_id: facts.pages_sha256, **digests} if digests else {}))
    assert list(there.rglob("*.parquet"))

    assert delivered.take([facts]) is None

    assert not list(there.rglob("*.parquet"))


def test_many_small_files_of_workers_become_one(facts, tmp_path, monkeypatch):
    monkeypatch.setattr(stage_module, "_ROW_GROUP_BYTES", 1)  # the first is written while others are still to be read
    tables, layout = Tables(Disk(tmp_path / "warehouse")), layout_of(dataset(), operation(), None)
    delivered = Delivered(tables, layout, snapshot())
    for number in range(10):
        stage = Stage(tables, "things", layout.schema, Replacement(DATE, "slice_id", ()), f"run-1.worker{number}")
        rows = pa.RecordBatch.from_pydict({"slice_id": [facts.slice.slice_id], "thing_id": [f"thing-{number}"]})
        stage.write(fill(rows, layout.schema, {"snapshot_date": DATE}))
        delivered.add(Rows({"things": tuple(stage.finish())}, {}, {facts.slice.slice_id: facts.pages_sha256}))

    stages = delivered.take([facts]).stages

    (file,) = stages["things"].finish()
    found = pq.ParquetFile(file.name).read()
    assert sorted(found["thing_id"].to_pylist()) == [f"thing-{number}" for number in range(10)]
    assert list((tmp_path / "warehouse").rglob("*.parquet")) == [Path(file.name)]


def test_a_worker_whose_files_the_driver_does_not_see_is_named(tmp_path):
    """Otherwise the night would be incomplete again and again, and nobody would know why."""

    class Elsewhere:
        def map(self, tasks):
            yield from (Done(task, segments=2, node="another-machine") for task in tasks)

        def close(self):
            pass

    class Planned:
        plan = SimpleNamespace(dataset=lambda _: dataset(for_each=None))
        stop = threading.Event()

        def begin(self, ledger, _known):
            ledger.add_dataset(dataset(), operation(), published=True)
            ledger.add_slice(part("a"))
            return [part("a")]

    store = Disk(tmp_path / "warehouse")
    store.check_writable()
    with Ledger.temporary("run-1", DATE) as ledger, pytest.raises(ConfigError) as refused:
        Spread(Planned(), Elsewhere(), Segments(store, "run-1"), 4, {}).walk(ledger)
    assert str(refused.value) == (
        f"a worker on another-machine has written 2 files to {store.uri}, and this machine sees 0 of them there; "
        "warehouse.path, or engine.segments_at, must be a place that all workers share"
    )


def test_rows_that_nobody_takes_are_removed(facts, staged, tmp_path):
    delivered, files = staged
    delivered.add(Rows(files, {}, {facts.slice.slice_id: facts.pages_sha256}))
    delivered.give_up()
    assert not list((tmp_path / "warehouse").rglob("*.parquet"))
