"""People of the world `facts`: their names, what is true of them, and the wordings that say so.

Shapes: P people, A attributes, T wordings of an attribute, W words of a wording, C wordings allowed by a split.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ablate.core.corpus import Domain, Split
from ablate.core.rng import generator, uniform
from synthetic_data.worlds.held_out import accepted

Array = np.ndarray[Any, Any]
PAD = "_ "
WORDINGS = {
    "town": ("was born in", "comes from", "grew up in"),
    "school": ("studied at", "graduated from", "was taught at"),
    "subject": ("holds degrees in", "was trained in", "read"),
    "firm": ("works for", "is employed by", "has joined"),
    "city": ("lives in", "is based in", "moved to"),
    "language": ("speaks", "is fluent in", "writes letters in"),
}  # in the order of the statements
T = 3
W = max(len(wording.split()) for wordings in WORDINGS.values() for wording in wordings)
SYLLABLES = [consonant + vowel for consonant in "BDFGKLMNPRSTVZ" for vowel in "aeiou"]
ENDINGS = ("na ", "l ", "ston ")  # of a first, a middle and a last name


def wording_symbols(attributes: int) -> list[list[list[str]]]:
    """(A, T, W) words of the wordings of the first attributes, padded on the right."""
    kept = list(WORDINGS.values())[:attributes]
    words = [[[f"{word} " for word in wording.split()] for wording in wordings] for wordings in kept]
    return [[phrase + [PAD] * (W - len(phrase)) for phrase in phrases] for phrases in words]


def wordings_allowed(attributes: int, split: Split) -> Array:
    """(T, A, C) numbers of the wordings that a split allows for the people 0, 1 and 2 modulo T.

    Everybody has equally many: the reshape would fail for a rule without this property, which the oracle relies on.
    """
    person, attribute, wording = np.ogrid[:T, :attributes, :T]
    allowed_TAT = accepted((person + attribute + wording) % T, split)
    return np.nonzero(allowed_TAT)[2].reshape(T, attributes, -1)


class Places(NamedTuple):
    """Positions of a record's parts; <bos> is at 0."""

    name: Array
    wording_AW: Array
    value_A: Array
    stop_A: Array


def places(attributes: int, name_last: bool) -> Places:
    """Where things stand in a record: name, then statements, or the other way round."""
    statements = attributes * (W + 2)
    name, first = (1 + statements, 1) if name_last else (1, 4)
    at = first + np.arange(statements).reshape(attributes, W + 2)
    return Places(name + np.arange(3), at[:, :W], at[:, W], at[:, W + 1])


def name_pools(people: int) -> list[list[str]]:
    """First, middle and last names: enough for four times the people of three groups.

    So a first and a middle name leave the last name open where people are many, as real names do.
    """
    size = next(n for n in range(2, len(SYLLABLES) + 1) if n**3 >= 12 * people)
    return [[syllable + ending for syllable in SYLLABLES[:size]] for ending in ENDINGS]


def name_numbers(people: int, world: int) -> Array:
    """(3, P, 3) places in the three pools: different names for the general people, the new and the unseen ones."""
    size = len(name_pools(people)[0])
    order = generator(world, "facts/names").permutation(size**3)[: 3 * people]
    return np.stack(np.unravel_index(order, (size, size, size)), axis=-1).reshape(3, people, 3)


def value_numbers(people: int, attributes: int, values: int, choices: int, world: int, domain: Domain) -> Array:
    """(P, A, M) what is true of a domain's people, M = choices different values a fact: uniform, and the same for a
    person however many others there are, the first ones however many choices."""
    u_PAM = uniform(world, f"facts/values/{domain}", range(people), (choices * attributes,)).numpy()
    u_PAM = u_PAM.reshape(people, choices, attributes).transpose(0, 2, 1)
    number_PAM = np.floor(u_PAM * (values - np.arange(choices))).astype(np.int64)  # among those that are left
    for m in range(1, choices):
        for taken_PA in np.moveaxis(np.sort(number_PAM[..., :m], axis=-1), -1, 0):
            number_PAM[..., m] += number_PAM[..., m] >= taken_PA
    return number_PAM
