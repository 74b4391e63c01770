"""Controlled comparisons: arms that differ in one factor, predictions written before the data, verdicts after.

What a study is: design.py; what is proved before it starts: control.py. From curves to numbers: outcomes.py.
Predictions and verdicts: predictions.py. Values that a sweep may take: search_space.py.
Who works off the runs: job_queue.py; what one is: job.py.
"""
