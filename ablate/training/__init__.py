"""A run: from a configuration to a folder of results, resumable at every checkpoint.

Keys of a run: run_config.py, budget.py. The loop over stages: session.py, started by train.py, through
lightning_module.py. What each run has of its own where several train together: member.py; which can: pack.py. How many
checkpoints are kept: checkpoint_writer.py. What a finished run vouches for: run_files.py. Order of the data:
data_feed.py. What is evaluated: probe_plan.py. Progress bar: progress.py. The base model: base_model.py. manifest.json:
run_manifest.py.
"""
