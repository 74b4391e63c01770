"""Protocols of what is learned: Corpus, Oracle, Query.

Shapes: B sequences, L positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


Choice = TypeVar("Choice", bound=StrEnum)


class Domain(StrEnum):
    """What a corpus is about: `general` is learned by the base model, `new` by the arms."""

    general = "general"
    new = "new"


class Split(StrEnum):
    """Which part of a domain a corpus covers. Every corpus has the first two; its `splits` name the others it has.

    train: what is shown in training. test: held out by the corpus's own rule. longer: beyond anything shown, by length
    or depth. reversed: the same content in the other order. unseen: content that nothing shown speaks of, a control
    that must fail. whole: everything, before anything is held out.
    """

    train = "train"
    test = "test"
    longer = "longer"
    reversed = "reversed"
    unseen = "unseen"
    whole = "whole"


SPLITS = (Split.train, Split.test)  # every corpus has these


def choice_of(kind: type[Choice], field: str, value: str) -> Choice:
    """The member of an enumeration by its name. Raises ValueError, listing what there is, for others."""
    if value not in list(kind):
        names = list(kind)
        raise ValueError(
            f"corpus.{field}: wanted one of {', '.join(names)}; got {value!s}; try corpus.{field}={names[0]}"
        )
    return kind(value)


def split_of(corpus: str, split: Split | str, splits: Sequence[Split]) -> Split:
    """The split by its name. Raises ValueError, listing what there is, for one that the corpus does not have.

    corpus: its name, for the message. splits: those that it has.
    """
    if split not in splits:
        raise ValueError(f"corpus.split: {corpus} has {', '.join(splits)}; got {split!s}; try corpus.split={splits[0]}")
    return Split(split)


@dataclass(frozen=True)
class Vocabulary:
    """Symbols and their ids. `mask_id` is a field because checkpoints bring their own.

    `bytes_V` is the number of UTF-8 bytes that each token stands for (real text only; in the mean, where a tokenizer
    changes texts). `names` are the ids of symbols that may be exchanged for one another throughout a sequence.
    `boundary` is the id of the token that ends a document, where attention is limited to documents, else None; see
    `unscored` and `documents`. `symbols` has an entry for every id up to the largest one, "" for ids that no token has.
    """

    symbols: tuple[str, ...]
    mask_id: int
    bytes_V: tuple[float, ...] | None = None
    names: tuple[int, ...] = ()
    boundary: int | None = None

    @classmethod
    def unnamed(cls, tokens: int, mask_id: int | None = None, boundary: int | None = None) -> Vocabulary:
        """A vocabulary of `tokens` tokens without symbols. MASK is the last one where mask_id is None."""
        return cls(("",) * tokens, tokens - 1 if mask_id is None else mask_id, boundary=boundary)

    def __len__(self) -> int:
        return len(self.symbols)

    def ids(self, symbols: Sequence[str]) -> list[int]:
        """Ids of a sequence of symbols. Raises ValueError naming the first symbol that is not in the vocabulary."""
        index = {symbol: i for i, symbol in enumerate(self.symbols)}
        for place, symbol in enumerate(symbols):
            if symbol not in index:
                raise ValueError(f"Vocabulary.ids: {symbol!r} at place {place} is not among the {len(self)} symbols")
        return [index[symbol] for symbol in symbols]

    def text(self, ids: Sequence[int] | Tensor) -> str:
        """The symbols of a row of ids, joined."""
        return "".join(self.symbols[int(i)] for i in ids)


def unscored(tokens_BL: Tensor, boundary: int | None) -> Tensor:
    """(B, L) bool: tokens that are neither masked nor scored, since nothing of their document stands before them.

    Position 0 and, where `boundary` is the id of the token that ends a document, every position after one such. A
    boundary after a boundary is a document of its own, so boundaries that fill a window up are never scored.
    """
    import torch

    first_BL = torch.zeros_like(tokens_BL, dtype=torch.bool)
    first_BL[:, :1] = True
    if boundary is not None:
        first_BL[:, 1:] = tokens_BL[:, :-1] == boundary
    return first_BL


def documents(tokens_BL: Tensor, boundary: int | None) -> Tensor:
    """(B, L) int64: number of each token's document in its window, from 0; a boundary belongs to what it ends."""
    return unscored(tokens_BL, boundary).cumsum(1) - 1


@dataclass(frozen=True)
class Posterior:
    """Exact p_0(x_i | visible tokens) for every position at once; visible positions are one-hot.

    p_BLV: float64. support_BLV: bool, decided exactly, never by a threshold. log_evidence_B: nats,
    log p_0(visible tokens), float64.
    """

    p_BLV: Tensor
    support_BLV: Tensor
    log_evidence_B: Tensor


@dataclass(frozen=True)
class Query:
    """Questions with an exact verifier.

    tokens_BL: int64, sequences of the corpus. answer_BL: bool, the positions to be decoded; all others are the prompt.
    verify(decoded_BL) -> (B,) float64: share of each row's answer items that are right.
    """

    tokens_BL: Tensor
    answer_BL: Tensor
    verify: Callable[[Tensor], Tensor]

    def prompt(self, mask_id: int) -> Tensor:
        """The questions as a decoder receives them: the whole answer stands there as MASK."""
        return self.tokens_BL.masked_fill(self.answer_BL, mask_id)


@dataclass(frozen=True)
class Stale:
    """Contexts in which visible bindings are stale: overwritten by others, which are hidden.

    tokens_BL: int64 with MASK. asked_BL: bool, the hidden answer. stale_BL: int64, at asked positions the answer that
    the stale bindings would imply.
    """

    tokens_BL: Tensor
    asked_BL: Tensor
    stale_BL: Tensor


class Oracle(Protocol):
    """Exact inference for one split's distribution."""

    vocabulary: Vocabulary

    def posterior(self, tokens_BL: Tensor) -> Posterior:
        """Posterior given the visible tokens (MASK where unknown).

        Raises ValueError for tokens of the wrong shape, dtype or range, and for a context of probability 0
        (it names the row and the first offending position).
        """
        ...

    def log_evidence(self, tokens_BL: Tensor) -> Tensor:
        """log p_0(visible tokens), nats, (B,) float64; -inf for a context of probability 0, which is no error here."""
        ...

    def sample(self, tokens_BL: Tensor, rng: np.random.Generator) -> Tensor:
        """Completions drawn exactly from p_0(all | visible tokens): (B, L) int64."""
        ...


class Corpus(Protocol):
    """One distribution of sequences: a split of a domain. Implementations are dataclasses, so
    `dataclasses.replace(corpus, split=...)` works."""

    name: ClassVar[str]
    splits: ClassVar[tuple[Split, ...]]
    domain: Domain
    split: Split

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def length(self) -> int:
        """Tokens in a sequence, L."""
        ...

    @property
    def oracle(self) -> Oracle | None:
        """Exact for this very split, its held-out rule included; None for real text."""
        ...

    @property
    def empirical(self) -> Oracle | None:
        """Exact for the finite list that training draws from; None where every row is fresh."""
        ...

    def batch(self, indices: Sequence[int] | np.ndarray, seed: int) -> Tensor:
        """(B, L) int64; row i depends on (seed, indices[i]) alone."""
        ...

    def queries(self, n: int, seed: int) -> Query:
        """n questions, the same ones for every arm of a seed."""
        ...

    def stale(self, n: int, seed: int) -> Stale | None:
        """n contexts with stale bindings; None where nothing is ever bound again."""
        ...

    def fingerprint(self) -> str:
        """Hash of everything that determines the data; for real text, of the data itself."""
        ...
