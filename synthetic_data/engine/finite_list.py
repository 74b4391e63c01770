"""Exact inference for a finite list of sequences: what a learner that only ever sees these can know at best.

Shapes: N records, L positions, R different records.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ablate.core.corpus import Vocabulary
from synthetic_data.engine.oracle import ChainOracle, Clique

Array = np.ndarray[Any, Any]


def listed_oracle(records_NL: Array, vocabulary: Vocabulary) -> ChainOracle:
    """Exact oracle of the uniform distribution over listed records; a record that is listed twice counts twice.

    Raises ValueError for no records; the oracle itself refuses contexts that agree with none, naming the row.
    """
    if not len(records_NL):
        raise ValueError("listed_oracle: wanted at least one record, got none")
    rows_RL, times_R = np.unique(records_NL, axis=0, return_counts=True)
    length = rows_RL.shape[1]
    whole = Clique(tuple(range(length)), rows_RL, weight_R=times_R.astype(np.float64))
    return ChainOracle([[whole]], length, vocabulary)
