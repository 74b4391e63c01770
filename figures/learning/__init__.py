"""Figures of runs, studies and sweeps: training_dynamics.py and excess_bits.py by step, outcomes_by_arm.py at the end,
warmup_dynamics.py for the warmup, prediction_verdicts.py for what was predicted, sweep_map.py and
parameter_importance.py for sweeps, reveal_order.py for one answer. Edit the file of the claim."""
