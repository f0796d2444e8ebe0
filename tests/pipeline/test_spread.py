"""A night in many tasks: how slices become tasks, and what becomes of the rows that workers have staged."""

from hypothesis import given
from hypothesis import strategies as st
from support.shapes import part

from etl.pipeline.spread import cut

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
