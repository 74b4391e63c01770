"""Which tokens are masked, at which rate, and what a masked token counts.

New noise schedule or rate distribution: schedules.py. Stratification of t, guards, weights: masking.py (their names:
options.py). Closed forms that these are checked against: closed_forms.py.
"""
