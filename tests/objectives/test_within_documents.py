"""What training, probes and runs make of documents: what is unscored, what each token counts, what is refused."""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from ablate.analysis.gradient_variance import gradient_sums, scored_share
from ablate.core import records
from ablate.core.corpus import SPLITS, Domain, Query, Split, Vocabulary, documents, unscored
from ablate.decoding.predictor import Predictor
from ablate.evaluation.probe import Probe
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import score
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import Regime, Stage
from ablate.studies.control import _supervised
from ablate.training.budget import Budget
from ablate.training.data_feed import Batch, DataFeed
from ablate.training.lightning_module import TrainingModule
from ablate.training.resolution import resolve
from ablate.training.train import train
from tests.builders import MASK, address, network, tiny_run

END, L = 7, 12
UNBIASED = [
    Autoregressive(),
    Autoregressive("anticausal"),
    Autoregressive(loss_share=0.5),
    Autoregressive(input_mask=0.3),
    *(MaskedDiffusion(attention, shift) for attention in ("causal", "full", "anticausal") for shift in (True, False)),
    MaskedDiffusion(mask_sampling="count"),
    *(BlockDiffusion(5, shift=shift, draws=draws) for shift in (True, False) for draws in (1, 2)),
    BlockDiffusion(5, mask_sampling="count", shift=True),
    BlockDiffusion(5, guard="force", weight="1/q"),
    BlockDiffusion(5, guard="resample", weight="1/q", shift=True),
    BlockDiffusion(5, guard="complementary", t_per="sequence"),
]
REFUSED = [
    MaskedDiffusion(mask_sampling="suffix"),
    MaskedDiffusion(denominator="masked"),
    BlockDiffusion(mask_sampling="suffix"),
    BlockDiffusion(denominator="sequence"),
    BlockDiffusion(weight="1/realised"),
]
WINDOW = torch.tensor([1, 2, 3, END, 4, 5, 6, 1, END, END, 2, 3])


@dataclass
class Packed:
    """Windows of random documents: END after any token, with probability 1/4."""

    name: ClassVar[str] = "packed"
    splits: ClassVar[tuple[Split, ...]] = SPLITS
    domain: Domain = Domain.new
    split: Split = Split.train
    length: int = L
    document_mask: bool = True

    oracle: ClassVar[None] = None
    empirical: ClassVar[None] = None

    @property
    def vocabulary(self):
        size = tuple(0 if i in (END, MASK) else 1 + i % 3 for i in range(12))
        return Vocabulary(tuple("abcdefg|hijM"), MASK, size, boundary=END if self.document_mask else None)

    def batch(self, indices, seed):
        rows = [np.random.default_rng([seed, i, self.domain == Domain.new]) for i in indices]
        drawn = [np.where(r.random(L) < 0.25, END, r.integers(0, 7, L)) for r in rows]
        return torch.from_numpy(np.stack(drawn))

    def queries(self, n, seed):
        tokens_BL = self.batch(range(n), seed + 1)
        tokens_BL[:, -2] = 1  # so that the last token is never unscored
        answer_BL = (torch.arange(L) >= L - 4) & ~unscored(tokens_BL, END)
        return Query(tokens_BL, answer_BL, lambda decoded: (decoded == tokens_BL).double().mean(1))

    def stale(self, n, seed):
        return None

    def fingerprint(self):
        return "packed"


def name(o):
    return f"{o.label}, {dataclasses.astuple(o)}"


def posed(objective, tokens_BL, at):
    return objective.pose(tokens_BL, at, Vocabulary.unnamed(MASK + 1, boundary=END))


@pytest.mark.parametrize("objective", UNBIASED, ids=name)
def test_every_token_that_is_not_given_counts_one(objective):
    count = 40_000
    tokens_BL = WINDOW.repeat(count, 1)
    problem = posed(objective, tokens_BL, address(count))
    weight_BL = problem.weight_RL.reshape(-1, count, L).sum(0)
    number_L, mean_L = documents(WINDOW[None], END)[0], torch.zeros(L)
    for number in number_L.unique():  # from outputs to the tokens that they predict
        here = number_L == number
        mean_L[here] = weight_BL.mean(0)[here].roll(-objective.offset)
    error = float(weight_BL.std(0).max()) / math.sqrt(count)
    unscored_L = unscored(WINDOW[None], END)[0]
    assert (mean_L[unscored_L] == 0).all()
    assert (mean_L[~unscored_L] - 1).abs().max() < 5 * error + 1e-5
    assert error < 0.1


