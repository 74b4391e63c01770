"""Tables of results: run_report.py at the end of a run, warmup_effects.py for the study warmup, clean_context_share.py
for no_signal. Each computes rows; the command prints them. Edit the file of that name for a column or a line of its
table."""
