"""What corpora ask and what theory predicts, before and beside training.

A survey of a corpus: corpus_survey.py, on context_visits.py and context_mismatch.py. The null theory:
tabular_learner.py. Noise against its closed forms: noise_checks.py, block_loss_checks.py. Gradients:
gradient_variance.py, spikes.py. Tests and intervals: statistics.py.
"""
