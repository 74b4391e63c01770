"""Every test of this folder has the marker `torture`; one that has passed in an earlier sitting is not run again."""

import os
from pathlib import Path

import pytest

from tests.torture import counts

RESUME = "TORTURE_RESUME"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    passed = counts.done(counts.FILE.read_text().splitlines()) if os.environ.get(RESUME) else set()
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("torture")
    items[:] = [item for item in items if item.nodeid not in passed]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    main = "PYTEST_XDIST_WORKER" not in os.environ
    if main and "TORTURE_COUNTS" in os.environ and report.when == "call" and report.passed:
        counts.write({"done": report.nodeid})
