"""Figures of surveys, before any training: candidates_by_sampler.py (K(c) by context sampler), visits_and_mismatch.py (how
often contexts come back), learning_cost.py (what a table pays), tabular_and_network.py (the same beside networks).
Edit the file of the claim."""
