"""What bench.py measures: train_speed.py and train_table.py (training steps by objective), step_speed.py (beside
transformers' Llama), run_speed.py (the main job), oracle_speed.py (exact posteriors), study_speed.py (a study, and
steps by pack size), step_profile.py (where a step's time goes); speed_guard.py compares with earlier files. Edit
bench_options.py for what can be typed, timing.py for how spread is told."""
