"""A controlled study, carried out: assignment.py says what is asked, plan_runs.py makes runs of it, kept_results.py
writes results/, study_progress.py is what the terminal shows. The queue of runs itself is
ablate/studies/job_queue.py."""
