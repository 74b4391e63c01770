"""Tokenizers: byte-level BPE learned from the text itself, or the one that came with a checkpoint.

A tokenizer is a `tokenizer.json` and two tokens beside it: the separator, which ends documents, and MASK. Neither is
ever read out of a text: one that spells them keeps all of its bytes.

Shapes: V vocabulary.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ablate.core.corpus import Vocabulary
from ablate.core.foreign_files import TOKENIZER, read_json, require_id, tokens_of
from ablate.core.validation import path_of
from ablate.text.tokenizer_check import fault_of, within

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Result = TypeVar("Result")
SEPARATOR, MASK = "<|doc|>", "<mask>"
PATIENCE = 60  # seconds that a tokenizer may take for a batch of texts, however short
SLOWEST = 10_000  # characters a second beyond those
LONG_WORD = re.compile(r"\S{1000}")
BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
BESIDE = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<|im_end|>", "<eos>", "<|eos|>", "[EOS]")
MASKS = ("<mask>", "[MASK]", "<|mask|>", "<|mdm_mask|>", "<MASK>", "|<MASK>|")


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer.json, as text, with the names and ids of the separator and of MASK, which it need not know."""

    content: str
    separator: tuple[str, int]
    mask: tuple[str, int]

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """Symbols up to the largest id in use, and the bytes that each stands for; special tokens stand for none.

        Byte-level: one byte a character. Otherwise: UTF-8, with `▁` for one blank and `<0xNN>` for one byte. Where a
        tokenizer changes texts (case, Unicode form, a blank put before them), these bytes are not the text's own; see
        `ablate.text.dataset_cache.Packed.vocabulary`.
        """
        parts = json.loads(self.content)
        names, special = tokens_of(parts)
        separator, mask = self.separator, self.mask
        table = {id: name for name, id in names.items()}
        table = {**table, separator[1]: separator[0], mask[1]: mask[0]}
        symbols = tuple(table.get(i, "") for i in range(max(table) + 1))
        silent = {*special, separator[1], mask[1]}
        byte_level = "ByteLevel" in {*_kinds(parts.get("pre_tokenizer")), *_kinds(parts.get("decoder"))}
        entries = parts["model"]["vocab"]
        own = set(range(len(entries)) if isinstance(entries, list) else entries.values())
        # found in a text before its blanks become `▁`
        literal = {
            token["id"]
            for token in parts.get("added_tokens") or []
            if byte_level or not (token.get("normalized") or token["id"] in own)
        }
        prefix = parts["model"].get("continuing_subword_prefix")
        prefix = prefix if isinstance(prefix, str) else ""

        def size(id: int, symbol: str) -> int:
            if id in silent:
                return 0
            if id in literal:
                return len(symbol.encode())
            return len(symbol) if byte_level else _bytes_of(symbol.removeprefix(prefix))

        return Vocabulary(symbols, mask_id=mask[1], bytes_V=tuple(size(i, symbol) for i, symbol in enumerate(symbols)))

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text alone: no separator, no template of the checkpoint's.

        Raises ValueError for a text that the tokenizer fails on, does not come to an end with, or makes the separator
        or MASK of.
        """
        tokenizer, seconds = _loaded(self), PATIENCE + sum(map(len, texts)) / SLOWEST
        found = _tried("a text of the corpus", seconds, lambda: tokenizer.encode_batch_fast(texts, False, False))
        rows = [encoding.ids for encoding in found]
        for name, (token, id) in (("separator", self.separator), ("mask_token", self.mask)):
            if any(id in row for row in rows):
                raise ValueError(
                    f"corpus.{name}: wanted a token that no text has, got {token!r:.40}, which texts are made of; "
                    f"type corpus.{name}=TOKEN"
                )
        return rows

    @functools.cached_property
    def opening(self) -> tuple[int, ...]:
        """Ids that the checkpoint's template puts before a text, such as its BOS."""
        found = _loaded(self).encode("a", add_special_tokens=True)
        first = itertools.takewhile(lambda pair: pair[1], zip(found.ids, found.special_tokens_mask, strict=True))
        return tuple(id for id, _ in first)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids; the separator and MASK as they are named."""
        tokenizer, beside = _loaded(self), {self.separator[1]: self.separator[0], self.mask[1]: self.mask[0]}
        parts = [(is_beside, [*part]) for is_beside, part in itertools.groupby(map(int, ids), beside.__contains__)]
        return "".join(
            "".join(beside[i] for i in part) if is_beside else tokenizer.decode(part, skip_special_tokens=False)
            for is_beside, part in parts
        )


def trained(texts: Iterable[str], tokens: int) -> TextTokenizer:
    """Byte-level BPE of at most `tokens` tokens, the separator included; MASK comes after them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=tokens - 1, initial_alphabet=alphabet, show_progress=False)
    # training is quadratic in the length of a word, and base64 or minified text is one word
    tokenizer.train_from_iterator((LONG_WORD.sub(r"\g<0> ", text) for text in texts), trainer)
    size = tokenizer.get_vocab_size()
    return TextTokenizer(tokenizer.to_str(), (SEPARATOR, size), (MASK, size + 1))


