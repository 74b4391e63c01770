"""Where and how a step is computed, and what it takes.

Device and precision: device.py. Several processes: distributed.py. Compiling, recomputing, sharding: execution.py. One
training step: train_step.py, optimizer.py. What a run takes before it starts: training_plan.py, memory.py, flops.py.
"""