@pytest.mark.parametrize(
    "objective",
    [
        MaskedDiffusion(shift=False),
        MaskedDiffusion(mask_sampling="count", shift=False),
        BlockDiffusion(L),
        BlockDiffusion(L, mask_sampling="count"),
    ],
    ids=name,
)
def test_the_bound_stays_exact(objective):
    """Of the m tokens that are not unscored, a token is asked beside k - 1 hidden ones with weight 1/m in the mean, for
    every k: what random orders of these m alone would do."""
    count = 100_000
    problem = posed(objective, WINDOW.repeat(count, 1), address(count))
    weight_BL, hidden_BL = problem.weight_RL[:count], problem.inputs_RL[:count] == MASK
    asked_L = ~unscored(WINDOW[None], END)[0]
    assert not hidden_BL[:, ~asked_L].any()
    m = int(asked_L.sum())
    for k in range(1, m + 1):
        found_L = (weight_BL * (hidden_BL.sum(1) == k)[:, None]).mean(0)[asked_L]
        assert found_L.mean() == pytest.approx(1 / m, abs=0.1 / m)


@pytest.mark.parametrize("objective", [*UNBIASED, BlockDiffusion(5, guard="force"), *REFUSED], ids=name)
def test_no_scored_token_is_predicted_across_a_boundary(objective):
    tokens_BL = Packed().batch(range(64), 0)
    numbers_BL = documents(tokens_BL, END)
    problem = posed(objective, tokens_BL, address(64))
    copies = len(problem.targets_RL) // 64
    for r, o in (problem.weight_RL > 0).nonzero().tolist():
        number_L = numbers_BL[r % 64].tolist()
        here = [i for i in range(L) if number_L[i] == number_L[o]]
        i = here[(here.index(o) - objective.offset) % len(here)]
        assert problem.targets_RL[r, o] == tokens_BL[r % 64, i]
        assert i != here[0], "given"
    unscored_RL = unscored(tokens_BL, END).repeat(copies, 1)
    assert torch.equal(problem.inputs_RL[unscored_RL], tokens_BL.repeat(copies, 1)[unscored_RL])


@pytest.mark.parametrize("objective", [*UNBIASED, *REFUSED], ids=name)
def test_a_boundary_that_never_comes_changes_nothing(objective):
    """Windows of one document each: targets and weights that are scattered to outputs are those that are rolled."""
    tokens_BL = Packed().batch(range(4), 0)
    tokens_BL[tokens_BL == END] = 3
    whole, limited = (
        objective.pose(tokens_BL, address(4), Vocabulary.unnamed(MASK + 1, boundary=boundary))
        for boundary in (None, END)
    )
    assert limited.documents_BL is not None
    for field in ("inputs_RL", "targets_RL", "weight_RL"):
        assert torch.equal(getattr(whole, field), getattr(limited, field))


def test_loss_of_ar_is_that_of_documents_alone():
    """Documents one by one, each at the start of a window of its own; divided by all tokens that are not given."""
    corpus, net = Packed(), network(4.0)
    batch = DataFeed(corpus, 3, 8, 1, 0, 1)[0]
    nats, scored = 0.0, 0
    for tokens_L, number_L in zip(batch.tokens_BL, documents(batch.tokens_BL, END), strict=True):
        for number in number_L.unique():
            alone_1L = tokens_L[number_L == number][None]
            logits = net(alone_1L, Autoregressive().reading)[0, :-1]
            nats += float(F.cross_entropy(logits, alone_1L[0, 1:], reduction="sum")) if len(logits) else 0.0
            scored += len(logits)
    assert batch.scorable == scored < 8 * (L - 1)
    assert float(learned(Autoregressive(), net, batch)) == pytest.approx(nats / scored, rel=1e-5)


def test_what_can_be_scored_is_counted_once_a_step_and_alike_in_every_micro_batch(monkeypatch):
    corpus, asked = Packed(), []
    plain = Packed.batch
    monkeypatch.setattr(Packed, "batch", lambda self, rows, seed: (asked.append(len(rows)), plain(self, rows, seed))[1])
    feed = DataFeed(corpus, 3, 8, 4, 5, 2)
    counts = [feed[i].scorable for i in range(len(feed))]
    assert asked == [16, 8, 8]  # all micro-batches at once, and each step as a whole to be counted
    assert counts == [DataFeed(corpus, 3, 8, 1, 5, 2)[step].scorable for step in (0, 1) for _ in range(4)]


class Trainer:
    """As much of Lightning's as a step reads."""

    global_step, world_size, accumulate_grad_batches = 0, 1, 1


def learned(objective, net, batch: Batch):
    learner = TrainingModule(net, [Stage(objective)], 1, 0, Packed().vocabulary)
    learner.trainer = trainer = Trainer()
    loss = learner.training_step([batch], 0)
    assert trainer.world_size == 1
    return loss


