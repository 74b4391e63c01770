"""Decoding, contexts and probes, with the brute-force oracle as the model."""

import contextlib
import math
from dataclasses import replace

import pytest
import torch

import synthetic_data
from ablate.core.blocks import Grid, answer_blocks
from ablate.core.corpus import Domain, Split
from ablate.decoding.predictor import Predictor
from ablate.evaluation.contexts import Blocks
from ablate.evaluation.probe import Probe
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.masked_diffusion import MaskedDiffusion
from tests.builders import ONE_LAYER, network
from tests.synthetic_data.enumeration import BruteModel

SMALL = {"values": 3, "general_operators": 3, "new_operators": 4, "operations": 3, "checksum": 3}
PROBE = Probe(Domain.new, Split.train, block_sizes=(1, 2, 32), questions=8, contexts=24)


@pytest.fixture
def corpus():
    return synthetic_data.make("trace", **SMALL)


def values(rows, metric):
    return {(r["contexts"], r["block_size"]): r["value"] for r in rows if r["metric"] == metric}


def test_the_oracle_scores_one_and_has_no_gap(corpus):
    rows = PROBE.measure(BruteModel(corpus), corpus, seed=0)
    assert set(values(rows, "score").values()) == {1.0}
    gaps = values(rows, "excess_bits")
    bounds = {("bound", size) for size in PROBE.bounds if size < corpus.length - 1}
    assert set(gaps) == {("ar", None), ("random", None), ("block", 1), ("block", 2), ("block", 32)} | bounds
    assert bounds
    assert max(map(abs, gaps.values())) < 1e-9


def test_whole_sequences_are_asked_where_training_shows_their_law(corpus):
    """On a test split the held-out rule itself would count as ignorance: a perfect learner of the training law gives
    held-out programs probability 0."""
    held_out = synthetic_data.make("trace", split="test", **SMALL)
    laws = {r["contexts"] for r in Probe(Domain.new, Split.test, (1, 2)).measure(BruteModel(held_out), held_out, 0)}
    assert laws == {"decode", "block"}
    tokens = held_out.queries(4, seed=0).tokens_BL.clone()
    tokens[:, held_out.operations] = held_out.vocabulary.mask_id  # the last operator
    true = held_out.queries(4, seed=0).tokens_BL[:, held_out.operations]
    seen = corpus.oracle.posterior(tokens.masked_fill(held_out.queries(4, seed=0).answer_BL, corpus.vocabulary.mask_id))
    assert (seen.p_BLV[range(4), held_out.operations, true] == 0).all()


@pytest.mark.parametrize("model", ["oracle", "uniform"])
def test_questions_average_to_the_whole(model, corpus):
    """Every question asks for as many tokens, so the mean over questions is the mean over tokens; an oracle has 0."""
    probe = replace(PROBE, by_question=True)
    length = len(corpus.vocabulary)
    predict = {
        "oracle": BruteModel(corpus),
        "uniform": lambda tokens: torch.full((*tokens.shape, length), -math.log(length)),
    }[model]
    rows = probe.measure(predict, corpus, seed=0)
    parts = [r for r in rows if r["metric"] == "question_bits"]
    assert [r["question"] for r in parts] == list(range(probe.contexts))
    assert {(r["contexts"], r["block_size"]) for r in parts} == {("block", 1)}
    whole = values(rows, "excess_bits")["block", 1]
    assert sum(r["value"] for r in parts) / len(parts) == pytest.approx(whole, abs=1e-9)
    assert (whole > 0.1) == (model == "uniform")
    others = [r for r in rows if r["metric"] != "question_bits"]
    assert others == PROBE.measure(predict, corpus, seed=0), "nothing else changes"


def test_a_uniform_guess_has_the_gap_that_it_must(corpus):
    """On determined answers (block size 1) guessing among V symbols is log2 V bits above the oracle."""
    v = len(corpus.vocabulary)
    rows = PROBE.measure(lambda tokens: torch.full((*tokens.shape, v), -math.log(v)), corpus, seed=0)
    assert values(rows, "excess_bits")["block", 1] == pytest.approx(math.log2(v))


def test_bits_are_excess_above_the_entropy(corpus):
    """Bits and excess bits differ by a floor that belongs to the world, whatever the model."""
    v = len(corpus.vocabulary)
    floors = []
    for model in (BruteModel(corpus), lambda t: torch.full((*t.shape, v), -math.log(v))):
        rows = PROBE.measure(model, corpus, seed=0)
        bits, excess = values(rows, "bits"), values(rows, "excess_bits")
        floors.append([bits[k] - excess[k] for k in sorted(bits, key=str)])
    assert floors[0] == pytest.approx(floors[1])


