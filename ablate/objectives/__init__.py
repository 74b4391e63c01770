"""What a model is trained on: an objective corrupts a batch and poses a Problem; a regime puts objectives in order.

Next tokens: autoregressive.py. Masked diffusion: masked_diffusion.py. Blocks, clip, guard: block_diffusion.py. Several
objectives, one a step: in_turn.py. What all share (shift, document masks): problem.py. Stages, learning rates, mask
warmup: regime.py. The loss: loss.py.
"""
