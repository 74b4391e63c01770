"""What has a name on the command line: regimes, corpora, model sizes, budgets, studies, search spaces. registry.py says
which names there are and which are defaults. Edit regimes.py for the order of objectives, studies.py for a study;
predictions.yaml holds what was predicted before the data."""
