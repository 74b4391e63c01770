"""The torture suite: kills, full disks, damage and strangers' files, counted. `python -m tests.torture --rounds 100`.

warm.py forks a command out of a process that has loaded everything, operations.py counts its file operations and ends
it at one of them, commands.py has the smallest command of each kind and what it must leave, counts.py writes how many
cases each part tried and lost. A new command is added in commands.py.
"""
