"""Tokenizers of strangers: what hangs, panics, grows or lies is refused in one line, before a text is read."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ablate.text import tokenizer as tokenizers
from ablate.text import tokenizer_check
from ablate.text.tokenizer import TextTokenizer, checkpoint_tokenizer
from ablate.text.tokenizer_check import fault_of, within

PLAIN: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": None,
    "post_processor": None,
    "decoder": None,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "</s>": 2}, "merges": []},
}


def split(regex: str) -> dict[str, Any]:
    pattern = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return {"pre_tokenizer": pattern}


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def write(folder: Path, **changes: Any) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(PLAIN | changes))
    return folder


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "backtracking": (split("(a+)+$"), "retry-limit"),
    "backtracking on other letters": (split("(?:q|qq)+z"), "retry-limit"),
    "backtracking normaliser": ({"normalizer": replace({"Regex": "(?:a|aa)+z"}, "x")}, "retry-limit"),
    "division by nothing": ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "chunk size"),
    "panic in a table": ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "Precompiled"),
    "growth": ({"normalizer": replace({"String": " "}, "a" * 1000)}, "characters or tokens of"),
    "growth without end": (
        {"normalizer": {"type": "Sequence", "normalizers": [replace({"String": "a"}, "a" * 1000)] * 5}},
        "memory|characters",
    ),
    "other ids": (
        {
            "added_tokens": [
                {
                    "id": 9,
                    "content": "<x>",
                    "special": True,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                }
            ]
        },
        "'<x>' has the id 9, but the library reads it as 3",
    ),
    "other type": ({"pre_tokenizer": "Whitespace"}, "did not match any"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tokenizers_are_refused_in_one_line(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changes, said = HOSTILE[name]
    began = time.monotonic()
    with pytest.raises(ValueError, match=rf"^corpus.tokenizer: .*tokenizer.json cannot be used .*(?:{said})[^\n]*$"):
        checkpoint_tokenizer(str(write(tmp_path, **changes)))
    assert time.monotonic() - began < 45
    assert capfd.readouterr().err == ""


def test_a_harmless_one_is_used(tmp_path: Path) -> None:
    made = checkpoint_tokenizer(str(write(tmp_path, **split(r"\s+"))))
    assert made.encode(["ab", ""]) == [[0, 1], []]


def test_one_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_check, "SECONDS", 0.01)
    assert "does not come to an end" in fault_of(json.dumps(PLAIN))
    fault_of.cache_clear()


def test_a_text_that_it_fails_on_or_hangs_on_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    panics = TextTokenizer(json.dumps(PLAIN | split("(a+)+$")), ("</s>", 2), ("<mask>", 3))
    with pytest.raises(ValueError, match=r"^corpus.tokenizer: it fails on a text of the corpus \(Onig: [^\n]*\)$"):
        panics.encode(["a" * 40 + "!"])
    hangs = TextTokenizer(json.dumps(PLAIN | split(r"(a+)\1+$")), ("</s>", 2), ("<mask>", 3))
    monkeypatch.setattr(tokenizers, "PATIENCE", 0.1)
    with pytest.raises(ValueError, match=r"it fails on a text of the corpus \(it does not come to an end"):
        hangs.encode(["a" * 3000 + "!"])


def test_work_within_a_time() -> None:
    assert within(5, lambda: 3) == 3
    with pytest.raises(KeyError, match="x"):
        within(5, lambda: {}["x"])
    never = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.01, never.wait)
    never.set()


@pytest.mark.parametrize("id", [10**9, 10**15, -1, 2.5, True, "3", [1]])
def test_ids_out_of_bounds_are_refused(id: Any, tmp_path: Path) -> None:
    vocabulary = {"type": "BPE", "vocab": {"a": 0, "</s>": id}, "merges": []}
    with pytest.raises(ValueError, match=r"^corpus.tokenizer: .*wanted an id from 0 to 4194303, got [^\n]*$"):
        checkpoint_tokenizer(str(write(tmp_path, model=vocabulary)))
    write(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 2, "mask_token_id": id}))
    with pytest.raises(ValueError, match=r"^corpus.tokenizer: mask_token_id .*wanted an id from 0 to 4194303, got"):
        checkpoint_tokenizer(str(tmp_path))


def test_settings_of_other_types_are_one_line(tmp_path: Path) -> None:
    write(tmp_path)
    for said in (True, 10**15, [], [[]], [None], {}, {"content": 3}, "no", 1.5, ["</s>"]):
        for name in tokenizers.BESIDE:
            (tmp_path / name).write_text(json.dumps({"eos_token_id": said}))
            if said in (["</s>"], [None], {}):
                assert checkpoint_tokenizer(str(tmp_path)).separator == ("</s>", 2)
            else:
                with pytest.raises(ValueError, match=r"^corpus.separator: [^\n]*names [^\n]*$"):
                    checkpoint_tokenizer(str(tmp_path))
            (tmp_path / name).unlink()
