"""Checks of configs: what holds passes in silence, what does not is named with what to type."""

import math

import numpy as np
import pytest

from ablate.core.validation import refuse, require, require_name, require_range, require_ranges


@pytest.mark.parametrize("value", [2, 5, np.int64(3)])
def test_numbers_in_range_pass(value):
    require_range("corpus.digits", value, 2, 5)


@pytest.mark.parametrize(
    ("value", "near"), [(1, 2), (9, 5), (True, 2), ("3", 2), (2.5, 2), (math.nan, 2), (None, 2), (math.inf, 2)]
)
def test_others_are_refused_with_the_nearest_in_range(value, near):
    with pytest.raises(ValueError, match=rf"^digits: wanted 2\.\.5 for us, got {value!r}; try digits={near}$"):
        require_range("digits", value, 2, 5, of=" for us")


def test_fractions_pass_where_they_may():
    require_range("share", 0.5, 0, 1, whole=False)
    with pytest.raises(ValueError, match=r"share: wanted 0\.\.1, got nan; try share=0\.1"):
        require_range("share", math.nan, 0, 1, example=0.1, whole=False)


def test_fields_are_named_behind_their_prefix():
    class Config:
        layers, heads = 2, 0

    with pytest.raises(ValueError, match=r"model\.heads: wanted 1\.\.8, got 0; try model\.heads=1"):
        require_ranges(Config(), {"layers": (1, 4), "heads": (1, 8)}, "model.")


def test_rules_are_read_in_order_and_no_further_than_the_first_that_fails():
    def rules():
        yield True, "holds"
        yield False, "one"
        raise AssertionError("read on")

    with pytest.raises(ValueError, match=r"^one$"):
        refuse(rules())


def test_the_command_may_differ_from_the_key():
    with pytest.raises(ValueError, match=r"^p: wanted more, got 0; try schedule\.p=2$"):
        require("p", 0, False, "more", 2, "schedule.p")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b"])
def test_names_that_are_no_folder(name):
    require_name("regime.name", "mine-2.b_c")
    with pytest.raises(ValueError, match="it names a folder"):
        require_name("regime.name", name)
