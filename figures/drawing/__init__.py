"""What all figures share: style.py has colours, sizes and saving, arms.py groups rows by regime and seed, curves.py draws
them with intervals, sampler_labels.py names context samplers, figure_rows.py finds the rows of a figure. Edit style.py
for how every figure looks."""
