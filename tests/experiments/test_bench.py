"""The benchmarks compare what they say they compare."""

import importlib.util
import io
import json
import math
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
from rich.console import Console

from ablate.model.attention import CAUSAL, FULL, Attention, Pattern
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer, initialise
from ablate.training.resolution import resolve
from experiments import bench
from experiments.benchmarks import llama_peer, oracle_speed, run_speed, step_profile, step_speed, study_speed
from experiments.cli import compose, run_command
from experiments.study import STUDY
from experiments.study_runner import plan_runs

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None or int(version("transformers").partition(".")[0]) < 5,
    reason="needs transformers 5: its Llama reads both sides without a mask",
)


def network():
    """Random weights, norm gains included, large enough that a wrong place would show in the logits."""
    net = Transformer(ModelConfig(32, 2, 4, 2, rope_theta=500.0), 20, mask_id=19)
    initialise(net, 0)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(8) if p.dim() > 1 else p.add_(0.5 * torch.rand(p.shape, generator=rng))
    return net


@needs_transformers
@pytest.mark.parametrize("pattern", [CAUSAL, FULL, Pattern(Attention.block, 4, 1)], ids=str)
def test_same_network_as_transformers(pattern):
    net = network()
    forward = llama_peer.llama_forward(llama_peer.llama_of(net))
    tokens = step_speed.tokens(2, 128) % 20
    assert llama_peer.logit_difference(net, forward, pattern, tokens) < step_speed.TOLERANCE


@needs_transformers
def test_a_difference_would_be_seen():
    net, other = network(), FULL
    llama = llama_peer.llama_of(net)
    blind = llama_peer.llama_forward(llama)
    tokens = step_speed.tokens(2, 128) % 20
    wrong_pattern = llama_peer.logit_difference(net, lambda x, _: blind(x, CAUSAL), other, tokens)
    with torch.no_grad():
        layer = llama.model.layers[0].self_attn
        layer.q_proj.weight.copy_(layer.q_proj.weight.roll(1, 0))
    wrong_rotation = llama_peer.logit_difference(net, blind, other, tokens)
    assert min(wrong_pattern, wrong_rotation) > 100 * step_speed.TOLERANCE


@needs_transformers
def test_equal_parameters_and_mask_logit():
    ours = step_speed.ours()
    llama = llama_peer.llama_of(ours)
    assert run_speed.parameters(ours) == run_speed.parameters(llama) == 922_752
    assert llama.config._attn_implementation == "sdpa"
    assert next(llama.parameters()).dtype == torch.float32
    logits = ours(step_speed.tokens(1, 128), CAUSAL)
    assert bool((logits[..., step_speed.MASK] == -math.inf).all())


def test_step_without_transformers_says_what_to_type(monkeypatch, capsys):
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    assert bench.main(["step", "--quick"]) == 2
    assert "type pip install 'transformers>=5'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["step", "--threads", "0"], ["run", "--threads", "x"], ["oracle", "--rounds", "0"], []]
)
def test_bad_arguments_exit_with_2(arguments):
    with pytest.raises(SystemExit) as stopped:
        bench.main(arguments)
    assert stopped.value.code == 2


def test_bare_loop_and_lightning_loop_do_the_same_steps():
    """Both end at the same weights once the warmup of the learning rate, which the bare loop has not, is taken out."""
    from ablate.training.networks import build_network

    job = run_speed.default_job()
    for stage in job.regime.stages:
        stage.warmup = 0
    ends = []
    for loop in (run_speed.through_lightning, run_speed.bare):
        net = build_network(job)
        loop(job, net, 4)
        ends.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    torch.testing.assert_close(*ends)


