"""Figures of surveys, before any training.

K(c) by context sampler: candidates_by_sampler.py. How often contexts come back: visits_and_mismatch.py. What a table
pays: learning_cost.py; the same beside networks: tabular_and_network.py.
"""
