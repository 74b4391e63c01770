"""What all tests share: one thread a process, and trained runs that several tests read."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: xdist has a process for each core
