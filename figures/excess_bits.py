"""Claim: which contexts an objective learns is seen in the bits it spends there beyond the exact oracle."""

import pandas as pd
from matplotlib.figure import Figure

from figures import arms, curves

LAWS = ["ar", "random", "block"]


def draw(rows: pd.DataFrame, domain: str = "new", split: str = "test") -> Figure:
    """Excess bits per token, log axis, against training steps: a panel per law of contexts and block size.

    ValueError where the rows hold none (real text has no oracle) or mix corpora or two runs of one seed.
    """
    chosen = arms.select(rows, "excess_bits", domain, split)
    keys = sorted(
        arms.panels(chosen), key=lambda key: (LAWS.index(key[0]) if key[0] in LAWS else len(LAWS), key[0], key[1])
    )
    return curves.figure(chosen, keys, "Bits per token above the oracle", log=True)
