"""docs/scale.md shows what benchmarks/scale.py computes from the unit costs that were measured last."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scale
from etl.load.delta import stage
from etl.pipeline import losses

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
UNITS = scale.recorded()


@pytest.mark.parametrize("table", [scale.unit_table, scale.night_table])
def test_the_tables_are_computed_from_what_was_measured(table):
    assert f"\n\n{table(UNITS)}\n\n" in PAGE
    assert f"\n\n{table(replace(UNITS, page_us=2 * UNITS.page_us, plan_bytes=1e6))}\n\n" not in PAGE


def test_what_the_text_says_follows_from_what_was_measured():
    text = " ".join(PAGE.split())
    hours = [
        scale.costs(UNITS, scale.ESTATES[name])["CPU of walking and publishing, hours"]
        for name in ("1,000 accounts", "10,000 accounts")
    ]
    of_slice = UNITS.plan_bytes + UNITS.facts_bytes
    for said in (
        f"Measured on {UNITS.machine}.",
        f"{hours[0]} hours of CPU for 1,000 accounts fit into a night. {hours[1]} hours for 10,000 do not",
        f"{of_slice / 1024:.1f} KiB a slice: {200_000 * of_slice / 2**20:,.0f} MiB for 200,000",
        f"about {scale.most_pages(UNITS):,} pages",
    ):
        assert said in text


def test_the_largest_estate_is_counted_by_hand():
    found = scale.costs(UNITS, scale.ESTATES["10,000 accounts"])
    assert found["slices"] == "2,000,000"
    assert found["pages"] == "10,000,000"
    assert found["requests to AWS"] == "10,020,000"
    assert found["commits"] == "34"
    units = replace(
        UNITS, start_cpu_s=0, plan_us=0, slice_us=0, compare_us=0, page_us=3600, record_bytes=100, slice_bytes=0,
        page_bytes=0, ledger_slice_bytes=0, ledger_page_bytes=2000,
    )  # fmt: skip
    found = scale.costs(units, scale.ESTATES["10,000 accounts"])
    assert found["CPU of walking and publishing, hours"] == "10"
    assert found["compute, USD"] == "0.41"
    assert found["ledger of the run, GB"] == "20"
    assert found["Parquet of records, GB"] == "100"
    assert found["data files"] == f"{10 * 38 + 24:,}"
    assert found["S3 storage of 30 nights, USD a month"] == "69"
    assert scale.most_pages(units) == 2_680_000


def test_a_slice_has_a_page_even_if_it_has_few_records():
    assert scale.Estate(accounts=1, regions=2, datasets=3, records=1).pages == 6
    assert scale.Estate(accounts=1, regions=1, datasets=1, records=101).pages == 2


def test_the_constants_are_those_of_the_code():
    assert scale.FILE_BYTES == stage._FILE_BYTES
    assert scale.COMPARED_DATES == losses.RECENT
    held = (ROOT / "tests/e2e/test_object_store.py").read_text(encoding="utf-8")
    assert re.search(rf"\(62, {scale.REQUESTS}, {scale.REQUESTS}\)", held)