def test_chain_rule_bound_is_the_same_for_every_block_size(corpus):
    """For the oracle, the expected bits of a law's contexts are the entropy per token, whatever the block size."""
    query = corpus.queries(1, seed=0)
    scored = torch.ones_like(query.answer_BL)
    scored[:, 0] = False
    tokens = query.tokens_BL.repeat(6000, 1)
    entropy = -float(corpus.oracle.posterior(query.tokens_BL).log_evidence_B[0]) / (corpus.length - 1)
    for size in (1, 2, corpus.length):
        contexts = Blocks(size).draw(tokens, scored.repeat(6000, 1), corpus.vocabulary.mask_id, seed=0)
        p = corpus.oracle.posterior(contexts.inputs_BL).p_BLV
        nats = -p.gather(-1, tokens[..., None])[..., 0].log()
        per_row = torch.where(contexts.weight_BL > 0, nats * contexts.weight_BL, 0.0).sum(1)
        assert abs(float(per_row.mean()) - entropy) < 5 * float(per_row.std()) / math.sqrt(6000)


@pytest.mark.parametrize("size", [1, 2, 3, 32])
@pytest.mark.parametrize("grid", Grid)
def test_contexts_are_those_of_blockwise_decoding(size, grid):
    tokens = torch.arange(10).repeat(500, 1)
    scored = torch.zeros(500, 10, dtype=torch.bool)
    scored[:, [2, 3, 5, 6, 7, 9]] = True
    contexts = Blocks(size, grid=grid).draw(tokens, scored, mask_id=99, seed=0)
    block = answer_blocks(scored, size, grid)
    hidden = contexts.inputs_BL == 99
    assert (contexts.weight_BL.sum(1) - 1).abs().max() < 1e-12
    assert not (hidden & ~scored).any()
    for b in range(500):
        asked = contexts.weight_BL[b] > 0
        (current,) = set(block[b, asked].tolist())
        assert torch.equal(hidden[b], asked | (block[b] > current))
    counts = contexts.weight_BL.sum(0)[scored[0]] / 500
    assert (counts - 1 / 6).abs().max() < 5 * math.sqrt(1 / 6 / 500), "every scored token is asked equally often"


@pytest.mark.parametrize("objective", [Autoregressive(), MaskedDiffusion(), MaskedDiffusion(shift=False)])
def test_predictions_stand_at_the_token_that_they_predict(objective):
    """predict(i) is a distribution over real tokens, and moves only with what the objective may see of i."""
    net = network(5.0)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    logp = Predictor(net, objective)(tokens)
    assert torch.allclose(logp[:, 1:].exp().sum(-1), torch.ones(1, 5), atol=1e-5)
    assert (logp[:, 1:, 11] == -math.inf).all()
    other = tokens.clone()
    other[0, 3] = 9
    moved = (Predictor(net, objective)(other) - logp)[0, 1:, :11].abs().sum(-1) > 0
    left_only = isinstance(objective, Autoregressive)
    assert moved.tolist() == ([False] * 3 + [True] * 2 if left_only else [True] * 5)


def test_left_to_right_bits_are_exact():
    """Sampled AR contexts estimate what one pass over clean tokens gives exactly."""
    corpus = synthetic_data.make("trace", **SMALL)
    v = corpus.vocabulary
    net = network(1.0, v, ONE_LAYER)
    predict = Predictor(net, Autoregressive())
    tokens = corpus.batch([0], seed=0)
    exact = -predict(tokens)[0, range(corpus.length), tokens[0]][1:].mean()
    many = tokens.repeat(corpus.length - 1, 1)
    scored = torch.ones_like(many, dtype=torch.bool)
    scored[:, 0] = False
    contexts = Blocks(1).draw(many, scored, v.mask_id, seed=0)  # strata: every token exactly once
    nats = -predict(contexts.inputs_BL).gather(-1, many[..., None])[..., 0].double()
    assert contexts.mean(nats) == pytest.approx(float(exact), rel=1e-5)


def log_of(oracle):
    return lambda tokens: oracle.posterior(tokens).p_BLV.log()


def measured(corpus, predict, metric):
    rows = Probe(Domain.new, Split.train, (1,), questions=4, contexts=200).measure(predict, corpus, seed=0)
    return {row["contexts"]: row["value"] for row in rows if row["metric"] == metric}


def test_the_oracle_itself_leaves_nothing_to_be_measured():
    corpus = synthetic_data.make("arithmetic", records=2)
    predict = log_of(corpus.oracle)
    for metric in ("excess_bits", "invalid_mass", "kl_within_bits", "calibration_error", "spurious_binding"):
        values = measured(corpus, predict, metric)
        assert values, metric
        assert values == pytest.approx(dict.fromkeys(values, 0), abs=1e-9), metric


