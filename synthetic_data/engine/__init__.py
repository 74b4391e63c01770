"""Exact inference, which knows no world: semiring.py (sums and maxima of logarithms), clique.py (local factors), chain.py
(cliques in a row), finite_list.py (a world that is a list), oracle.py (posteriors under any mask). Edit oracle.py for
what can be asked."""