def test_the_job_takes_the_threads_that_a_run_takes(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    job = run_speed.default_job()
    assert job == resolve(compose.jobs(run_command.RUN, ["device=cpu"])[0])
    assert job.threads < 64  # by the size of its steps, not every core
    assert run_speed.default_job(7).threads == 7


def test_quick_run_writes_every_number(tmp_path, monkeypatch, capsys):
    """With two steps a turn and without new processes, which is what takes its time."""
    path, threads = tmp_path / "run.json", torch.get_num_threads()
    monkeypatch.setattr(bench, "in_fresh_process", lambda overhead, *_: overhead(2, 2, threads))
    monkeypatch.setattr(run_speed, "answers", lambda *_: {"first_step_seconds": [9.0], "help_seconds": [1.0]})
    assert bench.main(["run", "--quick", "--out", str(path)]) == 0
    result = json.loads(path.read_text())
    assert result["benchmark"] == "run"
    assert result["job"]["threads"] == threads
    assert len(result["seconds"]["bare"]) == 2
    said = capsys.readouterr().out
    assert "9.00 (9.00-9.00)" in said
    assert "missed" in said


@pytest.mark.slow
@needs_transformers
def test_small_step_race_from_command_to_file(tmp_path, monkeypatch, capsys):
    """The command with few tokens, no compiler and no new process; the slow test below has them."""
    path, threads = tmp_path / "step.json", torch.get_num_threads()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # the race sets it; put back afterwards
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    monkeypatch.setattr(bench, "in_fresh_process", lambda race, name, _, *numbers: race(name, threads, *numbers))
    monkeypatch.setattr(step_speed, "SIDE", 64)
    small = {name: replace(course, batch=2, length=16) for name, course in step_speed.COURSES.items()}
    monkeypatch.setattr(step_speed, "COURSES", small)
    assert bench.main(["step", "--quick", "--threads", "1", "--out", str(path)]) == 0
    races = json.loads(path.read_text())["races"]
    assert [race["objective"] for race in races] == ["AR", "masked", "block-128", "block-512"]
    twice = {c["network"]: c for c in races[-1]["contestants"]}["ours, 2 draws"]
    assert twice["scored_per_second"]["median"] > twice["tokens_per_second"]["median"], "half of each copy"
    assert all(len(c["seconds_per_step"]) == 2 for race in races for c in race["contestants"])
    assert "ours, compiled" in capsys.readouterr().out


def test_table_of_steps_fits_a_terminal():
    spread = {"lower_quartile": 110_000, "median": 120_000, "upper_quartile": 130_000}
    contestant = {
        "network": "ours, compiled",
        "precision": "bf16",
        "attention": "matmul",
        "parameters": 922_752,
        "tokens_per_second": spread,
        "speed_over_peer": {k: v / 1e5 for k, v in spread.items()},
        "scored_per_second": spread,
        "share_of_matmul_peak": 0.5,
        "first_step_seconds": 22.2,
    }
    race = {
        "objective": "masked",
        "threads": 1,
        "largest_logit_difference_fp32": 1e-6,
        "matmul_peak_flops_per_second": {"bf16": 1e11},
        "contestants": [contestant],
    }
    screen = Console(file=io.StringIO(), width=96)
    screen.print(step_speed.table([race]))
    line = next(x for x in screen.file.getvalue().splitlines() if "compiled" in x)
    assert " ".join(line.split()) == "ours, compiled (bf16) 120.0 (110.0-130.0) 1.20 (1.10-1.30) 120.0 50% 22.2"
    assert "bf16 100" in step_speed.notes([race])


def test_small_oracle_race_from_command_to_file(tmp_path, monkeypatch, capsys):
    """Every world with a posterior of a few sequences, one number of threads twice, and 3,000 of the million."""
    path, threads = tmp_path / "oracle.json", torch.get_num_threads()
    cases = oracle_speed.CASES
    monkeypatch.setattr(oracle_speed, "SECONDS", 1e-4)
    monkeypatch.setattr(oracle_speed, "CHUNK", 1000)
    monkeypatch.setattr(bench, "in_fresh_process", lambda million, *_: million(3000, threads))
    assert bench.main(["oracle", "--quick", "--million", "--threads", "1", "2", "--out", str(path)]) == 0
    assert torch.get_num_threads() == threads
    result = json.loads(path.read_text())
    assert [(e["threads"], e["world"]) for e in result["worlds"]] == [(n, name) for name in cases for n in (1, 2)]
    for e in result["worlds"]:
        oracle = cases[e["world"]]().oracle
        assert e["rows_per_token"] == oracle.rows / oracle.length
        assert (e["length"], e["vocabulary"]) == (oracle.length, len(oracle.vocabulary))
        assert len(e["wall_seconds"]) == len(e["cpu_seconds"]) == 2
        assert all(min(e[rate].values()) > 0 for rate in ("rows_per_second", "rows_per_cpu_second"))
        ratio = e["rows_per_second"]["median"] / e["tokens_per_second"]["median"]
        assert ratio == pytest.approx(e["rows_per_token"])
    said = capsys.readouterr().out
    assert all(name in said for name in [*cases, "/token", "1000 tok/s", "bits", "MB"])


def test_worlds_of_the_oracle_race_are_the_ones_that_their_names_say():
    corpus = oracle_speed.CASES[oracle_speed.BARE]()
    assert (corpus.length, corpus.oracle.rows) == (25, 100 + 7 * 200 + 2)  # a digit's pairs for each carry in
    assert oracle_speed.CASES["facts people=20000"]().people == 20_000
    assert oracle_speed.CASES["noisy(trace, 0.05)"]().oracle.noise == 0.05


def test_bare_addition_has_the_entropy_that_its_oracle_says(monkeypatch):
    """The sums of all chunks, a ragged last one included, against one posterior of all contexts."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(oracle_speed, "CHUNK", 64)
    found = oracle_speed.million(150, threads)
    corpus = oracle_speed.CASES[oracle_speed.BARE]()
    tokens = oracle_speed.contexts(corpus, 0, 150)
    exact, hidden = corpus.oracle.posterior(tokens), tokens == corpus.vocabulary.mask_id
    bits = -(exact.p_BLV * exact.p_BLV.where(exact.support_BLV, torch.ones(())).log2()).sum(-1)
    assert found["hidden_tokens"] == int(hidden.sum())
    assert found["mean_entropy_bits"] == pytest.approx(float(bits[hidden].mean()))
    assert found["mean_support"] == pytest.approx(float(exact.support_BLV.sum(-1)[hidden].double().mean()))
    assert 0 < found["posterior_seconds"] < found["seconds"]


def test_contexts_hide_half_of_the_tokens_and_whole_ranges_of_shares():
    """t ~ U(0, 1) for each sequence: the share hidden has mean 1/2 and variance 1/12 + 1/(6 L)."""
    corpus, n = oracle_speed.CASES["trace"](), 4000
    tokens = oracle_speed.contexts(corpus, 0, n)
    share = (tokens == corpus.vocabulary.mask_id).double().mean(1)
    variance = 1 / 12 + 1 / (6 * corpus.length)
    assert abs(float(share.mean()) - 0.5) < 4 * math.sqrt(variance / n)
    assert abs(float(share.var()) / variance - 1) < 4 * math.sqrt(2 / n)  # a flat law's kurtosis is below a normal's
    assert torch.equal(oracle_speed.contexts(corpus, 7, 5), tokens[7:12])


def test_table_of_oracles_fits_a_terminal():
    spread = {"lower_quartile": 1_110_000, "median": 1_220_000, "upper_quartile": 1_330_000}
    entry = {
        "world": oracle_speed.BARE,
        "threads": 2,
        "length": 25,
        "vocabulary": 295,
        "rows_per_sequence": 148320,
        "rows_per_token": 60.08,
        "tokens_per_second": spread,
        "rows_per_second": {"median": 1.286e8},
        "rows_per_cpu_second": {"median": 9.26e7},
    }
    screen = Console(file=io.StringIO(), width=80)
    screen.print(oracle_speed.table([entry]))
    line = next(x for x in screen.file.getvalue().splitlines() if "bare" in x)
    assert " ".join(line.split()) == "bare addition, 8 digits 25 295 148320 60 128.6 92.6 1220 (1110-1330)"
    assert "met" in oracle_speed.notes([entry])
    slow = entry | {"tokens_per_second": {name: value / 2 for name, value in spread.items()}}
    assert "missed" in oracle_speed.notes([slow])


@needs_transformers
@pytest.mark.slow
def test_quick_step_writes_every_number(tmp_path):
    path = tmp_path / "step.json"
    assert bench.main(["step", "--quick", "--threads", "1", "--only", "masked", "--out", str(path)]) == 0
    result = json.loads(path.read_text())
    assert [race["objective"] for race in result["races"]] == ["masked"]
    for race in result["races"]:
        peer, *ours = race["contestants"]
        assert peer["speed_over_peer"]["median"] == 1
        assert all(abs(c["first_loss_nats"] - peer["first_loss_nats"]) < 0.05 for c in ours)
        assert all(0 < c["share_of_matmul_peak"] < 1 for c in race["contestants"])


STUDY_FILE = {
    "machine": {"processor": "one", "cores": 2, "instructions": "AVX2"},
    "ways": {},
    "throughput": {study_speed.WAYS[2]: {"median": 3.0}},
    "steps": [
        {"length": 13, "seeds": 1, "compiled": False, "times_one": 1.0},
        {"length": 13, "seeds": 8, "compiled": True, "times_one": 2.0},
    ],
}


@pytest.mark.parametrize(
    ("processor", "factor", "code", "said"),
    [("one", 0.91, 0, "0.91"), ("one", 0.89, 1, "0.89 fell"), ("other", 0.5, 0, "reported alone")],
)
def test_guard_fails_where_a_ratio_fell_on_the_same_processor(tmp_path, capsys, processor, factor, code, said):
    now = json.loads(json.dumps(STUDY_FILE))
    now["machine"]["processor"] = processor
    now["steps"][1]["times_one"] *= factor
    (tmp_path / "now.json").write_text(json.dumps(now))
    (tmp_path / "before.json").write_text(json.dumps(STUDY_FILE))
    assert bench.main(["guard", str(tmp_path / "now.json"), str(tmp_path / "before.json")]) == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"throughput": 1}'])
def test_guard_takes_files_of_bench_study_alone(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "now.json").write_text(content)
    assert bench.main(["guard", str(tmp_path / "now.json")]) == 2
    assert "wanted a file of bench.py study" in capsys.readouterr().err


def test_the_study_that_is_timed_has_the_runs_that_are_timed_one_by_one(tmp_path):
    """The same seeds, settings and arms, but for where they lie."""
    contest = study_speed.Contest(2, ("budget.tokens=4000",))
    run_command.RUN.register()
    one_by_one = [compose.jobs(run_command.RUN, words[3:])[0] for words in contest.commands(tmp_path)]
    STUDY.register()
    (assignment,) = compose.jobs(STUDY, contest.command(tmp_path)[3:])
    planned = plan_runs.plan(assignment)
    assert len(one_by_one) == contest.runs == len(planned.runs)
    assert {resolve(run).label for run in one_by_one} == {run.label for run in planned.runs.values()}


@pytest.mark.slow
def test_a_packed_loop_takes_the_steps_of_each_seed():
    alone, both = step_profile.Loop.of(5, 1, False), step_profile.Loop.of(5, 2, False)
    for loop in (alone, both):
        for _ in range(3):
            loop.step()
    for name, value in alone.network.named_parameters():
        torch.testing.assert_close(both.network.get_parameter(name)[0], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_shares_of_a_step_are_of_all_its_time():
    found = step_profile.shares(5, 1, False, "bidllm", 2)
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert {"products", "data", "noise", "Python"} <= found["shares"].keys()
    assert 0 < found["probes"] < 1
    assert found["shares"]["products"] > found["shares"]["data"]
