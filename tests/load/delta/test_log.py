"""What of a log is read to open a version of its table."""

import pytest

from etl.load.delta.log import needed


def entries(first, last):
    return [f"{version:020}.json" for version in range(first, last + 1)]


def checkpoint(version, part=""):
    return f"{version:020}.checkpoint{part}.parquet"


OTHERS = [
    "_last_checkpoint",
    "00000000000000000007.json.tmp",
    "00000000000000000003.00000000000000000005.compacted.json",
]


@pytest.mark.parametrize(
    ("names", "version", "read"),
    [
        ([], None, []),
        (entries(0, 3), None, entries(0, 3)),
        (entries(0, 3), 1, entries(0, 1)),
        ([*entries(0, 25), checkpoint(10), checkpoint(20)], None, [checkpoint(20), *entries(20, 25)]),
        ([*entries(0, 25), checkpoint(10), checkpoint(20)], 19, [checkpoint(10), *entries(10, 19)]),
        ([*entries(0, 25), checkpoint(10), checkpoint(20)], 20, [checkpoint(20), *entries(20, 20)]),
        ([*entries(0, 25), checkpoint(10)], 9, entries(0, 9)),
        (
            [*entries(19, 22), checkpoint(20, ".0000000001.0000000002"), checkpoint(20, ".0000000002.0000000002")],
            None,
            [checkpoint(20, ".0000000001.0000000002"), checkpoint(20, ".0000000002.0000000002"), *entries(20, 22)],
        ),
    ],
)
def test_the_newest_checkpoint_before_a_version_and_what_follows_is_read(names, version, read):
    assert needed([*OTHERS, *names], version) == sorted(read)
