"""The examples in the documents, run."""

import doctest

import pytest

from tests import ROOT

DOCS = ROOT / "docs"


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_examples_say_what_is_written(path):
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert tried > 0
    assert failed == 0
