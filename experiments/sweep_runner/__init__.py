"""A sweep by Optuna, carried out: search.py says what is asked, feasible_space.py drops impossible values,
trial_storage.py keeps trials, trial_worker.py works on them in processes of worker_processes.py; sweep_results.py
writes results/, sweep_report.py is what the terminal shows."""
