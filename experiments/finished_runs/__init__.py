"""Finished runs: run_folder.py reads one back from its folder, evaluation.py says what is asked of it, measure.py
decodes its questions under protocols and measures bounds on moved grids, table.py is what the terminal shows.

Generation: generation.py says what is asked, loaded_model.py loads a run or a checkpoint's folder with its vocabulary,
live_view.py shows answers while they are revealed. Folders of checkpoints are scored by bits_per_byte.py.

Code benchmarks: code_evaluation.py says what is asked, code_samples.py has a model write programs, code_verdicts.py
judges them, code_scores.py does all of it; line_files.py keeps lines that survive a kill."""
