"""What a model knows: context samplers, metrics against the exact posterior, probes that yield rows.

New metric: metrics.py (a function of distributions), then probe_rows.py (its row). What is asked: probe.py. How
contexts are drawn: contexts.py. Means, quantiles and calibration over streams: streaming.py.
"""
