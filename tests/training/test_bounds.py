"""Settings of a run that are far out of range or of another type: answered at once, in one line."""

import dataclasses
import json
import time

import numpy as np
import pytest
import torch
from rich.console import Console

from ablate.core.rng import generator
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.regime import Stage
from ablate.training import data_feed
from ablate.training.base_model import base_weights
from ablate.training.data_feed import DataFeed
from ablate.training.resolution import resolve
from ablate.training.run_manifest import RunError
from ablate.training.train import train
from tests.builders import BUDGET, tiny_run

QUIET = Console(quiet=True)


def feed(unique: int, corpus) -> DataFeed:
    return DataFeed(corpus, 5, 8, 1, 0, 6, unique=unique)


def test_a_billion_sequences_cost_no_more_than_a_few(tmp_path):
    """A step across the end of the first epoch."""
    corpus, unique = tiny_run(tmp_path).corpus, 10**9
    begun = time.monotonic()
    numbers = feed(unique, corpus).sequences(np.arange(unique - 4, unique + 4))
    assert time.monotonic() - begun < 5
    assert ((numbers >= 0) & (numbers < unique)).all()
    assert len(set(numbers[:4].tolist())) == len(set(numbers[4:].tolist())) == 4


def test_up_to_a_bound_the_order_is_the_listed_one(tmp_path, monkeypatch):
    """Kept results were made with it. Beyond the bound every sequence comes once an epoch as well."""
    corpus, addresses = tiny_run(tmp_path).corpus, np.arange(4 * 12)
    listed = [generator(5, "epoch", epoch).permutation(12) for epoch in range(4)]
    assert feed(12, corpus).sequences(addresses).tolist() == np.concatenate(listed).tolist()
    monkeypatch.setattr(data_feed, "LISTED", 11)
    lazy = feed(12, corpus).sequences(addresses).reshape(4, 12)
    assert (np.sort(lazy, axis=1) == np.arange(12)).all()
    assert len({tuple(order) for order in lazy.tolist()}) == 4


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"rank": 1, "world": 2}, {"unique": 12}], ids=str)
def test_what_is_read_ahead_is_what_each_step_reads(tmp_path, monkeypatch, options):
    """Asked in order, of which several are read at once, or each by itself; to the end, which divides by no number."""
    options = {"accumulate": 1, **options}
    corpus, reads = tiny_run(tmp_path).corpus, []
    batch = type(corpus).batch
    monkeypatch.setattr(
        type(corpus), "batch", lambda self, rows, seed: reads.append(len(rows)) or batch(self, rows, seed)
    )
    monkeypatch.setattr(data_feed, "AHEAD", 3 * 8 * corpus.length)
    in_order = DataFeed(corpus, 5, 8, first=2, steps=7, **options)
    together = [in_order[i] for i in range(len(in_order))]
    assert sum(reads) == sum(len(item.tokens_BL) for item in together)
    assert len(reads) < len(together)
    for i, item in enumerate(together):
        alone = DataFeed(corpus, 5, 8, first=2, steps=7, **options)[i]
        assert torch.equal(item.tokens_BL, alone.tokens_BL)
        assert item.address.step == alone.address.step


def test_more_threads_than_a_machine_can_use_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"threads=1024: wanted at most \d+ on the \d+ cores here.*type threads=0"):
        resolve(tiny_run(tmp_path, threads=1024))


@pytest.mark.parametrize(
    ("name", "value"), [("base", 7), ("model", "x"), ("regime", None), ("budget", [1]), ("out", 3), ("init", 1.5)]
)
def test_a_value_of_another_type_is_named(tmp_path, name, value):
    with pytest.raises(ValueError, match=rf"^{name}: wanted .*, got {value!r}".replace("[", r"\[")):
        tiny_run(tmp_path, **{name: value})


@pytest.mark.parametrize("every", [1, 100])
def test_a_base_model_that_diverges_is_not_kept_and_its_rate_is_named(tmp_path, every):
    """Seen at a logged step, or where none is logged in the weights at the end."""
    budget = dataclasses.replace(BUDGET, every=every)
    run = resolve(tiny_run(tmp_path, base=Stage(Autoregressive(), lr=1e30, warmup=0), budget=budget))
    for use in (base_weights, train):
        with pytest.raises(RunError, match=r"base model, step \d+: .*diverged; type a smaller base.lr than 1e\+30"):
            use(run, QUIET)
    assert json.loads((run.folder / "manifest.json").read_text())["status"] == "failed"
    assert [path.suffix for path in (tmp_path / "base").iterdir()] == [".lock"]


def test_a_base_model_of_no_numbers_that_was_kept_before_is_trained_again(tmp_path):
    from ablate.core.storage import digest
    from ablate.training.base_model import BaseModel, _write, base_key

    run = resolve(tiny_run(tmp_path))
    good = base_weights(run, QUIET)
    key = base_key(run)
    bad = BaseModel({name: x * float("nan") for name, x in good.items()})
    _write(tmp_path / "base" / digest(key)[:16], bad, key, 1)
    again = base_weights(run, QUIET)
    assert all(torch.equal(again[name], good[name]) for name in good)
