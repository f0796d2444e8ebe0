"""The steps that a page and its records go through, each by itself."""

import dataclasses
import datetime as dt
from itertools import count

import msgspec
import pytest

from benchmarks.studio import NIGHT, PAGE_SESSIONS
from etl.emulator import World
from etl.extract.datasets import builtin_datasets
from etl.extract.service_model import describe_operation, model_session
from etl.ledger.ledger import Ledger
from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement, Tables
from etl.model import Page, Slice, Snapshot
from etl.storage.disk import Disk
from etl.transform.batches import flatten
from etl.transform.duplicates import find_repeated
from etl.transform.records import Reader
from etl.transform.schema import layout_of

DATE = dt.date(2024, 6, 1)
DATASET = builtin_datasets()["streaming_sessions"]
OPERATION = describe_operation(model_session(), DATASET)
LAYOUT = layout_of(DATASET, OPERATION)
SNAPSHOT = Snapshot("run", DATE, DATASET, OPERATION)
PAGES = 20


@pytest.fixture(scope="module")
def part():
    studio = World(studios=1).page("ListStudios", {}, NIGHT, 0, 1).records[0]
    return Slice("streaming_sessions", "123456789012", "us-west-2", {"studioId": studio["studioId"]}, {})


@pytest.fixture(scope="module")
def pages():
    """Pages as the embedded studio sends them."""
    world = World(studios=1, sessions_per_studio=PAGES * PAGE_SESSIONS * 2)
    (studio,) = world.page("ListStudios", {}, NIGHT, 0, 1).records
    found = []
    for number in range(PAGES):
        position = number * PAGE_SESSIONS
        listed = world.page("ListStreamingSessions", {"studioId": studio["studioId"]}, NIGHT, position, PAGE_SESSIONS)
        body = msgspec.json.encode({"sessions": listed.records, "nextToken": f"{number:064}"})
        records = len(listed.records)
        found.append(Page(number + 1, body, records, 0, records, f"{number:088}", "request", 0, NIGHT))
    return found


def test_parse_a_page(benchmark, pages):
    reader = Reader(DATASET, OPERATION)
    assert len(benchmark(reader.read_page, pages[0]).values) == PAGE_SESSIONS


def test_look_for_duplicates_on_20_pages(benchmark, pages):
    benchmark(find_repeated, LAYOUT, lambda: pages)


def test_build_batches_of_20_pages(benchmark, part, pages):
    (flat,) = benchmark(lambda: list(flatten(LAYOUT, SNAPSHOT, part, pages)))
    assert flat.tables["streaming_sessions"].num_rows == PAGES * PAGE_SESSIONS


def test_store_a_page_in_the_ledger(benchmark, tmp_path, part, pages):
    with Ledger.create(tmp_path / "run.sqlite", "run", DATE, "request") as ledger:
        ledger.add_dataset(DATASET, OPERATION, published=True)
        ledger.add_slice(part)
        numbers = count(1)
        benchmark(lambda: ledger.store_page(part, dataclasses.replace(pages[0], number=next(numbers))))


def test_write_and_commit_20_pages(benchmark, tmp_path, part, pages):
    (flat,) = flatten(LAYOUT, SNAPSHOT, part, pages)
    tables, numbers = Tables(Disk(tmp_path)), count(1)

    def publish():
        stage = Stage(
            tables, DATASET.name, LAYOUT.schema, Replacement(DATE, "slice_id", (part.slice_id,)), f"run-{next(numbers)}"
        )
        stage.write(flat.tables[DATASET.name])
        stage.commit("bench", next(numbers))

    benchmark(publish)
