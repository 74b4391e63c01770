"""What worlds share that change how another one is read: its vocabulary and splits, and which of its parts is meant."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, ClassVar

from ablate.core.corpus import Domain, Split, Vocabulary, choice_of, split_of


class Wrapped:
    """A world around another one, `corpus`. domain, split: where given, are put into it."""

    name: ClassVar[str]
    corpus: Any
    domain: Domain | None
    split: Split | None

    def _settle(self) -> None:
        """Agrees with the world inside on domain and split. Raises ValueError for what is no world."""
        if self.corpus is None or isinstance(self.corpus, str):
            raise ValueError(
                f"{self.name}: wanted a world, got {self.corpus!r}; try corpus.corpus.operations=4 on the command line"
            )
        self.domain = choice_of(Domain, "domain", self.domain or self.corpus.domain)
        self.split = split_of(self.corpus.name, self.split or self.corpus.split, self.corpus.splits)
        if (self.domain, self.split) != (self.corpus.domain, self.corpus.split):
            self.corpus = dataclasses.replace(self.corpus, domain=self.domain, split=self.split)

    @property
    def splits(self) -> tuple[Split, ...]:
        return self.corpus.splits

    @property
    def vocabulary(self) -> Vocabulary:
        return self.corpus.vocabulary

    @property
    def length(self) -> int:
        return self.corpus.length

    @property
    def empirical(self) -> None:
        """None: what is listed is the world inside, as it is."""
        return None

    def stale(self, n: int, seed: int) -> None:
        return None

    def _hash(self, *said: object) -> str:
        """Fingerprint, from the wrapper's own fields and the world inside."""
        own = " ".join(map(repr, said))
        return hashlib.sha256(f"{self.name} {own} {self.corpus.fingerprint()}".encode()).hexdigest()[:16]
