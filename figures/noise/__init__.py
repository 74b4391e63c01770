"""Figures of masks and gradients, from rows of experiments/no_signal.py and variance.py.

Blocks without a masked token: empty_blocks.py. Masked tokens that see their parents: clean_context.py. Variance by
schedule: gradient_noise.py.
"""