@pytest.mark.parametrize("objective", UNBIASED, ids=name)
@pytest.mark.parametrize("parts", [2, 8])
def test_micro_batches_of_ragged_windows_add_up(objective, parts):
    net, found = network(4.0), []
    for accumulate in (1, parts):
        net.zero_grad()
        feed = DataFeed(Packed(), 1, 8, accumulate, 3, 1)
        losses = [learned(objective, net, feed[i]) for i in range(accumulate)]
        sum(losses).backward()
        found.append((float(sum(losses)), torch.cat([p.grad.flatten() for p in net.parameters()])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5, rtol=1e-4)


def test_probes_ask_for_nothing_that_is_given():
    corpus, predict = Packed(), Predictor(network(4.0), Autoregressive(), END)
    probe_set = Probe(Domain.new, Split.train, (1, 4), contexts=16, bounds=(3,)).prepare(corpus, 0)
    tokens_BL = corpus.queries(16, 0).tokens_BL
    unscored_BL = unscored(tokens_BL, END)
    for one in probe_set.context_sets:
        hidden_BL = one.contexts.inputs_BL == MASK
        assert not (one.contexts.weight_BL > 0)[unscored_BL].any()
        assert not one.scored_BL[unscored_BL].any()
        for hidden_L, unscored_L in zip(hidden_BL.tolist(), unscored_BL.tolist(), strict=True):
            scored = 0
            for i in range(1, L):  # hidden exactly where what is scored last before it is hidden
                if unscored_L[i]:
                    assert hidden_L[i] == hidden_L[scored]
                else:
                    scored = i
    bits = {
        r["contexts"]: r["value"]
        for r in probe_set.measure(predict, left_to_right=True)
        if r["metric"] == "bits_per_byte"
    }
    logp_BL = predict(tokens_BL).gather(-1, tokens_BL[..., None])[..., 0]
    held = torch.tensor(corpus.vocabulary.bytes_V)[tokens_BL][~unscored_BL].sum()
    assert bits["ar"] == pytest.approx(-float(logp_BL[~unscored_BL].sum()) / math.log(2) / int(held), rel=1e-5)


def test_contexts_count_windows_by_their_scored_tokens():
    """With a model for which every token costs what its place says, the mean over contexts is that over tokens."""
    corpus = Packed()
    probe_set = Probe(Domain.new, Split.train, (1,), contexts=4000, bounds=()).prepare(corpus, 0)
    (one,) = (s for s in probe_set.context_sets if s.name == "ar")
    costs_BL = documents(one.contexts.targets_BL, END).double()
    found, wanted = one.contexts.mean(costs_BL), float(costs_BL[one.scored_BL].mean())
    assert found == pytest.approx(wanted, abs=5 * float(costs_BL.std()) / math.sqrt(4000))


def make(tmp_path, objective, **changes):
    regime = Regime("other", [Stage(Autoregressive(), 0.5, warmup=1), Stage(objective, 0.5, warmup=1)])
    budget = Budget(base_tokens=96, tokens=400, evaluations=1, questions=2, contexts=4, every=1, block_sizes=[1, 4])
    return tiny_run(tmp_path, **{"corpus": Packed(), "regime": regime, "budget": budget} | changes)


@pytest.mark.parametrize("objective", REFUSED, ids=name)
def test_objectives_of_whole_windows_are_refused(tmp_path, objective):
    with pytest.raises(ValueError, match=r"regime.stages.1.objective.(mask_sampling|denominator|weight)=.*documents"):
        resolve(make(tmp_path, objective))
    with pytest.raises(ValueError, match=r"base.objective"):
        resolve(make(tmp_path, MaskedDiffusion(), base=Stage(objective)))
    resolve(make(tmp_path, objective, corpus=Packed(document_mask=False)))


@pytest.mark.parametrize("objective", UNBIASED, ids=name)
def test_the_others_are_not(tmp_path, objective):
    resolve(make(tmp_path, objective))


@pytest.mark.parametrize("objective", [MaskedDiffusion(), BlockDiffusion(4, shift=True)], ids=name)
def test_a_run_on_documents_trains_and_measures(tmp_path, objective):
    run = make(tmp_path, objective)
    rows_ = records.read(train(run, Console(quiet=True)))
    assert {"loss", "bits_per_byte", "score"} <= set(rows_["metric"])
    assert np.isfinite(rows_["value"]).all()


def test_what_is_supervised_is_counted_within_documents(tmp_path):
    corpus, run = Packed(), make(tmp_path, MaskedDiffusion())
    scorable = float((~unscored(corpus.batch(range(256), 0), END)).sum()) / 256
    assert _supervised(run, run.regime.stages[0], 2) == pytest.approx(scorable)
    assert scored_share(Autoregressive(), corpus, 0, 16) == 1


def test_noise_of_gradients_is_that_of_the_loss_within_documents():
    corpus, net = Packed(), network(4.0)
    _, losses = gradient_sums(net, Autoregressive(), corpus, 0, 6, 2, 2)
    tokens_BL = corpus.batch(range(6), 0)
    whole = score(net, posed(Autoregressive(), tokens_BL, address(6)), int((~unscored(tokens_BL, END)).sum())).loss
    assert float(np.sqrt(losses.gram_XX.mean())) == pytest.approx(float(whole), rel=1e-5)
