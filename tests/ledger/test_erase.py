"""What is taken out of a ledger is not in its file any more, not even where SQLite has freed a page."""

import dataclasses
import random
from pathlib import Path

import pytest
from support.shapes import DATE, dataset, operation, page, part

from etl.ledger.erase import remove_slices, replace_pages, scrub
from etl.ledger.ledger import Ledger

A, B = part("a"), part("b")


@pytest.fixture
def ledger(tmp_path):
    """A ledger with two slices of three pages each, too large for one page of SQLite, and hard to compress."""
    with Ledger.create(tmp_path / "state/runs/20261120T020000Z-abcdef.sqlite", "run", DATE, "request") as ledger:
        ledger.add_dataset(dataset(), operation(), published=True)
        chance = random.Random(1)
        for one in (A, B):
            ledger.add_slice(one)
            for number, token in enumerate(("t1", "t2", None), start=1):
                ledger.store_page(one, page([{"thingId": chance.randbytes(9000).hex()}], number, token=token))
        yield ledger


def bodies(ledger, slice_):
    """Return the middle of each stored body of a slice, as its bytes are in the file."""
    found = ledger.database.rows("select body from page where slice_id = ? order by number", slice_.slice_id)
    return [bytes(row["body"])[4000:4100] for row in found]


def in_files(ledger, pieces):
    files = [file.read_bytes() for file in Path(ledger.path).parent.iterdir() if not file.name.endswith("-shm")]
    return [any(piece in text for text in files) for piece in pieces]


def test_bytes_of_removed_slices_are_gone_and_the_others_are_whole(ledger):
    ledger.plan_publication("things", [A.slice_id, B.slice_id])
    ledger.plan_publication("things", [A.slice_id])
    gone, kept, pages = bodies(ledger, A), bodies(ledger, B), list(ledger.pages(B))
    assert in_files(ledger, [*gone, *kept]) == [True] * 6

    remove_slices(ledger, [A.slice_id])
    scrub(ledger)

    assert in_files(ledger, gone) == [False] * 3
    assert in_files(ledger, kept) == [True] * 3
    assert [facts.slice for facts in ledger.slices()] == [B]
    assert list(ledger.pages(B)) == pages
    assert ledger.open_publications() == {"things": {B.slice_id}}


def test_bytes_of_a_replaced_body_are_gone_and_its_facts_are_those_of_the_new_one(ledger):
    gone = bodies(ledger, A)
    first, second, third = ledger.pages(A)
    before = {facts.slice.slice_id: facts for facts in ledger.slices()}
    empty = dataclasses.replace(second, body=b'{"things":[],"nextToken":null}', records=0, stop=0)

    replace_pages(ledger, A, [empty])
    scrub(ledger)

    assert in_files(ledger, gone) == [True, False, True]
    assert list(ledger.pages(A)) == [first, empty, third]
    after = {facts.slice.slice_id: facts for facts in ledger.slices()}
    assert after[B.slice_id] == before[B.slice_id]
    assert (before[A.slice_id].records, after[A.slice_id].records) == (3, 2)
    assert after[A.slice_id].pages_sha256 != before[A.slice_id].pages_sha256
    assert ledger.checkpoint(A).pages == 3
