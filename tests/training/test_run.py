"""A run as a whole: repeatable, resumable, never mixed with another."""

import dataclasses
import io
import json
import multiprocessing
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from tokenizers import Tokenizer, normalizers

import synthetic_data
from ablate.core import records
from ablate.core.corpus import SPLITS, Domain, Split
from ablate.core.manifest import write_manifest
from ablate.core.storage import describe, locked
from ablate.model.config import ModelConfig
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import MaskWarmup, Regime, Stage
from ablate.text.corpora import Text
from ablate.training import checkpoint, progress, run_files
from ablate.training.announcement import announcement
from ablate.training.base_model import base_key, base_weights
from ablate.training.checkpoint import Damaged, load, read_plain, save, weights_hash
from ablate.training.data_feed import DataFeed
from ablate.training.lightning_module import TrainingModule
from ablate.training.pack import packs
from ablate.training.resolution import resolve
from ablate.training.run_manifest import RunError, new_manifest, read_manifest
from ablate.training.train import train
from tests.builders import BUDGET, tiny_run
from tests.text.prose import fill
from tests.text.test_tokenizer import metaspace

QUIET = Console(quiet=True)


def final_weights(run):
    return checkpoint.final_weights(run.folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tiny_run(tmp_path_factory.mktemp("finished"))
    train(run, QUIET)
    return run


def test_leaves_what_it_promises(finished):
    rows = records.read(finished.folder)
    manifest = json.loads((finished.folder / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert {"config_fingerprint", "data", "initial_weights", "code", "packages", "machine"} <= set(manifest)
    assert (finished.folder / "config.yaml").exists()
    first, second = finished.stage_steps
    probed = rows[rows["contexts"] != ""].groupby(["stage", "step"]).size()
    assert {(-1, 0), (0, 0), (0, first), (1, first), (1, first + second)} <= set(probed.index)
    assert probed.nunique() == 1, "every probe is put at every pause"
    assert rows[rows["contexts"].isin(["ar", "random"])]["split"].unique().tolist() == ["train"]
    knowledge = {"question_bits", "bits", "excess_bits", "invalid_mass", "kl_within_bits", "calibration_error"}
    decoding = {"score", "exact", "tokens_a_pass", "left_to_right", "inconsistent"}
    assert set(rows["metric"]) == {"loss", "scored_nats", "grad_norm", "grad_norm_scored"} | decoding | knowledge
    assert (rows.loc[rows["metric"] == "score", "protocol"] != "").all()


def test_counts_tokens_by_objective(finished):
    rows = records.read(finished.folder)
    end = rows[rows["step"] == rows["step"].max()].iloc[0]
    first, second = finished.stage_steps
    length = finished.corpus.length
    assert end["tokens"] == (first + second) * 8 * length
    switch = rows[(rows["step"] == first) & (rows["contexts"] != "")].iloc[0]
    assert switch["loss_tokens"] == first * 8 * (length - 1)
    scored_later = (end["loss_tokens"] - switch["loss_tokens"]) / (second * 8 * (length - 1))
    assert 0.3 < scored_later < 0.7, "diffusion supervises about half of the tokens"
    assert end["flops"] == pytest.approx(finished.flops)


def test_same_seed_same_rows_other_seed_other_rows(finished, tmp_path):
    again = tiny_run(tmp_path)
    train(again, QUIET)
    pd.testing.assert_frame_equal(records.read(again.folder), records.read(finished.folder))
    other = tiny_run(tmp_path, seed=1, out=str(tmp_path / "other"))
    train(other, QUIET)
    assert not records.read(other.folder)["value"].equals(records.read(finished.folder)["value"])


def test_number_of_evaluations_changes_no_weight(finished, tmp_path):
    run = tiny_run(tmp_path, budget=dataclasses.replace(BUDGET, evaluations=5, questions=3, every=1))
    train(run, QUIET)
    assert weights_hash(final_weights(run)) == weights_hash(final_weights(finished))


def test_arms_of_a_seed_share_base_data_order_and_questions(finished, tmp_path):
    """What differs between two arms is the stages alone."""
    arm = tiny_run(tmp_path, regime=Regime("bidllm", [Stage(MaskedDiffusion())]))
    train(arm, QUIET)
    ours, theirs = (json.loads((r.folder / "manifest.json").read_text()) for r in (finished, arm))
    assert ours["initial_weights"] == theirs["initial_weights"]
    assert ours["data"] == theirs["data"]
    base = [records.read(r.folder).query("stage == -1").drop(columns=["run", "regime"]) for r in (finished, arm)]
    pd.testing.assert_frame_equal(*base)
    assert base_key(resolve(finished)) == base_key(resolve(arm))
    assert not torch.equal(*(final_weights(r)["head.weight"] for r in (finished, arm)))


@pytest.fixture(scope="module", params=["reset", "keep"])
def unbroken(request, tmp_path_factory):
    """A finished run with many pauses, so that checkpoints fall inside both stages, and inside a warmup of masks."""
    second = Stage(MaskedDiffusion(), 0.3, warmup=2, optimizer=request.param, mask_warmup=MaskWarmup(share=0.9))
    stages = [Stage(Autoregressive(), 0.7, warmup=2), second]
    budget = dataclasses.replace(BUDGET, evaluations=9)
    run = tiny_run(tmp_path_factory.mktemp("unbroken"), regime=Regime("x", stages), budget=budget)
    train(run, QUIET)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [2, 10, 26, 31])
def test_resuming_is_exact(unbroken, tmp_path, monkeypatch, stop_at):
    """Stopped before the first checkpoint, inside a stage or after the switch: the same rows and weights at the end."""
    run = dataclasses.replace(unbroken, out=str(tmp_path / "run"))
    pauses = run.pauses()
    assert pauses[0] > 2
    assert sum(run.stage_steps) > 31 > max(p for p in pauses if p < 31) > run.stage_steps[0]
    original, count = TrainingModule.training_step, [0]

    def stopping(self, item, i):
        count[0] += 1
        if count[0] == stop_at + 1:
            raise KeyboardInterrupt
        return original(self, item, i)

    monkeypatch.setattr(TrainingModule, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(run, QUIET)
    assert json.loads((run.folder / "manifest.json").read_text())["status"] == "interrupted"
    monkeypatch.undo()
    train(run, QUIET)
    pd.testing.assert_frame_equal(records.read(run.folder), records.read(unbroken.folder))
    assert weights_hash(final_weights(run)) == weights_hash(final_weights(unbroken))
    manifests = [json.loads((r.folder / "manifest.json").read_text()) for r in (run, unbroken)]
    assert manifests[0]["initial_weights"] == manifests[1]["initial_weights"]


@pytest.mark.slow
def test_micro_batches_train_the_same_network(tmp_path):
    """Through Lightning too: its averaging over micro-batches is undone, so losses and gradient norms agree."""
    runs = [tiny_run(tmp_path, accumulate=n, precision="fp32", out=str(tmp_path / f"out{n}")) for n in (1, 4)]
    for run in runs:
        train(run, QUIET)
    ours, theirs = (records.read(r.folder).query("metric in ('loss', 'grad_norm')") for r in runs)
    assert ours["step"].tolist() == theirs["step"].tolist()
    assert ours["value"].tolist() == pytest.approx(theirs["value"].tolist(), rel=1e-4)


@pytest.mark.slow
def test_a_kept_optimizer_state_takes_the_new_stages_settings(tmp_path):
    """Moments carry over; weight decay is the stage's own, so that the recorded field is the one in force."""
    hashes = set()
    for decay in (0.0, 10.0):
        second = Stage(MaskedDiffusion(), 0.3, warmup=2, optimizer="keep", weight_decay=decay)
        regime = Regime("x", [Stage(Autoregressive(), 0.7, warmup=2), second])
        run = tiny_run(tmp_path, regime=regime, out=str(tmp_path / str(decay)))
        train(run, QUIET)
        hashes.add(weights_hash(final_weights(run)))
    assert len(hashes) == 2


def test_a_larger_vocabulary_gives_no_probability_to_tokens_that_do_not_exist(tmp_path):
    run = tiny_run(tmp_path, model=ModelConfig(16, 1, 2, 2, vocabulary=64))
    train(run, QUIET)
    assert records.read(run.folder).query("metric == 'excess_bits'")["value"].between(-1e-9, 50).all()


def test_a_finished_run_says_so_and_changes_nothing(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.folder.rglob("*") if p.is_file() and p.name != ".lock"}
    console = Console(record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    train(finished, console)
    assert "complete already" in console.export_text()
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_folder_holds_one_configuration(finished, tmp_path):
    other = dataclasses.replace(finished, seed=7)
    with pytest.raises(RunError, match=r"got a folder that holds.*type out=PATH"):
        train(other, QUIET)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="other files"):
        train(dataclasses.replace(finished, out=str(foreign)), QUIET)
    assert [p.name for p in foreign.iterdir()] == ["thesis.tex"]


def test_two_processes_do_not_share_a_folder(finished):
    with locked(finished.folder / ".lock"), pytest.raises(RunError, match="another process"):
        train(finished, QUIET)


def test_damage_is_found(finished, tmp_path):
    run = dataclasses.replace(finished, out=str(tmp_path / "copy"))
    shutil.copytree(finished.folder, run.folder)
    whole = checkpoint.latest(run.folder)
    for path in (whole / "__0_0.distcp", whole / "plain.ckpt", whole / "checksums.json"):
        content = bytearray(path.read_bytes())
        content[-10] ^= 1
        path.write_bytes(content)
        with pytest.raises(Damaged):
            checkpoint.check(whole)
        with pytest.raises(RunError, match="damaged content; type the run's own command"):
            final_weights(run)
        content[-10] ^= 1
        path.write_bytes(content)
    checkpoint.check(whole)
    (whole / ".metadata").unlink()
    manifest = json.loads((run.folder / "manifest.json").read_text())
    write_manifest(run.folder, manifest | {"status": "interrupted"})
    shutil.rmtree(checkpoint.checkpoints(whole.parent)[0])
    with pytest.raises(RunError, match=r"damaged content .*; no whole checkpoint is left: delete"):
        train(run, QUIET)
    assert json.loads((run.folder / "manifest.json").read_text())["status"] == "interrupted"
    (run.folder / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="damaged file"):
        read_manifest(resolve(run))
    write_manifest(run.folder, manifest | {"data": {"new/test": [1]}})
    with pytest.raises(RunError, match=r"damaged file \(content.data.new/test: str wanted"):
        read_manifest(resolve(run))


def test_a_foreign_checkpoint_is_refused(finished, tmp_path):
    """Valid, but of another seed: nothing of it may enter this run's records."""
    run, other = (dataclasses.replace(finished, seed=s, out=str(tmp_path / str(s))) for s in (0, 4))
    train(other, QUIET)
    shutil.copytree(finished.folder, run.folder)
    shutil.rmtree(run.folder / "checkpoints")
    shutil.copytree(other.folder / "checkpoints", run.folder / "checkpoints")
    manifest = json.loads((run.folder / "manifest.json").read_text()) | {"status": "interrupted"}
    write_manifest(run.folder, manifest)
    with pytest.raises(RunError, match="got another run's"):
        train(run, QUIET)
    assert json.loads((run.folder / "manifest.json").read_text())["status"] == "interrupted"
    pd.testing.assert_frame_equal(records.read(run.folder), records.read(finished.folder))


def test_a_finished_run_gets_lost_files_back(finished, tmp_path):
    run = dataclasses.replace(finished, out=str(tmp_path / "copy"))
    shutil.copytree(finished.folder, run.folder)
    for name in ("records.parquet", "config.yaml"):
        (run.folder / name).unlink()
    train(run, QUIET)
    pd.testing.assert_frame_equal(records.read(run.folder), records.read(finished.folder))
    assert (run.folder / "config.yaml").exists()


def test_a_finished_run_from_before_protocols_gets_its_records_back(finished, tmp_path, monkeypatch):
    run = dataclasses.replace(finished, out=str(tmp_path / "copy"))
    shutil.copytree(finished.folder, run.folder)
    (run.folder / "records.parquet").unlink()
    new, plain = ("grid", "offset", "order", "pace"), read_plain(resolve(run), checkpoint.final(run.folder))
    once = [row for row in plain["rows"] if (row["order"], row["pace"]) in (("", ""), ("confidence", "tokens:1"))]
    rows = [{key: value for key, value in row.items() if key not in new} for row in once]
    monkeypatch.setattr(run_files, "read_plain", lambda *_: {**plain, "rows": rows})
    train(run, QUIET)
    found, before = records.read(run.folder), records.read(finished.folder)
    same = before[before["order"].isin(["", "confidence"]) & before["pace"].isin(["", "tokens:1"])]
    columns = [name for name in found if name != "offset"]  # which was not known
    pd.testing.assert_frame_equal(found[columns], same[columns].reset_index(drop=True))


def test_divergence_is_an_error_that_names_the_step(tmp_path):
    stages = [Stage(Autoregressive(), 0.7, lr=1e30, warmup=0), Stage(MaskedDiffusion(), 0.3)]
    run = tiny_run(tmp_path, regime=Regime("x", stages))
    with pytest.raises(RunError, match=r"step \d+: loss .*nan.*smaller regime.stages.0.lr than 1e\+30"):
        train(run, QUIET)
    assert json.loads((run.folder / "manifest.json").read_text())["status"] == "failed"


def test_tied_weights_train_and_are_cached(tmp_path):
    run = tiny_run(tmp_path, model=ModelConfig(16, 1, 2, 2, tied=True))
    train(run, QUIET)
    again = base_weights(resolve(run), QUIET)
    assert torch.equal(again["head.weight"], again["embedding.weight"])


def test_a_run_begun_with_other_code_is_not_continued(finished, tmp_path):
    run = dataclasses.replace(finished, out=str(tmp_path / "copy"))
    shutil.copytree(finished.folder, run.folder)
    manifest = json.loads((run.folder / "manifest.json").read_text()) | {"status": "interrupted", "source": "other"}
    write_manifest(run.folder, manifest)
    with pytest.raises(RunError, match="wanted the source that it was begun with"):
        train(run, QUIET)


def test_a_run_stopped_between_its_first_two_files_goes_on(finished, tmp_path):
    run = dataclasses.replace(finished, out=str(tmp_path / "copy"))
    run.folder.mkdir()
    manifest = json.loads((finished.folder / "manifest.json").read_text()) | {"status": "new"}
    write_manifest(run.folder, manifest)
    train(run, QUIET)
    pd.testing.assert_frame_equal(records.read(run.folder), records.read(finished.folder))


def test_where_files_lie_is_no_part_of_the_fingerprint(finished):
    from ablate.text.corpora import PythonSource

    text = dataclasses.replace(finished, corpus=PythonSource(), cache="a", out="b")
    moved = dataclasses.replace(text, corpus=PythonSource(cache="c"), cache="d", out="e")
    assert text.fingerprint() == moved.fingerprint()
    assert text.fingerprint() != dataclasses.replace(text, corpus=PythonSource(length=64)).fingerprint()


def test_what_came_later_or_changes_rounding_alone_leaves_fingerprints_as_they_were(finished):
    """Kept results know their runs by it: a field added since counts only where it is not at its default."""
    one = resolve(finished)
    assert "rope_scaling" not in describe(one.model, whole=False)
    assert "rope_scaling" in describe(one.model)
    for means in ({"processes": 2, "strategy": "ddp"}, {"recompute": "full", "recompute_every": 2}, {"loaders": 3}):
        assert dataclasses.replace(one, **means).fingerprint() == one.fingerprint()
    biased = dataclasses.replace(one, model=dataclasses.replace(one.model, qkv_bias=True))
    assert biased.fingerprint() != one.fingerprint()


def test_base_cache_is_rebuilt_when_damaged_and_apart_when_anything_differs(finished, tmp_path):
    run = resolve(dataclasses.replace(finished, cache=str(tmp_path)))
    clean = base_weights(run, QUIET)
    (folder,) = (p for p in tmp_path.iterdir() if p.is_dir())
    for file in ("model.safetensors", "base.json"):
        content = bytearray((folder / file).read_bytes())
        content[len(content) // 2] ^= 255
        (folder / file).write_bytes(content)
        assert weights_hash(base_weights(run, QUIET)) == weights_hash(clean)
    changes = {
        "seed": 5,
        "batch": 16,
        "threads": 2,
        "model": ModelConfig(16, 2, 2, 2),
        "base": Stage(Autoregressive(), lr=3e-3),
    }
    keys = [json.dumps(base_key(run), sort_keys=True)]
    keys += [json.dumps(base_key(dataclasses.replace(run, **{k: v})), sort_keys=True) for k, v in changes.items()]
    assert len(set(keys)) == len(keys)
    same = dataclasses.replace(run, regime=Regime("x", [Stage(MaskedDiffusion())]), out="elsewhere")
    assert base_key(same) == base_key(run)


def _build(run, queue):
    trained = []
    original = TrainingModule.on_train_batch_start

    def counting(self, batch, index):
        trained.append(index)
        return original(self, batch, index)

    TrainingModule.on_train_batch_start = counting
    queue.put((weights_hash(base_weights(run, QUIET)), bool(trained)))


@pytest.mark.slow
def test_of_two_processes_one_builds_the_base(finished, tmp_path):
    run = resolve(dataclasses.replace(finished, cache=str(tmp_path)))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_build, args=(run, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    (hash_a, built_a), (hash_b, built_b) = (queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    assert hash_a == hash_b
    assert built_a != built_b


@pytest.mark.slow
def test_the_optimizer_state_at_the_switch_is_a_choice(tmp_path):
    hashes = set()
    for state in ("reset", "keep"):
        stages = [Stage(Autoregressive(), 0.7, warmup=2), Stage(MaskedDiffusion(), 0.3, warmup=2, optimizer=state)]
        run = tiny_run(tmp_path, regime=Regime("ar_to_bidllm", stages), out=str(tmp_path / state))
        train(run, QUIET)
        hashes.add(weights_hash(final_weights(run)))
    assert len(hashes) == 2


def test_another_draw_of_the_noise_changes_what_is_masked_and_nothing_else(finished, tmp_path):
    first, second = finished.regime.stages
    stages = [first, dataclasses.replace(second, noise=1)]
    other = dataclasses.replace(finished, regime=Regime(finished.regime.name, stages), out=str(tmp_path / "other"))
    train(other, QUIET)
    ours, theirs = (records.read(run.folder) for run in (finished, other))
    values = [rows[rows["stage"] < 1]["value"].to_numpy() for rows in (ours, theirs)]
    np.testing.assert_array_equal(*values)
    losses = [rows[(rows["stage"] == 1) & (rows["metric"] == "scored_nats")]["value"] for rows in (ours, theirs)]
    assert len(losses[0]) == len(losses[1]) > 0
    assert not np.array_equal(*losses)
    assert len(packs([dataclasses.replace(run, pack=2) for run in (finished, other)])) == 1
    base = dataclasses.replace(finished, base=dataclasses.replace(finished.base, noise=1))
    assert base_key(base) != base_key(finished)

    addresses = [DataFeed(finished.corpus, 3, 4, 1, 0, 2, noise=i)[1] for i in (0, 1, 1)]
    assert all(torch.equal(one.tokens_BL, addresses[0].tokens_BL) for one in addresses)
    posed = [second.objective.pose(one.tokens_BL, one.address, finished.corpus.vocabulary) for one in addresses]
    assert not torch.equal(posed[0].inputs_RL, posed[1].inputs_RL)
    assert torch.equal(posed[1].inputs_RL, posed[2].inputs_RL)


@pytest.mark.slow
def test_two_stages_of_one_objective_that_carry_on_are_one_stage(tmp_path):
    whole = tiny_run(
        tmp_path, regime=Regime("whole", [Stage(MaskedDiffusion(), warmup=2)]), out=str(tmp_path / "whole")
    )
    halves = [Stage(MaskedDiffusion(), 0.7, warmup=2), Stage(MaskedDiffusion(), 0.3, warmup=0, optimizer="keep")]
    split = tiny_run(tmp_path, regime=Regime("split", halves), out=str(tmp_path / "split"))
    for run in (whole, split):
        train(run, QUIET)
    assert weights_hash(final_weights(whole)) == weights_hash(final_weights(split))


def test_stage_steps_fill_the_budget():
    for total in range(1, 200):
        stages = [Stage(Autoregressive(), 100 / 135), Stage(MaskedDiffusion(), 1 - 100 / 135)]
        assert sum(Regime("x", stages).steps(total)) == total
    assert Regime("x", [Stage(Autoregressive(), steps=7), *stages[1:]]).steps(135)[0] == 7


def test_learning_rate_rises_then_follows_its_decay():
    stage = Stage(Autoregressive(), lr=1.0, warmup=4, decay="linear")
    assert [stage.rate(i, 8) for i in range(9)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0])
    cosine = Stage(Autoregressive(), lr=1.0, warmup=0, decay="cosine")
    assert [cosine.rate(i, 4) for i in (0, 2, 4)] == pytest.approx([1, 0.5, 0])
    assert Stage(Autoregressive(), lr=0.5, warmup=0).rate(3, 4) == 0.5


def test_checkpoints_round_trip(tmp_path):
    state = {"a": torch.arange(3.0), "rows": [{"x": 1, "y": None}]}
    save(tmp_path / "c", state)
    back = load(tmp_path / "c")
    assert torch.equal(back["a"], state["a"])
    assert back["rows"] == state["rows"]
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_run_sets_domain_and_split_itself(tmp_path):
    with pytest.raises(ValueError, match="a run sets both itself"):
        tiny_run(tmp_path, corpus=synthetic_data.make("trace", split=Split.test))
    run = tiny_run(tmp_path)
    assert run.corpus_for(Domain.general, Split.test).vocabulary == run.corpus.vocabulary


@pytest.mark.parametrize("terminal", [False, True])
def test_a_log_hears_of_training_and_probes_and_a_terminal_does_not(terminal, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    screen = io.StringIO()
    run = resolve(tiny_run(tmp_path))
    train(run, Console(file=screen, force_terminal=terminal, width=200))
    line = r"stage (\d): .*: step (\d+), loss ([\d.]+), [\d.]+k tok/s, (\d+) steps left of the stage, 0 min"
    steps = re.findall(line, screen.getvalue())
    probes = re.findall(r"step (\d+): probe (\d+) of (\d+), run 1 of 1", screen.getvalue())
    if terminal:
        assert not steps + probes
        return
    assert [int(step) for _, step, _, _ in steps] == list(range(1, sum(run.stage_steps) + 1))
    assert [int(left) for _, _, _, left in steps] == [n for total in run.stage_steps for n in reversed(range(total))]
    rows = records.gather([run.folder])
    logged = rows[rows["metric"] == "loss"].set_index("step")["value"]
    told = {int(step): float(loss) for _, step, loss, _ in steps}
    assert all(told[step] == pytest.approx(loss, abs=6e-4) for step, loss in logged.items())
    asked = int(probes[0][2])
    assert [int(done) for _, done, _ in probes] == list(range(1, asked + 1)) * (len(probes) // asked)


def test_lines_of_a_log_are_apart(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    log = progress.ProgressLog(Console(file=io.StringIO(), force_terminal=False))
    for seconds, due in ((0, False), (29, False), (30, True), (31, True)):
        now[0] = seconds
        assert log.due is due
    log.write("")
    assert not log.due
    now[0] = 61
    assert log.due


def test_tokens_of_real_text_are_named(tmp_path):
    folder = metaspace(tmp_path / "model")
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), own.normalizer])
    own.save(str(folder / "tokenizer.json"))
    new, general = fill(tmp_path / "new", 0), fill(tmp_path / "general", 100)
    text = Text(
        folder=str(new), general=str(general), tokenizer=str(folder), length=16, answer=4, cache=str(tmp_path / "c")
    )
    run = resolve(tiny_run(tmp_path, corpus=text))
    _, line, *_ = announcement([run])
    assert line.startswith(
        f"tokens: MASK '<mask>' ({text.vocabulary.mask_id}); separator '</s>' (1); bits per byte count"
    )
    scales = new_manifest(run)["byte_scale"]
    assert set(scales) == {f"{domain}/{split}" for domain in Domain for split in SPLITS}
    assert all(0.9 < scale < 1 for scale in scales.values())
    low, high = re.findall(r"(0\.\d+)", line)
    assert (float(low), float(high)) == pytest.approx((min(scales.values()), max(scales.values())), rel=1e-5)


def test_what_is_legal_and_seldom_meant_is_said(tmp_path):
    def doubts(**stage):
        regime = Regime("x", [Stage(Autoregressive(), 1.0, steps=20, **stage)])
        return announcement([resolve(tiny_run(tmp_path, regime=regime))])[1:]

    assert not doubts(warmup=20)
    (line,) = doubts(warmup=21, lr=1e-3)
    assert line.startswith("regime.stages.0.warmup=21: the stage has 20 steps, so its rate ends at 0.00095")
    assert line.endswith("; type regime.stages.0.warmup=2")
