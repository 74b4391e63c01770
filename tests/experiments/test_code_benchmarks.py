"""Code benchmarks by evaluate.py: samples first, verdicts afterwards, each once; damage is named; words are refused."""

import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console

from ablate.code_tasks import sandbox
from ablate.code_tasks.pass_at_k import pass_at_k
from ablate.core import records
from ablate.core.validation import UsageError
from ablate.model.attention import CAUSAL
from ablate.text.corpora import Text
from ablate.training.train import train
from experiments import evaluate
from experiments.finished_runs import code_samples, code_verdicts
from experiments.finished_runs.line_files import LineFile
from tests.builders import tiny_run
from tests.experiments.checkpoints import plain_llama, write
from tests.text.prose import fill

PROBLEMS = [
    {
        "task_id": f"T/{i}",
        "prompt": "def f(x):\n",
        "canonical_solution": f"    return x + {i}\n",
        "entry_point": "f",
        "test": f"def check(candidate):\n    assert candidate(1) == {1 + i}\n",
    }
    for i in range(4)
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a small benchmark, and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(one) + "\n" for one in PROBLEMS))
    (tmp_path / "llama").mkdir()
    return tmp_path


def evaluated(*words):
    assert evaluate.main(["task=humaneval", "file=few.jsonl", *words]) == 0


def kept(place):
    found = records.read(place / "out" / "evaluation.parquet", records.EVALUATION)
    return found.set_index("metric")


@pytest.mark.usefixtures("sandboxed")
def test_canonical_answers_pass_and_empty_ones_do_not(place, capsys):
    evaluated("samples=canonical")
    assert "canonical, humaneval: 4/4 passed; pass@1 1.0000" in capsys.readouterr().out
    evaluated("samples=empty", "problems=3")
    assert "empty, humaneval: 0/3 passed; pass@1 0.0000" in capsys.readouterr().out
    assert sorted(path.name for path in place.iterdir()) == ["few.jsonl", "llama"], "nothing is kept unasked"


@pytest.mark.usefixtures("sandboxed")
def test_samples_of_a_file_are_judged_and_become_rows(place, capsys):
    """Problem i has i right samples of four."""
    lines = [
        {"task_id": one["task_id"], "completion": one["canonical_solution"] if number < i else "    return None\n"}
        for i, one in enumerate(PROBLEMS)
        for number in range(4)
    ]
    (place / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for _ in range(2):  # the second time nothing is judged, and the rows are there
        evaluated("samples=mine.jsonl", "out=out", "ks=[1,3]", "workers=2")
        assert "mine.jsonl, humaneval: 6/16 passed; pass@1 0.3750" in capsys.readouterr().out
    found = kept(place)
    assert list(found.index) == ["pass@1", "pass@1_high", "pass@1_low", "pass@3", "pass@3_high", "pass@3_low"]
    values = [pass_at_k(4, i, 3) for i in range(4)]
    assert found.value["pass@3"] == pytest.approx(sum(values) / 4)
    assert found.error["pass@1"] == pytest.approx(torch.tensor([0.0, 0.25, 0.5, 0.75]).std().item() / 2)
    assert found.value["pass@1_low"] < found.value["pass@1"] < found.value["pass@1_high"]
    assert (found.n == 4).all()
    assert (
        found.protocol["pass@1"]
        == "samples of others; prompt as published; cut at next statement; 16 samples; 5 s each"
    )
    assert len((place / "out" / "humaneval.verdicts.jsonl").read_text().splitlines()) == 7, "each program once"


@pytest.mark.usefixtures("sandboxed")
def test_a_model_writes_what_a_plain_loop_writes(place, capsys):
    net, own = plain_llama(place / "llama")
    evaluated("hf:llama", "out=out", "new_tokens=8", "problems=2", "stop=false")
    (path,) = (place / "out").glob("humaneval-*.samples.jsonl")
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["task_id"] for one in samples] == ["T/0", "T/1"]
    ids = own.encode([PROBLEMS[0]["prompt"]])[0]
    before = len(ids)
    with torch.no_grad():
        for _ in range(8):
            ids.append(int(net(torch.tensor([ids]), CAUSAL)[0, -1].argmax()))
    assert samples[0]["completion"] == own.decode(ids[before:])
    row = kept(place).loc["pass@1"]
    assert (row.run, row.corpus, row.order, row.n, row.passes) == ("llama", "humaneval", "confidence", 2, 8.0)
    assert "8 new tokens; prompt as published; cut at next statement; 2 samples" in row.protocol
    assert math.isfinite(row.seconds)
    assert str(path.name) in capsys.readouterr().out


