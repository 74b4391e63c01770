"""Laws of a checkpoint's tokenizer: ids are its own, special tokens are never read out of a text, bytes add up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ablate.core.corpus import SPLITS, Domain
from ablate.text.corpora import Text
from ablate.text.tokenizer import MASK, checkpoint_tokenizer
from tests.text.prose import fill, prose

ODD = "a <|endoftext|> b <|fim|>\r\n\t𝔘 <mask> e\u0301   <pad>"


def byte_level(folder: Path, special: tuple[str, ...] = ("<|endoftext|>", "<|fim|>"), plain: str = "    ") -> Path:
    """A checkpoint's folder: byte-level BPE with special tokens, one other added token, a template and truncation."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([prose(i) for i in range(9)], trainer)
    tokenizer.add_special_tokens(list(special))
    tokenizer.add_tokens([plain])
    first = special[0]
    pairs = [(first, tokenizer.token_to_id(first))]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A", special_tokens=pairs)
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=7)
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def metaspace(folder: Path) -> Path:
    """SentencePiece's kind: `▁` for a blank, unknown characters as bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    symbols = ["<unk>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", *"abcdeü", "▁a", "▁ab"]
    vocab = {symbol: i for i, symbol in enumerate(symbols)}
    model = models.BPE(vocab, [("▁", "a"), ("▁a", "b")], unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["</s>"])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write(folder: Path, **files: dict) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_ids_are_the_checkpoints_own(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder = byte_level(tmp_path / "model")
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.no_truncation()
    own.no_padding()
    made, texts = checkpoint_tokenizer(str(folder)), [prose(3), prose(77), "x    y", "  \n"]
    assert made.encode(texts) == [own.encode(text, add_special_tokens=False).ids for text in texts]
    assert checkpoint_tokenizer(str(folder / "tokenizer.json")) == made
    assert [made.vocabulary.symbols[i] for i in made.encode(["x    y"])[0]] == ["x", "    ", "y"]


@pytest.mark.parametrize("make", [byte_level, metaspace])
def test_special_tokens_are_never_read_out_of_a_text(make, tmp_path: Path) -> None:
    made = checkpoint_tokenizer(str(make(tmp_path / "model")))
    reserved = {made.separator[1], made.mask[1]}
    for text in (ODD, ODD + "</s>", "</s>", "<|endoftext|>", "aab abü 数"):
        (ids,) = made.encode([text])
        assert reserved.isdisjoint(ids)
        assert sum(made.vocabulary.bytes_V[i] for i in ids) == len(text.encode())
    assert made.vocabulary.bytes_V[made.separator[1]] == made.vocabulary.bytes_V[made.mask[1]] == 0


def test_separator_is_what_the_checkpoint_says(tmp_path: Path) -> None:
    folder = byte_level(tmp_path / "model")
    ids = {name: checkpoint_tokenizer(str(folder), name).separator[1] for name in ("<|endoftext|>", "<|fim|>")}
    assert checkpoint_tokenizer(str(folder)).separator[0] == "<|endoftext|>"
    write(folder, special_tokens_map={"eos_token": {"content": "<|fim|>"}})
    assert checkpoint_tokenizer(str(folder)).separator == ("<|fim|>", ids["<|fim|>"])
    write(folder, tokenizer_config={"eos_token": "<|endoftext|>"})
    assert checkpoint_tokenizer(str(folder)).separator[0] == "<|endoftext|>"
    write(folder, generation_config={"eos_token_id": [ids["<|fim|>"], ids["<|endoftext|>"]]})
    assert checkpoint_tokenizer(str(folder)).separator[0] == "<|fim|>"
    write(folder, config={"eos_token_id": ids["<|endoftext|>"]})
    assert checkpoint_tokenizer(str(folder)).separator[0] == "<|endoftext|>"
    assert checkpoint_tokenizer(str(folder), "<|fim|>").separator[0] == "<|fim|>"


def test_mask_is_the_checkpoints_or_a_new_id(tmp_path: Path) -> None:
    folder = byte_level(tmp_path / "model")
    made = checkpoint_tokenizer(str(folder))
    assert made.mask == (MASK, len(made.vocabulary) - 1)
    assert made.vocabulary.symbols[-2] == "    "
    write(folder, config={"mask_token_id": 420})
    far = checkpoint_tokenizer(str(folder)).vocabulary
    assert (far.mask_id, len(far), far.symbols[-1]) == (420, 421, MASK)
    assert set(far.symbols[len(made.vocabulary) - 1 : 420]) == {""}
    own = checkpoint_tokenizer(str(byte_level(tmp_path / "own", ("</s>", "<|mdm_mask|>")))).vocabulary
    assert own.symbols[own.mask_id] == "<|mdm_mask|>"
    assert own.mask_id < len(own) - 1
    assert checkpoint_tokenizer(str(tmp_path / "own"), mask="    ").mask[0] == "    "


def test_errors_are_one_line_that_names_the_file(tmp_path: Path) -> None:
    folder = byte_level(tmp_path / "model", ("<one>", "<two>"))
    for path, content in (
        ("absent", None),
        ("torn", "{"),
        ("list", "[]"),
        ("empty", '{"model": {"vocab": {}}}'),
        ("odd", '{"model": {"vocab": {"a": 0, "</s>": 1}}}'),
    ):
        if content is not None:
            (tmp_path / path).write_text(content)
        with pytest.raises(ValueError, match=rf"^corpus\.tokenizer: .*{path}.*$"):
            checkpoint_tokenizer(str(tmp_path / path))
    with pytest.raises(ValueError, match=r"corpus\.separator: .*name no end of text; try corpus\.separator=TOKEN"):
        checkpoint_tokenizer(str(folder))
    with pytest.raises(ValueError, match=r"corpus\.separator: wanted a token of .*got '<three>'"):
        checkpoint_tokenizer(str(folder), "<three>")
    with pytest.raises(ValueError, match=r"corpus\.mask_token: wanted another token than the separator"):
        checkpoint_tokenizer(str(folder), "<one>", "<one>")
    with pytest.raises(ValueError, match=r"config\.json names 9999 as its end of text"):
        checkpoint_tokenizer(str(write(folder, config={"eos_token_id": 9999})))
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json cannot be read"):
        checkpoint_tokenizer(str(folder))
    for fields in ({"tokenizer": "x", "tokens": 300}, {"separator": "x"}, {"mask_token": "x"}):
        with pytest.raises(ValueError, match=rf"corpus\.{list(fields)[-1]}="):
            Text(**fields)  # type: ignore[arg-type]


def test_a_corpus_of_a_checkpoints_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder = byte_level(tmp_path / "model", ("<|endoftext|>", "<|mask|>"))
    new, general = fill(tmp_path / "new", 0), fill(tmp_path / "general", 100)
    (new / "odd.txt").write_text(ODD + "<|mask|>", encoding="utf-8")
    corpus = Text(
        folder=str(new), general=str(general), tokenizer=str(folder), length=16, answer=4, cache=str(tmp_path / "cache")
    )
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.no_truncation()
    own.no_padding()
    own.encode_special_tokens = True
    end, found, wanted = own.token_to_id("<|endoftext|>"), [], []
    for split in SPLITS:
        tokens = corpus._packed.splits[f"new.{split}"]
        ids = tokens.read(0, len(tokens))
        found += [part.tolist() for part in np.split(ids, np.nonzero(ids == end)[0] + 1)[:-1]]
    for path in new.rglob("*.txt"):
        wanted.append([*own.encode(path.read_bytes().decode(), add_special_tokens=False).ids, end])
    assert sorted(found) == sorted(wanted)
    assert corpus.vocabulary.mask_id == own.token_to_id("<|mask|>")
    assert corpus._packed.splits["new.train"].dtype == "<u2"
    prints = {
        dataclasses.replace(corpus, domain=domain, mask_token=mask).fingerprint()
        for domain in Domain
        for mask in ("", "    ")
    }
    assert len(prints) == 4


def blanks_in_runs(folder: Path, **how: bool) -> Path:
    """Gemma's kind: runs of `▁` are added tokens; `in_model`: and symbols of the model beside."""
    metaspace(folder)
    parts = json.loads((folder / "tokenizer.json").read_text())
    ids = {run: len(parts["model"]["vocab"]) + i for i, run in enumerate(("▁▁", "▁▁▁"))}
    if how["in_model"]:
        parts["model"]["vocab"] |= ids
        parts["model"]["merges"] += [["▁", "▁"], ["▁▁", "▁"]]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "special": False, "normalized": how["normalized"]}
    parts["added_tokens"] += [{"id": id, "content": run, **flags} for run, id in ids.items()]
    (folder / "tokenizer.json").write_text(json.dumps(parts))
    return folder


