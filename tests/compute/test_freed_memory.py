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

keep_freed_memory()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_fifty_steps_meet_fewer_page_faults_than_one_has_pages():
    """Eight blocks of a megabyte are 2,048 pages. By itself glibc may give them back at every step."""
    assert int(subprocess.check_output([sys.executable, "-c", STEPS], text=True)) < 2048
