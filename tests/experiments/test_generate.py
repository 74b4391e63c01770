"""What a network writes: questions that are judged, prompts, folders of checkpoints, and words that are refused."""

import json
import re

import pytest
import torch
from rich.console import Console

from ablate.core.blocks import Grid
from ablate.core.validation import UsageError
from ablate.decoding.answers import Answers
from ablate.decoding.loop import decode
from ablate.decoding.protocol import Protocol
from ablate.model.attention import CAUSAL
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import Regime, Stage
from ablate.text.tokenizer import trained
from ablate.training.train import train
from experiments import export, generate
from experiments.finished_runs import live_view
from experiments.finished_runs.generation import read
from experiments.finished_runs.loaded_model import load_model
from experiments.hf_export.tokenizer_files import tokenizer_files
from tests import ROOT
from tests.builders import MASK, tiny_run
from tests.experiments.checkpoints import plain_llama, write


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    regime = Regime("block", [Stage(BlockDiffusion(2), 1.0, warmup=2)])
    run = tiny_run(tmp_path_factory.mktemp("generated"), regime=regime)
    train(run, Console(quiet=True))
    return run.folder


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "out"
    assert export.main([str(finished), f"out={out}"]) == 0
    return out


def said(capsys, *words):
    assert generate.main([*map(str, words)]) == 0
    return capsys.readouterr().out


def test_questions_are_answered_and_judged_by_the_world(finished, capsys):
    """The judgement is the verifier's of what stands there."""
    lines = said(capsys, finished, "questions=6").splitlines()
    known = load_model(str(finished))
    query = known.corpus.queries(6, 1000)
    judged = [line for line in lines if "[" in line]
    assert len(judged) == 6
    for row, line in enumerate(judged):
        text, verdict = re.fullmatch(r"(.*)   \[(.*)\]", line).groups()
        ids = torch.tensor([known.encode(text)])
        share = float(query.verify(ids.expand(6, -1))[row])
        assert verdict == ("right" if share == 1 else f"wrong: {share:.0%} right")
        assert (ids == query.tokens_BL[row])[~query.answer_BL[[row]]].all(), "the prompt stays"
    assert "blocks of 2 counted from the sequence" in lines[0], "as it attends, on the grid that it was trained on"


def test_a_prompt_of_a_world_is_filled_and_held_against_its_rules(finished, capsys):
    known = load_model(str(finished))
    whole = known.corpus.queries(1, 5).tokens_BL[0].tolist()
    prompt = known.text(whole[:-2]).removeprefix("<bos>")
    line = next(line for line in said(capsys, finished, f"prompt={prompt}").splitlines() if "rule" in line)
    text, verdict = re.fullmatch(r"(.*)   \[(.*)\]", line).groups()
    ids = torch.tensor([known.encode(text)])
    assert ids.shape[1] == known.corpus.length
    assert verdict == ("breaks no rule" if known.possible(ids)[0] else "breaks a rule")


def test_an_exported_world_writes_the_same(finished, folder, capsys):
    known = load_model(str(finished))
    prompt = known.text(known.corpus.queries(1, 6).tokens_BL[0].tolist()[:-3])
    ours = said(capsys, finished, f"prompt={prompt}").splitlines()[1]
    theirs = said(capsys, f"hf:{folder}", f"prompt={prompt}", "new_tokens=3").splitlines()[1]
    assert ours.split("   [")[0] == theirs.split("   [")[0]
    assert theirs.endswith("[no verifier]")


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("opens", [True, False])
def test_text_is_written_in_text(tmp_path, capsys, mask, opens):
    """A checkpoint that is no export of ours: a Llama, read from left to right. Its tokenizer says whether a text opens
    with BOS, whatever config.json calls BOS; and most know of no MASK."""
    net, own = plain_llama(tmp_path)
    end = own.separator
    write(tmp_path, net, own, mask, end[0] if opens else "", bos_token_id=end[1])
    _, written = said(capsys, f"hf:{tmp_path}", "prompt=more words", "new_tokens=6").split("\n", 1)
    ids = [*([end[1]] if opens else []), *own.encode(["more words"])[0]]
    with torch.no_grad():
        for _ in range(6):
            ids.append(int(net(torch.tensor([ids]), CAUSAL)[0, -1].argmax()))
    text = "".join(sign if sign.isprintable() or sign in "\n\t" else ascii(sign)[1:-1] for sign in own.decode(ids))
    assert written.startswith(f"{text}   [no verifier]"), "signs stand for what would move the cursor"
    with pytest.raises(
        UsageError, match=f"wanted room for 60 more tokens of at most 24 in all, got a prompt of {len(ids) - 6}"
    ):
        generate.main([f"hf:{tmp_path}", "prompt=more words", "new_tokens=60"])


def test_the_order_is_drawn(finished, tmp_path, capsys):
    path = tmp_path / "order.png"
    assert str(path) in said(capsys, finished, "questions=2", f"trace={path}", "pace=all").replace("\n", "")
    assert path.stat().st_size > 5000
    assert path.with_suffix(".pdf").exists()