@pytest.mark.parametrize(("normalized", "in_model"), [(True, False), (True, True), (False, True)])
def test_runs_of_blanks_stand_for_blanks(normalized: bool, in_model: bool, tmp_path: Path) -> None:
    made = checkpoint_tokenizer(str(blanks_in_runs(tmp_path / "model", normalized=normalized, in_model=in_model)))
    for text in ("  ü", "   ü  ü ab", "    ü "):
        (ids,) = made.encode([text])
        assert {"▁▁", "▁▁▁"} & {made.vocabulary.symbols[i] for i in ids}
        assert sum(made.vocabulary.bytes_V[i] for i in ids) == len(text.encode())


def changing(kind: str) -> dict:
    """What a tokenizer may do to a text before it is cut into tokens."""
    from tokenizers import normalizers

    return {
        "nothing": None,
        "a blank put before": normalizers.Prepend("▁"),
        "lower case": normalizers.Lowercase(),
        "composed": normalizers.NFC(),
        "decomposed": normalizers.NFD(),
        "stripped": normalizers.Strip(),
    }[kind]


CHANGES = ("nothing", "a blank put before", "lower case", "composed", "decomposed", "stripped", "swallowing", "unknown")


@pytest.mark.parametrize("kind", CHANGES)
def test_tokens_stand_for_the_bytes_of_the_texts(kind: str, tmp_path: Path) -> None:
    """Whatever a tokenizer does to texts, the bytes that bits are divided by are those of the texts."""
    from tokenizers import AddedToken, Tokenizer, normalizers

    folder = metaspace(tmp_path / "model")
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if kind == "swallowing":
        own.add_tokens([AddedToken("ab", lstrip=True, rstrip=True, normalized=False)])
    elif kind == "unknown":
        own.model.byte_fallback = False
    else:
        change = changing(kind)
        own.normalizer = normalizers.Sequence([*([change] if change else []), own.normalizer])
    own.save(str(folder / "tokenizer.json"))
    new, general = fill(tmp_path / "new", 0), fill(tmp_path / "general", 100)
    for i in range(40):
        (new / f"odd{i}.txt").write_text(f"  {i} e\u0301 \u00c9\u0130 数 ab   ab  {'🙂' * i}\t\r\n ", encoding="utf-8")
    corpus = Text(
        folder=str(new), general=str(general), tokenizer=str(folder), length=16, answer=4, cache=str(tmp_path / "cache")
    )
    size = sum(path.stat().st_size for path in new.rglob("*.txt"))
    written = json.loads((corpus._packed.folder / "meta.json").read_text())["bytes"]
    assert size == sum(written[f"new.{split}"] for split in SPLITS)
    shares = set()
    for split in SPLITS:
        part = dataclasses.replace(corpus, split=split)
        tokens = part._packed.splits[f"new.{split}"]
        ids = tokens.read(0, len(tokens))
        counted = np.array(part.vocabulary.bytes_V)[ids].sum()
        assert counted == pytest.approx(written[f"new.{split}"], rel=1e-12)
        shares.add(part.byte_scale)
    assert (shares == {1.0}) == (kind == "nothing")