@pytest.fixture
def sampled(place, monkeypatch):
    """Samples and verdicts of a model, in out/, and the words that made them. Verdicts are given, not judged."""
    plain_llama(place / "llama")
    judged = []

    def judge(program, limits, unsafe):
        judged.append(program)
        return sandbox.Outcome(len(judged) % 2 == 0, "" if len(judged) % 2 == 0 else "AssertionError")

    monkeypatch.setattr(code_verdicts, "judge", judge)
    monkeypatch.setattr(code_verdicts, "require_sandbox", lambda *_: None)
    words = ("hf:llama", "out=out", "new_tokens=6", "temperature=1.0", "samples_per_problem=3")
    evaluated(*words)
    (samples,) = (place / "out").glob("*.samples.jsonl")
    (verdicts,) = (place / "out").glob("*.verdicts.jsonl")
    return words, samples, verdicts, judged


def texts(path):
    return [json.loads(line)["completion"] for line in path.read_text().splitlines()]


def test_more_samples_and_more_problems_leave_those_that_are_there(sampled, monkeypatch):
    words, samples, _, judged = sampled
    before, count = samples.read_bytes(), len(judged)
    monkeypatch.setattr(code_samples, "decode", lambda *_, **__: pytest.fail("it is there already"))
    evaluated(*words)
    evaluated(*words, "problems=2", "samples_per_problem=2")
    assert samples.read_bytes() == before
    assert len(judged) == count
    monkeypatch.undo()
    monkeypatch.chdir(samples.parents[1])
    monkeypatch.setattr(code_verdicts, "judge", lambda *_: sandbox.Outcome(False, "no"))
    monkeypatch.setattr(code_verdicts, "require_sandbox", lambda *_: None)
    evaluated(*words, "samples_per_problem=4")
    assert samples.read_bytes().startswith(before)
    assert len(texts(samples)) == 16
    assert len(set(texts(samples))) > 8, "they differ"


def programs(path):
    return sorted(json.loads(line)["program"] for line in path.read_text().splitlines())


@pytest.mark.parametrize("cut", [0, 1, 0.3, 0.5, 0.99])
def test_what_was_cut_by_a_kill_goes_on(sampled, cut):
    words, samples, verdicts, _ = sampled
    before, judged = texts(samples), programs(verdicts)
    for path in (samples, verdicts):
        raw = path.read_bytes()
        path.write_bytes(raw[: int(cut * len(raw)) if cut != 1 else len(raw) - 1])
    evaluated(*words)
    assert texts(samples) == before
    assert programs(verdicts) == judged


def test_damage_of_either_file_is_named_in_one_line(sampled):
    words, samples, verdicts, _ = sampled
    for path in (samples, verdicts):
        raw = path.read_bytes()
        for at in range(3, len(raw) - 1, len(raw) // 7):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
            with pytest.raises(UsageError, match=r"got a damaged line \d+ \(.*\); delete that line") as raised:
                evaluated(*words)
            assert str(path.relative_to(path.parents[1])) in str(raised.value)
            assert "\n" not in str(raised.value)
        path.write_bytes(raw)
    evaluated(*words)


def test_other_weights_prompts_and_protocols_are_other_samples(sampled, place):
    words, samples, _, _ = sampled
    net, own = plain_llama(place / "llama")
    with torch.no_grad():
        net.head.weight.mul_(1.5)
    write(place / "llama", net, own)
    evaluated(*words)
    evaluated(*words, "order=random")
    assert len([*(place / "out").glob("*.samples.jsonl")]) == 3
    changed = [{**one, "prompt": "def f(y):\n"} for one in PROBLEMS]
    (place / "few.jsonl").write_text("".join(json.dumps(one) + "\n" for one in changed))
    evaluated(*words, "order=random")
    assert sorted(len(texts(path)) for path in (place / "out").glob("*.samples.jsonl")) == [12, 12, 24]
    assert samples.exists()


def test_a_line_is_on_the_disk_or_absent(tmp_path):
    path = tmp_path / "lines.jsonl"
    LineFile(path, {"a": int}).add({"a": 1})
    LineFile(path, {"a": int}).add({"a": 2})
    with path.open("ab") as file:
        file.write(b'{"a": 3')
    assert LineFile(path, {"a": int}).rows == [{"a": 1}, {"a": 2}]
    assert path.read_bytes().count(b"\n") == 2
    assert path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=humanevil"], "task=humanevil: wanted bits_per_byte of hf:FOLDER, or humaneval, humaneval_plus, mbpp"),
        ([], "wanted one RUN, one hf:FOLDER or samples=FILE, got none"),
        (["few.jsonl", "samples=empty"], "got few.jsonl and samples=empty"),
        (["hf:llama"], "hf:llama: wanted a place for samples and verdicts, got none; type out=FOLDER"),
        (["hf:llama", "out=few.jsonl"], "out=few.jsonl: wanted a folder that can be written"),
        (["nowhere"], "nowhere: wanted the folder of a run"),
        (["samples=nowhere.jsonl", "out=out"], "samples=nowhere.jsonl: wanted a JSON object a line"),
        (["samples=few.jsonl"], "row 1: without completion"),
        (
            ["samples=one.jsonl"],
            r"wanted a completion for each of 4 problems, got none for T/1, T/2, T/3; type problems=N",
        ),
        (["samples=other.jsonl"], "wanted problems of humaneval, got 'U/0'"),
        (["samples=empty", "temperature=1"], "temperature: wanted a model that decodes, got samples=empty"),
        (["hf:llama", "out=out", "samples_per_problem=2"], "wanted samples that differ, got temperature=0"),
        (["samples=empty", "ks=[0]"], "ks: wanted whole numbers"),
        (["samples=empty", "problems=-1"], "problems: wanted 0"),
        (["samples=empty", "unsafe=perhaps"], "unsafe: wanted true or false"),
        (["samples=empty", "file=nowhere"], "file=nowhere: wanted a JSON object a line"),
        (["samples=empty", "file=twice.jsonl"], "wanted each problem once, got 'T/0' more often"),
        (["samples=empty", "block=1"], "block=1: wanted RUN or hf:FOLDER and task, samples"),
        (["hf:llama", "out=out", "new_tokens=30"], "T/0: prompt: wanted room for 30 more tokens of at most 24"),
    ],
)
def test_other_words_are_refused_in_one_line(place, words, message):
    plain_llama(place / "llama")
    (place / "one.jsonl").write_text(json.dumps({"task_id": "T/0", "completion": ""}))
    (place / "twice.jsonl").write_text((place / "few.jsonl").read_text() * 2)
    (place / "other.jsonl").write_text(json.dumps({"task_id": "U/0", "completion": ""}))
    with pytest.raises(UsageError, match=message) as raised:
        evaluated(*words)
    assert "\n" not in str(raised.value)
    assert not (place / "out").exists()