def test_a_view_has_a_sign_for_each_place():
    answers = Answers(torch.full((1, 8), 4), torch.arange(8)[None] >= 2, Protocol(3), MASK, 0, 0)
    answer_BL = torch.arange(8)[None] >= 2
    view = live_view.shown(answers, answer_BL, lambda ids: "x" * len(ids)).plain
    assert view == "xx" + live_view.NEXT * 3 + live_view.HIDDEN * 3
    seen = []
    uniform = torch.zeros(1, 8, MASK + 1)
    uniform[..., 5] = 9.0
    uniform[..., MASK] = -torch.inf
    decode(
        lambda _: uniform.log_softmax(-1),
        torch.full((1, 8), 4),
        answer_BL,
        Protocol(3),
        MASK,
        watch=lambda now: seen.append(live_view.shown(now, answer_BL, lambda ids: "x" * len(ids)).plain),
    )
    assert [one.count("x") for one in seen] == [3, 4, 5, 6, 7, 8]
    assert len({len(one) for one in seen}) == 1


def test_ids_become_text_and_back():
    own = trained([(ROOT / "ablate" / "core" / "rng.py").read_text()], 300)
    text = "def f(x):\n    return 'ü'\n"
    ids = own.encode([text])[0]
    assert own.decode(ids) == text
    between = [*ids[:3], own.mask[1], own.separator[1], *ids[3:]]
    assert own.decode(between) == own.decode(ids[:3]) + own.mask[0] + own.separator[0] + own.decode(ids[3:])
    assert tokenizer_files(own, 64)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "wanted one RUN, got none"),
        (["RUN", "RUN2"], "wanted one RUN, got RUN, RUN2"),
        (["RUN", "block=4"], "block=4: wanted RUN and prompt, questions"),
        (["RUN", "order=sideways"], "'sideways' is not a valid Order; type one of left_to_right"),
        (["RUN", "pace=fast"], "pace: wanted tokens:N"),
        (["RUN", "block_size=no"], "block_size: wanted"),
        (["RUN", "questions=0"], "questions: wanted 1"),
        (["RUN", "live=perhaps"], "live: wanted true or false"),
        (["RUN", "trace=x.jpg"], "trace: wanted a file that ends in .png"),
        (["RUN", "top_p=0.5"], "top_p: wanted a mass"),
        (["RUN", "temperature=warm"], "temperature: wanted a number"),
        (["nowhere"], "nowhere: wanted the folder of a run"),
        (["hf:nowhere"], "nowhere: wanted the folder of a checkpoint"),
    ],
)
def test_other_words_are_refused_in_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message) as raised:
        generate.main(words)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("prompt=zebra", "wanted symbols of the world, such as .*, got 'zebra' at place 0"),
        ("prompt=" + "0" * 200, "wanted room for at least one more tokens of at most .* in all, got a prompt of 201"),
    ],
)
def test_prompts_that_cannot_be_read(finished, word, message):
    with pytest.raises(UsageError, match=message):
        generate.main([str(finished), word])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("questions=2", "it has no questions of its own; type prompt=TEXT"),
        ("prompt=", "wanted at least one token"),
    ],
)
def test_a_folder_needs_a_prompt(folder, word, message, capsys):
    with pytest.raises(UsageError, match=message):
        generate.main([f"hf:{folder}", word, "new_tokens=3"])


def test_damaged_checkpoints_are_named(finished, folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"ablate": {"attention": "sideways"}}, "wanted in config.json what export.py writes under ablate"),
        ({"mask_token_id": None}, "wanted the id of MASK in config.json"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UsageError, match=message):
            generate.main([f"hf:{tmp_path}", "prompt=0"])
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UsageError, match=r"model.safetensors"):
        generate.main([f"hf:{tmp_path}", "prompt=0"])


def test_a_protocol_of_its_own():
    asked = read(["x", "prompt=a=b", "temperature=0.5", "grid=answer"])
    assert asked.prompt == "a=b"
    found = asked.protocol(4, Grid.sequence)
    assert (found.block_size, found.grid, found.temperature) == (4, Grid.answer, 0.5)
    assert read(["x"]).protocol(0, Grid.answer).block_size == 1


def test_text_stops_at_its_end_token_or_goes_on(tmp_path, capsys):
    """Any id that generation_config.json names ends it; what is behind is neither shown nor read."""
    net, own = plain_llama(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": own.separator[1]}))
    ids = own.encode(["more words"])[0]
    start = len(ids)
    with torch.no_grad():
        for _ in range(12):
            ids.append(int(net(torch.tensor([ids]), CAUSAL)[0, -1].argmax()))
    end = ids[start + 3]
    stop = ids.index(end, start) + 1
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [end, 1]}))
    words = [f"hf:{tmp_path}", "prompt=more words", "new_tokens=12"]
    for more, kept in ((["stop=true"], ids[:stop]), (["stop=false"], ids)):
        out = said(capsys, *words, *more, f"trace={tmp_path / 'order.png'}")
        assert load_model(f"hf:{tmp_path}").text(kept) + "   [" in out
        assert f" {len(kept) - start} tokens in" in out
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": "x"}))
    with pytest.raises(UsageError, match="eos_token_id"):
        generate.main(words)


def test_a_prefix_cache_is_said_to_be_approximate(finished, tmp_path, capsys):
    run = tiny_run(tmp_path, regime=Regime("full", [Stage(MaskedDiffusion(), 1.0, warmup=2)]))
    train(run, Console(quiet=True))
    assert "prefix cache, approximate" in said(capsys, run.folder, "questions=1", "cache=prefix").replace("\n", " ")
    with pytest.raises(UsageError, match="wanted a network that reads with full attention, got BlockDiffusion"):
        generate.main([str(finished), "cache=prefix"])
