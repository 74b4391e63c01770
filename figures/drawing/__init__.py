"""What all figures share.

Colours, sizes, saving: style.py. Rows by regime and seed: arms.py. Curves with intervals: curves.py. Names of context
samplers: sampler_labels.py. Where the rows of a figure lie: figure_rows.py.
"""
