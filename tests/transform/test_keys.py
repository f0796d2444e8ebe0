"""A key that an object has twice is found, and costs nothing where there is none."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.transform.keys import has_doubled_key, may_have_doubled_key

TEXT = st.text(max_size=4)
VALUES = st.recursive(
    st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}', '{"a":1, "a" : 2}', '[{"b":{"a":1,"\\u0061":1}}]', '{"tags":{"k":"1","k":"1"}}',
        '{"a":":","a":1}', '{"a":1,"b":"\\u003a","a":2}', '{"a":1,"b":"\\u003A","a":2}',
    ],
)  # fmt: skip
def test_fault_70_doubled_key_is_found_wherever_and_however_it_is_written(text):
    assert may_have_doubled_key(text.encode(), msgspec.json.decode(text))
    assert has_doubled_key(text.encode())


@given(value=VALUES, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_text_without_a_doubled_key_has_none(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert not has_doubled_key(text)


@given(value=VALUES)
def test_plain_text_is_not_even_looked_at(value):
    assert not may_have_doubled_key(msgspec.json.encode(value), value)
