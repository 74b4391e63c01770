"""What a result was made with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ablate.core.provenance import peak_memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    said = 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    assert said <= 1.1 * peak_memory()
    bytes_here = peak_memory()
    monkeypatch.setattr(sys, "platform", "darwin")  # whose unit is the byte
    assert peak_memory() == pytest.approx(bytes_here / 1024, rel=0.1)
