"""Texts that are nested too deep for parsers are still taken apart, and everything else is as the parser says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.transform.nesting import MOST_LEVELS, depth_of, items_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(['"', "[", "}", "\\", '\\"]']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


def depth(value):
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if below is None else 1 + max(map(depth, below), default=0)


@given(st.lists(VALUES, max_size=4), st.dictionaries(st.text(max_size=3), VALUES, max_size=2), st.integers(0, 1))
def test_items_of_a_list_are_those_that_a_parser_finds(items, others, ascii_only):
    text = json.dumps({**others, "things": items, "nextToken": "things"}, ensure_ascii=bool(ascii_only)).encode()
    assert [json.loads(item) for item in items_of(text, "things")] == items


@pytest.mark.parametrize("levels", [MOST_LEVELS - 1, MOST_LEVELS, MOST_LEVELS + 1, 100_000])
def test_depth_is_counted_however_deep_it_is(levels):
    assert max(depth_of(b"[" * levels + b"]" * levels), MOST_LEVELS) == max(levels, MOST_LEVELS)


def test_brackets_in_texts_do_not_count():
    assert depth_of(json.dumps(["[" * 1000, '"' + "{" * 1000]).encode()) == 1