def checkpoint_tokenizer(path: str, separator: str = "", mask: str = "") -> TextTokenizer:
    """The tokenizer of a tokenizer.json, or of the folder that holds one, with what the files beside it say.

    separator, mask: names of tokens; where empty, the checkpoint's end of text and its MASK, else an id after its last.
    Raises ValueError for a file that is absent or no tokenizer, and for tokens that it does not have.
    """
    file = path_of("corpus.tokenizer", path)
    file = file / "tokenizer.json" if file.is_dir() else file
    try:
        parts = read_json(file, TOKENIZER)
        names, _ = tokens_of(parts)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or f"it is no tokenizer.json: {error}"
        raise ValueError(
            f"corpus.tokenizer: wanted a tokenizer.json or its folder, got {file} ({reason}); try corpus.tokenizer=PATH"
        ) from None
    said = {name: _said(file.parent / name) for name in BESIDE}
    end = _named(names, "separator", separator, file) if separator else _end(names, said, file)
    hole = _named(names, "mask_token", mask, file) if mask else _mask(names, said)
    if end[1] == hole[1]:
        raise ValueError(
            f"corpus.mask_token: wanted another token than the separator, got {hole[0]!r} for both; "
            "try corpus.separator=TOKEN or corpus.mask_token=TOKEN"
        )
    made = TextTokenizer(_settled(parts, {end[0], hole[0]}), end, hole)
    fault = fault_of(made.content)
    if fault:
        raise ValueError(f"corpus.tokenizer: {file} cannot be used ({fault})")
    added = {token["id"] for token in parts.get("added_tokens") or []}  # encode does not look for these
    own = [id for _, id in (end, hole) if id in names.values() and id not in added]
    made.encode(_tried("a token of its own", PATIENCE, lambda: [_loaded(made).decode([id], False) for id in own]))
    return made


def _tried(what: str, seconds: float, work: Callable[[], Result]) -> Result:
    """What the library makes of it. Raises ValueError where it fails, panics or does not come to an end."""
    try:
        return within(seconds, work)
    except Exception as error:  # the library raises plain Exceptions
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"corpus.tokenizer: it fails on {what} ({reason})") from None


def _end(names: dict[str, int], said: dict[str, dict[str, Any]], file: Path) -> tuple[str, int]:
    by_id = {id: name for name, id in names.items()}
    for place, settings in said.items():
        value = settings.get("eos_token_id", settings.get("eos_token"))
        value = value[0] if isinstance(value, list) and value else value
        value = value.get("content") if isinstance(value, dict) else value
        if value is None:
            continue
        if isinstance(value, int) and not isinstance(value, bool) and value in by_id:
            return by_id[value], value
        if isinstance(value, str) and value in names:
            return value, names[value]
        raise ValueError(
            f"corpus.separator: {file.parent / place} names {value!r:.60} as its end of text, which is no "
            f"token of {file}; try corpus.separator=TOKEN"
        )
    found = [name for name in ENDS if name in names]
    if len(found) != 1:
        several = f", which may be {' or '.join(found)}" if found else ""
        typed = f"\"corpus.separator='{found[0]}'\"" if found else "corpus.separator=TOKEN"
        raise ValueError(
            f"corpus.separator: {file} and the files beside it name no end of text{several}; try {typed}, or let "
            f"{file.parent / BESIDE[0]} say its eos_token_id"
        )
    return found[0], names[found[0]]


def _mask(names: dict[str, int], said: dict[str, dict[str, Any]]) -> tuple[str, int]:
    """The checkpoint's MASK, else one with the next id. Its id may have no token: some checkpoints leave rows free."""
    config = said["config.json"]
    key = next((key for key in ("mask_token_id", "mask_id") if config.get(key) is not None), None)
    if key is not None:
        id = config[key]
        require_id(id, f"corpus.tokenizer: {key} of the config.json beside it")
        return next((name for name, i in names.items() if i == id), MASK), id
    found = next((name for name in MASKS if name in names), None)
    return (found, names[found]) if found else (MASK, max(names.values()) + 1)


def _named(names: dict[str, int], field: str, token: str, file: Path) -> tuple[str, int]:
    if token not in names:
        raise ValueError(f"corpus.{field}: wanted a token of {file}, got {token!r}; leave it out, or type one of them")
    return token, names[token]


def _said(path: Path) -> dict[str, Any]:
    """What a checkpoint's settings say; nothing where they are absent. Raises ValueError where they cannot be read."""
    if not path.exists():
        return {}
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"corpus.tokenizer: {path} cannot be read ({reason})") from None
    return content if isinstance(content, dict) else {}


def _settled(parts: dict[str, Any], reserved: set[str]) -> str:
    """The tokenizer.json without truncation and padding; separator and MASK count as special, so no text gives them."""
    parts = parts | {"truncation": None, "padding": None}
    for token in parts.get("added_tokens") or []:
        token["special"] = token["special"] or token["content"] in reserved
    return json.dumps(parts, ensure_ascii=False)


def _kinds(part: Any) -> Iterator[str]:
    """Types of a component and of those that it consists of."""
    if isinstance(part, dict):
        yield str(part.get("type"))
        for inner in (part.get("pretokenizers"), part.get("decoders")):
            for one in inner if isinstance(inner, list) else ():
                yield from _kinds(one)


def _bytes_of(symbol: str) -> int:
    return 1 if BYTE.fullmatch(symbol) else len(symbol.replace("▁", " ").encode())


@functools.lru_cache(maxsize=2)
def _loaded(tokenizer: TextTokenizer) -> Tokenizer:
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_str(tokenizer.content)
    loaded.encode_special_tokens = True
    return loaded
