"""Finished runs: run_folder.py reads one back from its folder, evaluation.py says what is asked of it, measure.py
decodes its questions under protocols and measures bounds on moved grids, table.py is what the terminal shows.

What one writes: generation.py says what is asked, writer.py reads a run or a checkpoint's folder with its symbols,
live_view.py shows answers while they are revealed."""
