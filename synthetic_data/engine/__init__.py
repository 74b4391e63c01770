"""Exact inference, which knows no world.

What can be asked: oracle.py. Sums and maxima of logarithms: semiring.py. Local factors: clique.py; in a row: chain.py.
A world that is a finite list: finite_list.py.
"""
