"""The curves of the paper (Stable-DiffCoder, Figures 2 and 4), read off into the two CSV files, and ours beside them.
paper_training_dynamics.py is its training dynamics, paper_warmup.py its warmup. Edit the CSV files only where a
curve was read off wrongly."""
