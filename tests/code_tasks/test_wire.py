"""Plain values go over and come back as they were; nothing else does."""

import math
import os
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.code_tasks.wire import decoded, encoded, receive, send

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
LEAVES |= st.complex_numbers(allow_nan=False)
HASHABLE = st.recursive(LEAVES, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HASHABLE, inner, max_size=3) | st.sets(HASHABLE),
    max_leaves=12,
)


def there_and_back(value):
    read, write = os.pipe()
    try:
        send(write, encoded(value, lambda one: pytest.fail(f"{one!r} is plain")))
        return decoded(receive(read, 2**16), lambda number: pytest.fail("no object"))
    finally:
        os.close(read), os.close(write)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_plain_values_come_back(value):
    found = there_and_back(value)
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value) or "{" in repr(value), "1 is not True, 0.0 is not -0.0"


def test_odd_numbers_and_kinds():
    assert math.isnan(there_and_back(math.nan))
    assert there_and_back(10**4000) == 10**4000
    assert there_and_back(Counter("aab")) == {"a": 2, "b": 1}


def test_other_objects_are_known_by_number():
    one = object()
    assert decoded(encoded([one, (one, 2)], lambda _: 7), lambda number: f"object {number}") == [
        "object 7",
        ("object 7", 2),
    ]


def test_a_frame_is_bounded():
    read, write = os.pipe()
    send(write, "x" * 100)
    with pytest.raises(ValueError, match="an answer of 102 bytes, wanted 50 at most"):
        receive(read, 50)
    os.read(read, 200)
    os.close(write)
    with pytest.raises(EOFError):
        receive(read, 2**32)
    os.close(read)
