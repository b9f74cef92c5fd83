"""What the measuring commands share: time, peak memory, and a table of the results."""

import contextlib
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import vdmlib


def machine_name(device: torch.device) -> str:
    """What measured: a GPU's name, or how many threads of a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)}"


class PeakMemory(contextlib.AbstractContextManager):
    """Bytes in use above those at the start: the allocator's count on a GPU, resident pages on a CPU (Linux)."""

    def __init__(self, device: torch.device):
        self.device, self.bytes = device, None

    def __enter__(self):
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._start = torch.cuda.memory_allocated(self.device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # Resets the high-water mark of resident memory.
            self._start = _resident("VmRSS")
        return self

    def __exit__(self, *_):
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._start
        elif self._start is not None:
            self.bytes = _resident("VmHWM") - self._start


def _resident(field: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return None


def allocated_peak(run: Callable[[], object]) -> int:
    """Bytes on the CPU, above those at the start, from the allocator's own account of the run."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    now = peak = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def median_time(run: Callable[[], object], repeat: int, device: torch.device) -> float:
    """Seconds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class StepTimer:
    """A callback for a sampler; afterwards ``seconds`` is the median time from one step to the next."""

    def __init__(self, device: torch.device):
        self.device, self.stamps = device, []

    def __call__(self, step: vdmlib.SamplingStep) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.stamps.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        return statistics.median(b - a for a, b in pairwise(self.stamps))


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys under a header."""
    cells = [list(rows[0]), *([f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True)) for row in cells)