def test_a_run_of_text_keeps_its_rows_beside_its_own(place, monkeypatch):
    """Read in both directions, so decoded in any order; rows of other kinds stay, and are shown as before."""
    monkeypatch.setenv("ABLATE_CACHE", str(place / "cache"))
    monkeypatch.setattr(code_verdicts, "judge", lambda *_: sandbox.Outcome(True))
    monkeypatch.setattr(code_verdicts, "require_sandbox", lambda *_: None)
    fill(place / "new", 0, 8), fill(place / "general", 100, 6)
    corpus = Text(length=32, answer=8, folder=str(place / "new"), general=str(place / "general"))
    run = tiny_run(place, corpus=corpus)
    train(run, Console(quiet=True))
    own = ["questions=4", "block_sizes=[8]", "paces=[all]", "orders=[confidence]", "draw=false"]
    assert evaluate.main([str(run.folder), *own]) == 0
    evaluated(str(run.folder), "new_tokens=8", "block_size=4", "pace=tokens:2", "problems=2")
    found = records.read(run.folder / "evaluation.parquet", records.EVALUATION)
    row = found[found.metric == "pass@1"].iloc[0]
    assert (row.block_size, row.pace, row.order, row.passes, row.value) == (4, "tokens:2", "confidence", 4.0, 1.0)
    of_run = found[found.metric == "score"].iloc[0]
    for name in ("run", "regime", "seed", "stage", "step", "flops"):
        assert row[name] == of_run[name]
    assert (row.corpus, row.domain) == ("humaneval", "code")
    assert {"score", "exact"} <= {*found.metric}
    assert evaluate.main([str(run.folder), *own]) == 0
    assert len(records.read(run.folder / "evaluation.parquet", records.EVALUATION)) == len(found)


def test_a_world_has_no_programs(place):
    run = tiny_run(place)
    train(run, Console(quiet=True))
    with pytest.raises(UsageError, match="task=humaneval: wanted a model of text, got one of a world"):
        evaluated(str(run.folder))


def test_the_interval_is_that_of_a_proportion():
    low, high = code_verdicts._interval(np.repeat([1.0, 0.0], [120, 280]))
    spread = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert (low, high) == pytest.approx((0.3 - spread, 0.3 + spread), abs=0.005)
    assert code_verdicts._interval([1.0, 1.0]) == (1.0, 1.0)
    assert code_verdicts._interval([0.0] * 9 + [1.0])[0] == 0.0, "no share below 0"
    assert all(map(math.isnan, code_verdicts._interval([1.0])))
