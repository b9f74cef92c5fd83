"""How much longer attention takes over space and time at once than in turns, for chapter 6.

    python tools/measure/attention_cost.py --threads 1

What is timed are scores and means alone, by PyTorch's own kernel: one row of all places of all frames, against a row
for each frame and then a row for each place. It is the processor's time; the two alternate, and the shortest of each
counts, since other work on the machine can only add to it. Writes ``vdmlib/small/shipped/attention_cost.json``.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

FILE = Path(__file__).resolve().parents[2] / "vdmlib/small/shipped/attention_cost.json"
ABOUT = (
    "Seconds of processor time of attention (scores and means, 2 heads of 32 numbers, float32), over all places of all "
    "frames at once and in turns: over the places of each frame, then over the frames of each place. The shortest of "
    "several."
)
SHAPES = [(64, f) for f in (1, 2, 4, 8, 16, 32, 64)] + [(256, f) for f in (1, 2, 4, 8, 16, 32, 64)]  # places, frames


def seconds(rows: int, tokens: int) -> float:
    """The processor's time for attention in so many rows of tokens, once."""
    q, k, v = torch.randn(3, rows, 2, tokens, 32)
    begin = time.process_time()
    F.scaled_dot_product_attention(q, k, v)
    return time.process_time() - begin


@torch.no_grad()
def measure(places: int, frames: int, repeat: int) -> dict[str, float]:
    """The shortest times, full and in turns, after a first run of both that does not count."""
    full = in_turns = math.inf
    for number in range(repeat + 1):
        at_once = seconds(1, frames * places)
        one_by_one = seconds(frames, places) + seconds(places, frames)
        if number:
            full, in_turns = min(full, at_once), min(in_turns, one_by_one)
    return {"places": places, "frames": frames, "full": full, "in turns": in_turns}


def machine() -> str:
    """The processor, as far as the system tells."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=9, help="pairs of which the shortest times count")
    parser.add_argument("--file", type=Path, default=FILE, help="where to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    runs = []
    for places, frames in SHAPES:
        runs.append(measure(places, frames, options.repeat))
        derived, measured = frames * places / (frames + places), runs[-1]["full"] / runs[-1]["in turns"]
        print(f"{frames:2} frames of {places} places: derived {derived:.1f}, measured {measured:.1f}", flush=True)
    found = {
        "about": ABOUT,
        "command": f"python tools/measure/attention_cost.py --threads {options.threads} --repeat {options.repeat}",
        "machine": machine(),
        "threads": options.threads,
        "torch": torch.__version__,
        "runs": runs,
    }
    options.file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
