"""Figures of masks and gradients: empty_blocks.py (blocks without a signal), clean_context.py (masked tokens that see their
parents), gradient_noise.py (variance by schedule). Rows come from experiments/no_signal.py and variance.py.
Edit the file of the claim."""
