"""Claim: which contexts an objective learns is seen in the bits it spends there beyond the exact oracle."""

import pandas as pd
from matplotlib.figure import Figure

from figures.drawing import arms, curves

LAWS = ["ar", "random", "block"]


def draw(rows: pd.DataFrame, domain: str = "new") -> Figure:
    """Excess bits per token, log axis, against training steps: a panel per context sampler and block size.

    ValueError where the rows hold none (real text has no oracle) or mix corpora or two runs of one seed.
    """
    chosen = select(rows, domain)
    keys = sorted(
        arms.panels(chosen), key=lambda key: (LAWS.index(key[0]) if key[0] in LAWS else len(LAWS), key[0], key[1])
    )
    note = "Divergence of a model from the exact posterior given the same context (Kullback-Leibler)."
    return curves.figure(chosen, keys, "Bits a token\nabove the oracle", log=True, note=note)


def select(rows: pd.DataFrame, domain: str = "new") -> pd.DataFrame:
    """Excess bits where they measure knowledge: contexts of decoding on held-out questions, whole sequences on fresh
    ones of the training split, whose law is the one that training shows."""
    rows = rows[rows["contexts"] != "bound"]  # its ends, AR and random masks, say enough in a picture
    block = rows["contexts"] == "block"
    wanted = (rows["metric"] == "excess_bits") & (rows["domain"] == domain)
    parts = {"test": rows[block], "train": rows[~block]}
    if not any((wanted & (rows["split"] == split)).loc[part.index].any() for split, part in parts.items()):
        return arms.select(rows, "excess_bits", domain, "test")  # says what is missing
    return pd.concat(
        [
            arms.select(part, "excess_bits", domain, split)
            for split, part in parts.items()
            if (wanted & (rows["split"] == split)).loc[part.index].any()
        ],
        ignore_index=True,
    )
