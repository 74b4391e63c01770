"""Laws, not snapshots. The packages mirror those under test; brute-force oracles lie beside what they check."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
