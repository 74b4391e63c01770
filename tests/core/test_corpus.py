"""Documents of a window: which tokens are unscored, and which document each belongs to."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ablate.core.corpus import documents, unscored

END = 7
ROWS = torch.tensor([[1, 2, 7, 3, 7, 7, 7], [7, 1, 1, 1, 1, 1, 7], [1, 2, 3, 4, 5, 6, 1]])


def test_the_first_token_of_every_document_is_given() -> None:
    wanted = [[1, 0, 0, 1, 0, 1, 1], [1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]]
    assert unscored(ROWS, END).int().tolist() == wanted
    assert unscored(ROWS, None).int().tolist() == [[1, 0, 0, 0, 0, 0, 0]] * 3


def test_documents_end_with_their_boundary() -> None:
    assert documents(ROWS, END).tolist() == [[0, 0, 0, 1, 1, 2, 3], [0, 1, 1, 1, 1, 1, 1], [0] * 7]
    assert documents(ROWS, None).tolist() == [[0] * 7] * 3
    assert documents(ROWS, END).dtype == torch.int64


@pytest.mark.parametrize("seed", range(3))
def test_documents_are_counted_as_by_hand(seed: int) -> None:
    tokens_BL = torch.randint(5, 9, (4, 40), generator=torch.Generator().manual_seed(seed))
    for tokens, numbers, firsts in zip(tokens_BL, documents(tokens_BL, END), unscored(tokens_BL, END), strict=True):
        number, fresh = -1, True
        for token, found, first in zip(tokens.tolist(), numbers.tolist(), firsts.tolist(), strict=True):
            number += fresh
            assert (found, first) == (number, fresh)
            fresh = token == END


def test_corpus_loads_without_torch() -> None:
    code = "import ablate.core.corpus, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
