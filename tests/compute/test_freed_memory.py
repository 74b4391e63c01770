"""Memory that a step has freed is there for the next one, as far as the C library allows."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from ablate.compute.execution import keep_freed_memory

def step():
    for x in [torch.ones(2**18) for _ in range(8)]:
        x.add_(1)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def of_fifty():
    step()
    before = faults()
    for _ in range(50):
        step()
    return faults() - before

by_itself = of_fifty()
keep_freed_memory()
print(by_itself, of_fifty())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_steps_meet_no_page_faults():
    """Eight blocks of a megabyte are 2,048 pages a step, which glibc gives back by itself."""
    by_itself, kept = map(int, subprocess.check_output([sys.executable, "-c", STEPS], text=True).split())
    assert by_itself > 50 * 1024
    assert kept < 256
