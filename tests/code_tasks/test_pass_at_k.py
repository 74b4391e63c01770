"""pass@k against every choice of k samples."""

import itertools

import pytest

from ablate.code_tasks.pass_at_k import pass_at_k


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_it_is_the_share_of_choices_in_which_one_passes(n):
    for passed in range(n + 1):
        results = [True] * passed + [False] * (n - passed)
        for k in range(1, n + 1):
            choices = [any(chosen) for chosen in itertools.combinations(results, k)]
            assert pass_at_k(n, passed, k) == pytest.approx(sum(choices) / len(choices), abs=1e-15)


def test_it_is_right_where_factorials_are_large():
    assert pass_at_k(2000, 1, 100) == pytest.approx(0.05)


@pytest.mark.parametrize("words", [(3, 1, 4), (3, 1, 0), (3, 4, 1)])
def test_others_are_refused(words):
    with pytest.raises(ValueError, match="wanted k in 1"):
        pass_at_k(*words)
