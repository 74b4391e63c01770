"""Facts about people, after bioS (Allen-Zhu & Li, 2023, Physics of language models 3.1):

    <bos>Bana Del Foston was born in town7. studied at _ school3. was trained in subject0. works for _ firm12.

A record is a name of three tokens and one statement for each attribute: a wording of fixed width, a value, a stop.
With `choices=M` M values of an attribute are true of a person, of which a record says one, each as often: a context of
the same kind, met as often, then has K = M answers.
With `reversed` the statements come before the name. The general and the new domain share words, names and values, but
not one person. Three wordings say an attribute. Person p, attribute a and wording t are held out where
p + a + t = 0 modulo 3: training never says this fact about this person in these words, and says it in two others.

Splits. train: two wordings. test: the held-out one. reversed: the records of train in the other order, that is with
statements and name exchanged. unseen: people of whom training never speaks; their values are drawn afresh in every
record, so the truth is the prior and no learner beats 1 / values: a control that must fail. whole: all wordings.

Questions ask for what a record ends in: the values, given name and wordings; or the name, given the statements, where
the name of anyone in this domain of whom all statements are true is right, whatever the wording. Unseen people have no
facts of their own, so there only the record's own name is right.

`unique=N` lists N records of the train split, and training draws from these alone: `oracle` stays exact for the split
that they were drawn from, p_0, and `empirical` is exact for the list. Questions and all other splits keep p_0: there is
no finite list of what is held out, and `empirical` is None.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ablate.core.corpus import Domain, Query, Split, Vocabulary, choice_of, split_of
from ablate.core.rng import uniform
from ablate.core.storage import LATER
from synthetic_data.engine.finite_list import listed_oracle
from synthetic_data.engine.oracle import ChainOracle, Clique
from synthetic_data.worlds.people import (
    PAD,
    WORDINGS,
    Places,
    T,
    W,
    name_numbers,
    name_pools,
    places,
    value_numbers,
    wording_symbols,
    wordings_allowed,
)
from synthetic_data.worlds.world import WORLD, fingerprint, require_fields, require_rows

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
ROWS = 20_000  # of an oracle's largest clique: each is swept for every view


@dataclass
class Facts:
    """Records of people and what is true of them, in fixed wordings.

    Shapes: P people, A attributes, M choices, T wordings, W words, C wordings allowed by the split. people: of each
    domain. attributes: of a person. values: of an attribute. reversed: the name comes last. unique: number of training
    records, 0 for fresh ones. choices: values of an attribute that are true of a person. Raises ValueError for sizes
    out of range.
    """

    name: ClassVar[str] = "facts"
    splits: ClassVar[tuple[Split, ...]] = (Split.train, Split.test, Split.reversed, Split.unseen, Split.whole)
    people: int = 500
    attributes: int = 4
    values: int = 20
    reversed: bool = False
    unique: int = 0
    world: int = 0
    domain: Domain = Domain.new
    split: Split = Split.train
    choices: int = field(default=1, metadata=LATER)

    def __post_init__(self) -> None:
        self.domain, self.split = choice_of(Domain, "domain", self.domain), split_of(self.name, self.split, self.splits)
        require_fields(self, attributes=(1, len(WORDINGS)), values=(2, 200), reversed=(False, True), world=WORLD)
        for name in ("people", "unique"):
            require_rows(self, getattr(self, name), ROWS, f"corpus.{name}={ROWS}")
        require_fields(self, people=(1, ROWS), unique=(0, ROWS), choices=(1, self.values))
        require_rows(self, self.people * self.choices**self.attributes, ROWS, "corpus.choices=1")

    @property
    def length(self) -> int:
        return 4 + self.attributes * (W + 2)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        words = sorted({word for wordings in self._wordings for phrase in wordings for word in phrase} - {PAD})
        names = [name for pool in name_pools(self.people) for name in pool]
        values = [f"{attribute}{i}" for attribute in list(WORDINGS)[: self.attributes] for i in range(self.values)]
        symbols = ("<bos>", PAD, ". ", *words, *names, *values, "<mask>")
        return Vocabulary(symbols, mask_id=len(symbols) - 1)

    @cached_property
    def oracle(self) -> ChainOracle:
        """Exact for p_0, the distribution that records are drawn from, listed or not."""
        at = self._places
        bos, stop = self.vocabulary.ids(["<bos>", ". "])
        constants = Clique((0, *at.stop_A), np.array([[bos, *[stop] * self.attributes]]))
        kinds, width = min(T, self.people), self._allowed_TAC.shape[2]
        kind_R = np.repeat(np.arange(kinds), width)
        said = [
            Clique(tuple(at.wording_AW[a]), wordings_TW[self._allowed_TAC[:kinds, a].ravel()], kind_R, kind_R)
            for a, wordings_TW in enumerate(self._wordings_ATW)
        ]
        who, *free = self._people()
        return ChainOracle([[constants], [who, *said], *([value] for value in free)], self.length, self.vocabulary)

    @cached_property
    def listed_NL(self) -> Array | None:
        """The training records, (N, L), each addressed by the world; None where they are fresh."""
        if not self.unique or self.split is not Split.train:
            return None
        return self._draw(range(self.unique), self.world, f"facts/record/{self.domain}")

    @cached_property
    def empirical(self) -> ChainOracle | None:
        """Exact for the listed training records; None where they are fresh, and for every other split."""
        return None if self.listed_NL is None else listed_oracle(self.listed_NL, self.vocabulary)

    def batch(self, indices: Sequence[int] | Array, seed: int) -> Tensor:
        import torch

        stream = f"facts/train/{self.domain}/{self.split}"
        if self.listed_NL is None:
            return torch.from_numpy(self._draw(indices, seed, stream))
        u_B = uniform(seed, stream, np.asarray(indices)).numpy()
        return torch.from_numpy(self.listed_NL[np.floor(u_B * self.unique).astype(np.int64)])

    def queries(self, n: int, seed: int) -> Query:
        import torch

        tokens_BL = torch.from_numpy(self._draw(range(n), seed, f"facts/queries/{self.domain}/{self.split}"))
        at = self._places
        asked, verify = (at.name, self._name_is_right) if self._name_last else (at.value_A, self._values_are_right)
        answer_BL = torch.zeros_like(tokens_BL, dtype=torch.bool)
        answer_BL[:, asked] = True
        return Query(tokens_BL, answer_BL, lambda decoded_BL: verify(tokens_BL, decoded_BL))

    def stale(self, n: int, seed: int) -> None:
        return None

    def fingerprint(self) -> str:
        return fingerprint(self)

    def _people(self) -> list[Clique]:
        """One row a person with values, whose state is all that wordings depend on: p mod T. Unseen people's values
        stand apart."""
        at, kind_P = self._places, np.arange(self.people) % T
        if self.split is Split.unseen:
            pools_VA = self._value_ids(np.arange(self.values)[:, None])
            free = [Clique((at.value_A[a],), pools_VA[:, [a]]) for a in range(self.attributes)]
            return [Clique(tuple(at.name), self._names_P3, target_R=kind_P), *free]
        said_RA = np.array(list(itertools.product(range(self.choices), repeat=self.attributes)))
        values_PRA = np.stack([self._values_PAM[:, np.arange(self.attributes), said_A] for said_A in said_RA], axis=1)
        names_PR3 = np.broadcast_to(self._names_P3[:, None], (self.people, len(said_RA), 3))
        known = np.concatenate((names_PR3, values_PRA), axis=2).reshape(self.people * len(said_RA), -1)
        return [Clique((*at.name, *at.value_A), known, target_R=np.repeat(kind_P, len(said_RA)))]

    def _values_are_right(self, tokens_BL: Tensor, decoded_BL: Tensor) -> Tensor:
        """Any value that is true of the person who is named is right; of an unseen person, the record's own."""
        import torch

        decoded_BA = decoded_BL[:, self._places.value_A]
        right_BA = decoded_BA == tokens_BL[:, self._places.value_A]
        if self.split is not Split.unseen and self.choices > 1:
            person = {tuple(ids): p for p, ids in enumerate(self._names_P3.tolist())}
            named_B = [person[tuple(ids)] for ids in tokens_BL[:, self._places.name].tolist()]
            true_BAM = torch.from_numpy(self._values_PAM[named_B])
            right_BA = (decoded_BA[..., None] == true_BAM).any(-1)
        return right_BA.double().mean(1)

    def _name_is_right(self, tokens_BL: Tensor, decoded_BL: Tensor) -> Tensor:
        at = self._places
        right_B = (decoded_BL == tokens_BL)[:, at.name].all(1)
        if self.split is not Split.unseen:
            person = {tuple(ids): p for p, ids in enumerate(self._names_P3.tolist())}
            for b, ids in enumerate(decoded_BL[:, at.name].tolist()):
                stated = tokens_BL[b, at.value_A].numpy()
                right_B[b] = tuple(ids) in person and self._are_true(person[tuple(ids)], stated)
        return right_B.double()

    def _are_true(self, person: int, stated_A: Array) -> bool:
        return bool((self._values_PAM[person] == stated_A[:, None]).any(-1).all())

    @property
    def _name_last(self) -> bool:
        return self.reversed != (self.split is Split.reversed)

    @property
    def _places(self) -> Places:
        return places(self.attributes, self._name_last)

    @cached_property
    def _wordings(self) -> list[list[list[str]]]:
        return wording_symbols(self.attributes)

    @cached_property
    def _wordings_ATW(self) -> Array:
        """Token ids of the wordings."""
        return np.array([[self.vocabulary.ids(phrase) for phrase in wordings] for wordings in self._wordings])

    @cached_property
    def _allowed_TAC(self) -> Array:
        return wordings_allowed(self.attributes, self.split)

    @cached_property
    def _names_P3(self) -> Array:
        """Token ids of the names of this split's people."""
        group = 2 if self.split is Split.unseen else list(Domain).index(self.domain)
        pools = name_pools(self.people)
        first_id = self.vocabulary.ids([pool[0] for pool in pools])
        return np.asarray(first_id) + name_numbers(self.people, self.world)[group]

    @cached_property
    def _values_PAM(self) -> Array:
        """Token ids of what is true of this domain's people."""
        sizes = self.people, self.attributes, self.values, self.choices
        return np.moveaxis(self._value_ids(np.moveaxis(value_numbers(*sizes, self.world, self.domain), 1, -1)), -1, 1)

    def _value_ids(self, numbers: Array) -> Array:
        """(..., A) token ids of values by number; an attribute's pool follows the one before it."""
        first_id = self.vocabulary.mask_id - self.values * np.arange(self.attributes, 0, -1)
        return first_id + numbers

    def _draw(self, indices: Sequence[int] | Array, seed: int, stream: str) -> Array:
        """(B, L) records of p_0."""
        count, allowed_TAC = self.attributes, self._allowed_TAC
        u = uniform(seed, stream, np.asarray(indices), (1 + 2 * count,)).numpy()
        person_B = np.floor(u[:, 0] * self.people).astype(np.int64)
        choice_BA = np.floor(u[:, 1 : 1 + count] * allowed_TAC.shape[2]).astype(np.int64)
        wording_BA = allowed_TAC[person_B[:, None] % T, np.arange(count), choice_BA]
        at = self._places
        tokens = np.empty((len(u), self.length), dtype=np.int64)
        tokens[:, 0], stop = self.vocabulary.ids(["<bos>", ". "])
        tokens[:, at.stop_A] = stop
        tokens[:, at.name] = self._names_P3[person_B]
        tokens[:, at.wording_AW] = self._wordings_ATW[np.arange(count), wording_BA]
        if self.split is Split.unseen:
            tokens[:, at.value_A] = self._value_ids(np.floor(u[:, 1 + count :] * self.values).astype(np.int64))
        else:
            said_BA = np.floor(u[:, 1 + count :] * self.choices).astype(np.int64)
            tokens[:, at.value_A] = self._values_PAM[person_B[:, None], np.arange(count), said_BA]
        return tokens
