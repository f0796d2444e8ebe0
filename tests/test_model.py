"""Values that travel: which shard of a night owns which slice."""

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from etl.model import WHOLE, Shard

IDS = 16**16
EDGES = st.sampled_from([0, 1, IDS // 2 - 1, IDS // 2, IDS - 1])
QUICK = settings(deadline=None)


def owns(shard, number):
    """Tell whether a shard owns the slice with an id."""
    return shard.owns(SimpleNamespace(slice_id=f"{number:016x}"))


@QUICK
@given(EDGES | st.integers(0, IDS - 1), st.integers(1, 200))
def test_every_slice_belongs_to_exactly_one_shard(number, count):
    assert sum(owns(Shard(one, count), number) for one in range(1, count + 1)) == 1


@QUICK
@given(st.integers(1, 10_000), st.data())
def test_ranges_of_shards_are_contiguous_and_equal(count, data):
    """Each begins where the one before ends, and none is more than one id longer than another."""
    number = data.draw(st.integers(1, count))
    first, after = (-(-one * IDS // count) for one in (number - 1, number))
    shard = Shard(number, count)
    assert owns(shard, first)
    assert owns(shard, after - 1)
    assert not owns(shard, after)
    assert first == 0 or not owns(shard, first - 1)
    assert after - first in {IDS // count, -(-IDS // count)}


@QUICK
@given(st.integers(1, 10_000), st.data())
def test_shard_is_the_same_after_it_was_written_and_read(count, data):
    shard = Shard(data.draw(st.integers(1, count)), count)
    assert Shard.parse(shard.text) == shard
    assert (shard == WHOLE) == (shard.text is None)
