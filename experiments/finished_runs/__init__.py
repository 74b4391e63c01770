"""Finished runs: run_folder.py reads one back from its folder, evaluation.py says what is asked of it, measure.py
decodes its questions under protocols and measures bounds on moved grids, table.py is what the terminal shows."""