def test_a_uniform_guess_on_what_is_possible_fits_the_set_and_not_the_law():
    """Set mass alone would call it perfect."""
    corpus = synthetic_data.make("facts", people=40, split="train")

    def predict(tokens):
        support = corpus.oracle.posterior(tokens).support_BLV.double()
        return (support / support.sum(-1, keepdim=True)).log()

    assert measured(corpus, predict, "invalid_mass")["random"] == pytest.approx(0, abs=1e-12)
    assert measured(corpus, predict, "kl_within_bits")["random"] > 0.01
    excess = measured(corpus, predict, "excess_bits")
    assert excess == pytest.approx(measured(corpus, predict, "kl_within_bits"), abs=1e-9)


@pytest.mark.slow
def test_memorisation_tells_the_list_from_the_law():
    """A model of the list itself is nearer to it than to the law in every context, a model of the law the reverse."""
    corpus = synthetic_data.make("facts", people=40, unique=60)
    law = log_of(corpus.oracle)

    def memory(tokens):
        """What the list shows, with a little of the law; the law where the list is silent."""
        p_BLV = corpus.oracle.posterior(tokens).p_BLV
        for row in range(len(tokens)):
            with contextlib.suppress(ValueError):
                p_BLV[row] = 0.99 * corpus.empirical.posterior(tokens[[row]]).p_BLV[0] + 0.01 * p_BLV[row]
        return p_BLV.log()

    of_memory = measured(corpus, memory, "memorisation_bits")
    assert set(of_memory) == {"ar", "random"}
    assert min(of_memory.values()) > 0.05
    assert max(measured(corpus, law, "memorisation_bits").values()) < -0.05
    assert measured(synthetic_data.make("facts", people=40), law, "memorisation_bits") == {}


def test_a_model_that_believes_stale_bindings_is_found_out():
    corpus = synthetic_data.make("arithmetic", records=2, domain="general")
    stale = corpus.stale(50, seed=0)
    assert (corpus.oracle.posterior(stale.tokens_BL).p_BLV[stale.asked_BL].max(-1).values < 0.3).all()
    z = int(stale.asked_BL[0].nonzero()[0])
    first = z - corpus.length // 2  # the result that the visible bindings imply stands at the same place of record one

    def believer(tokens):
        logp = corpus.oracle.posterior(tokens).p_BLV.clamp_min(1e-9).log()
        implied = (tokens[:, 2] + tokens[:, 6]) % 10  # a=X,b=Y: the digits are their own ids
        logp[:, z] = torch.nn.functional.one_hot(implied, logp.shape[-1]).double().clamp_min(1e-9).log()
        return logp

    assert corpus.vocabulary.symbols[int(stale.tokens_BL[0, first])] == "<mask>"
    assert float(measured(corpus, believer, "spurious_binding")["stale"]) > 1.5  # nats; a full belief is about ln 10


def test_an_oracle_has_the_same_bits_in_blocks_of_every_size(corpus):
    """Chain rule: the unclipped bound is tight for exact conditionals, so its mean is the entropy of the sequence."""
    tokens_BL = corpus.batch(range(3000), seed=7)
    everything_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
    everything_BL[:, 0] = False
    bits = {}
    for size in (1, *PROBE.bounds, corpus.length):
        contexts = Blocks(size).draw(tokens_BL, everything_BL, corpus.vocabulary.mask_id, seed=8)
        exact = corpus.oracle.posterior(contexts.inputs_BL)
        surprise_BL = -exact.p_BLV.gather(-1, tokens_BL[..., None])[..., 0].log2()
        bits[size] = torch.where(contexts.weight_BL > 0, surprise_BL * contexts.weight_BL, 0.0).sum(1)
    for size, bits_B in bits.items():
        difference_B = bits_B - bits[1]
        error = float(difference_B.std()) / math.sqrt(len(difference_B))
        assert abs(float(difference_B.mean())) <= 5 * error + 1e-12, size
    assert float(bits[corpus.length].std()) > 0


@pytest.mark.parametrize("regime", ["ar_to_block", "lowcap", "bidir_suffix", "r2l_ar"])
def test_bits_are_the_unclipped_bound_whatever_was_trained_on(regime, corpus):
    """A probe draws its own contexts, so clip, guard, cap and weights of training cannot reach its bits; and a network
    read under any objective stays at or above the entropy."""
    from experiments.presets.registry import REGIMES

    probe_set = PROBE.prepare(corpus, seed=0)
    v = corpus.vocabulary
    net = network(1.0, v, ONE_LAYER)
    found = {}
    for stage in REGIMES[regime].stages:
        rows = probe_set.measure(Predictor(net, stage.objective))
        bits, excess = values(rows, "bits"), values(rows, "excess_bits")
        assert min(excess.values()) > 0
        entropies = {key: bits[key] - excess[key] for key in bits}
        assert found.setdefault("entropy", entropies) == pytest.approx(entropies, abs=1e-9)