@pytest.mark.parametrize("letters", [1, 3])
def test_no_text_makes_mask_or_separator(letters: int, tmp_path: Path) -> None:
    """An added token is split further; an entry of the model's own is refused, whoever names it."""
    folder = byte_level(tmp_path / "model")
    made = checkpoint_tokenizer(str(folder), mask="    ")
    assert made.mask[1] not in made.encode(["x    y"])[0]
    symbols = made.vocabulary.symbols
    id, token = next((i, s) for i, s in enumerate(symbols) if len(s) == letters and s.isalpha() and s.isascii())
    for words in ({"mask": token}, {"separator": token}):
        with pytest.raises(
            ValueError, match=rf"^corpus\.(mask_token|separator): .*got '{token}', which texts are made of"
        ):
            checkpoint_tokenizer(str(folder), **words)
    write(folder, config={"mask_token_id": id})
    with pytest.raises(ValueError, match=r"^corpus\.mask_token: .*which texts are made of"):
        checkpoint_tokenizer(str(folder))


def test_special_tokens_in_a_models_own_vocabulary_are_no_texts(tmp_path: Path) -> None:
    """As T5 has them; a text that spells one is refused when it is read."""
    from tokenizers import Tokenizer, models

    own = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("a", -1.0), ("b", -1.0)], unk_id=0))
    own.add_special_tokens(["</s>"])
    own.save(str(tmp_path / "tokenizer.json"))
    made = checkpoint_tokenizer(str(write(tmp_path, config={"eos_token_id": 1})))
    assert made.encode(["abba"]) == [[2, 3, 3, 2]]
    with pytest.raises(ValueError, match=r"corpus.separator: .*'</s>', which texts are made of"):
        made.encode(["a</s>b"])


def test_two_ends_of_text_are_not_guessed_between(tmp_path: Path) -> None:
    folder = byte_level(tmp_path / "model", ("</s>", "<eos>"))
    said = r"""which may be </s> or <eos>; try "corpus.separator='</s>'", or let .*config.json say its eos_token_id"""
    with pytest.raises(ValueError, match=said):
        checkpoint_tokenizer(str(folder))
    assert checkpoint_tokenizer(str(folder), "<eos>").separator[0] == "<eos>"


def test_ids_beyond_16_bits_take_four_bytes(tmp_path: Path) -> None:
    folder = write(byte_level(tmp_path / "model"), config={"mask_token_id": 70_000})
    new, general = fill(tmp_path / "new", 0), fill(tmp_path / "general", 100)
    corpus = Text(
        folder=str(new), general=str(general), tokenizer=str(folder), length=16, answer=4, cache=str(tmp_path / "c")
    )
    assert corpus._packed.splits["new.train"].dtype == "<u4"
    assert int(corpus.batch(range(9), seed=0).max()) < 500
    assert len(corpus.vocabulary) == 70_001
