"""What all tests share."""

import os
import sys
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
import torch

# For torchvision, here and in every process that a test starts; the files there say why.
STARTUP = str(Path(__file__).parent / "helpers" / "startup")
sys.path.insert(0, STARTUP)
__import__("torchvision_operators")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (STARTUP, os.environ.get("PYTHONPATH"))))

# The same examples in every run, however slow the machine.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread for a worker and for every process that it starts; a thread that waits leaves the core to the other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_terminal_summary(terminalreporter):
    """What tests have measured, with ``record_property("measured", ...)``: under -q, what they print is not shown."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    for report in reports:
        if getattr(report, "when", "") == "call" and (what := dict(report.user_properties).get("measured")):
            terminalreporter.write_line(f"measured · {what}")


@pytest.fixture
def float64():
    """Networks, and golden inputs and weights, in float64: nothing is left that depends on the processor."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def unchecked():
    """The library as users have it, for tests of its own error sentences: without the run-time checks of shapes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
