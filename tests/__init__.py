"""Laws, not snapshots. The packages mirror those under test; brute-force oracles lie beside what they check."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: xdist has a process for each core
