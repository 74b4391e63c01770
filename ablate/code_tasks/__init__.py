"""Code benchmarks: programs that a model wrote, and a sandbox that says which of them pass their tests.

Judging: sandbox.py, which starts launcher.py in namespaces.py; judged_process.py and wire.py part the solution from its
tests. What is asked: suites.py, out of files that code_problems.py reads. How often one is solved: pass_at_k.py.
"""
