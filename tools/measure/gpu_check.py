"""Check a CUDA machine with a full-size model, and itself: one table, and the same numbers as JSON.

    python tools/measure/gpu_check.py --json gpu_check.json
    python tools/measure/gpu_check.py --model videocrafter1_i2v --steps 10
    python tools/measure/gpu_check.py --model videocrafter2 --device cpu --video 4 64 128 --checks loading precision
    python tools/measure/gpu_check.py --model videocrafter2 --device cpu --checks options --options fastest --steps 2

Four checks; the command ends with status 1 if one of them fails:

loading     writes files with the names, shapes and size of the released one, numbers drawn at random, loads them as
            from_checkpoint does, and compares every weight
options     for each memory option: time of a step, peak memory (on a CPU: what comes on top of the weights), and the
            estimate of vdmlib.estimate_memory
precision   one step in half precision against the same step in float32
compile     torch.compile on and off

Without a GPU the same is done at tiny size on the CPU.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

MODELS = ("videocrafter2", "videocrafter1_i2v", "tiny")
CHECKS = ("loading", "options", "precision", "compile")
OPTIONS = {
    "fastest": {},
    "guidance in turn": dict(guidance_in_one_batch=False),
    "sliced attention": dict(sliced_attention=True),
    "decode one frame": dict(decode_frames=1),
    "offload networks": dict(offload="networks"),
    "everything, offload blocks": dict(
        guidance_in_one_batch=False, decode_frames=1, sliced_attention=True, offload="blocks"
    ),
}
T4_LIMIT = 12e9  # Bytes: what must do for 16 × 320 × 512 with guidance in float16.


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, help="default: by device")
    parser.add_argument("--device", help="default: cuda if there is one, else cpu")
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=CHECKS, help="default: all")
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS), help="default: all")
    parser.add_argument("--steps", type=int, default=4, help="DDIM steps of each run, at least 2 (default: 4)")
    parser.add_argument(
        "--video", type=int, nargs=3, metavar=("FRAMES", "HEIGHT", "WIDTH"), help="default: the model's"
    )
    parser.add_argument("--backend", help="of torch.compile (default: inductor on a GPU, eager on a CPU)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file as well")
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error(f"--steps is {arguments.steps}: use 2 or more, since time is measured from one step to the next.")
    return arguments


if __name__ == "__main__":
    parse()  # What follows takes seconds: help and misspelt options are answered before.

import torch
from instruments import PeakMemory, StepTimer, allocated_peak, machine_name, table
from torch._dynamo.utils import counters

import vdmlib
from vdmlib.devices import choose_device
from vdmlib.released.memory import FASTEST, MemoryOptions
from vdmlib.released.names import checkpoint_names
from vdmlib.released.synthetic import SyntheticWeights, write

Row = dict[str, Any]


class Machine:
    """The device, what is sampled on it, and what passed.

    Attributes:
        passed: for each thing that was checked, whether it is as it should be.
    """

    def __init__(self, arguments: argparse.Namespace):
        self.passed: dict[str, bool] = {}
        self.device = choose_device(arguments.device)
        self.on_gpu = self.device.type == "cuda"
        self.model = arguments.model or ("videocrafter2" if self.on_gpu else "tiny")
        self.release = getattr(vdmlib.Release, self.model)()
        default = (self.release.frames, self.release.height, self.release.width)
        self.video = dict(zip(("frames", "height", "width"), arguments.video or default, strict=True))
        self.at_full_size = self.model != "tiny" and tuple(self.video.values()) == default
        self.steps = arguments.steps
        # A CPU computes in bfloat16 what it is slow at in float16.
        self.half = torch.float16 if self.on_gpu else torch.bfloat16
        self.dtype = self.half if self.on_gpu else torch.float32
        self.name = torch.cuda.get_device_name(self.device) if self.on_gpu else "CPU"

    def described(self) -> Row:
        return {
            "model": self.model,
            "device": machine_name(self.device),
            "torch": torch.__version__,
            "dtype": str(self.dtype),
            "video": list(self.video.values()),
            "steps": self.steps,
        }

    def load(self, path: Path, **changes) -> vdmlib.VideoCrafterPipeline:
        given = {"dtype": self.dtype, "device": self.device, "release": self.release, **changes}
        return vdmlib.VideoCrafterPipeline.from_checkpoint(path, self.release.kind, **given)

    def sample(self, pipe: vdmlib.VideoCrafterPipeline, **changes) -> torch.Tensor:
        image = torch.zeros(3, 64, 64) if self.release.kind == "i2v" else None
        settings = dict(image=image, steps=self.steps, guidance_scale=12.0, eta=0.0, seed=0, progress=False)
        return pipe("a sailing boat at sunset", **{**settings, **self.video, **changes})

    def timed(self, pipe: vdmlib.VideoCrafterPipeline) -> tuple[torch.Tensor, float, float]:
        """The video, seconds in all, and seconds from one step to the next."""
        timer, start = StepTimer(self.device), time.perf_counter()
        video = self.sample(pipe, callback=timer)
        return video, time.perf_counter() - start, timer.seconds

    def peak(self, pipe: vdmlib.VideoCrafterPipeline) -> tuple[int, int]:
        """Bytes in use, and set aside, at the peak of what ran last on a GPU; on a CPU of a step, without weights."""
        if self.on_gpu:
            return torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)
        return (allocated_peak(lambda: self.sample(pipe, steps=1)),) * 2  # Weights may lie in a mapped file.


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean difference of a pixel, as a share of the range of pixels."""
    return float((a - b).abs().mean()) / 2


def weights_in_place(pipe: vdmlib.VideoCrafterPipeline, weights: SyntheticWeights) -> int:
    """How many numbers of the file arrived where they belong; raises ValueError for the first that did not."""
    count = 0
    for network, names in checkpoint_names(pipe.networks).items():
        parameters = dict(getattr(pipe.networks, network).named_parameters())
        for ours, (theirs, _) in names.items():
            found = parameters[ours]
            if not torch.equal(found.cpu().flatten(), weights[theirs].flatten().to(found.dtype)):
                raise ValueError(f"{network}.{ours} is not what the file holds under {theirs}.")
            count += found.numel()
    return count


def loading(machine: Machine, folder: Path) -> tuple[Path, list[Row]]:
    """Write, load and compare: a ``.safetensors`` file, then a ``.ckpt``, which stays for the other checks."""
    weights, rows = SyntheticWeights(machine.release), []
    for suffix in ("safetensors", "ckpt"):
        for old in folder.iterdir():  # Two files of 10 GB need not fit.
            old.unlink()
        start = time.perf_counter()
        path = write(folder / f"model.{suffix}", weights)
        written = time.perf_counter()
        with PeakMemory(torch.device("cpu")) as peak:
            pipe = machine.load(path)
        loaded = time.perf_counter()
        count = weights_in_place(pipe, weights)
        rows.append(
            {
                "file": f".{suffix}",
                "GB": path.stat().st_size / 1e9,
                "tensors": len(weights),
                "seconds to write": written - start,
                "seconds to load": loaded - written,
                "peak of the process while loading, GB": (peak.bytes or 0) / 1e9,
                "numbers compared": count,
            }
        )
        machine.passed[f".{suffix}: every weight in its place"] = count == sum(
            parameter.numel() for network in pipe.networks.named().values() for parameter in network.parameters()
        )
        del pipe
    return path, rows


def options(machine: Machine, pipe: vdmlib.VideoCrafterPipeline, chosen: list[str]) -> tuple[torch.Tensor, list[Row]]:
    """The same video with each of the memory options."""
    rows, expected = [], None
    for name in chosen:
        pipe.memory = MemoryOptions(**OPTIONS[name])
        if machine.on_gpu:
            machine.sample(pipe, steps=1)  # Kernels are chosen and loaded here.
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(machine.device)
        video, seconds, per_step = machine.timed(pipe)
        estimate = vdmlib.estimate_memory(
            machine.release, pipe.memory, machine.dtype, device=machine.device, **machine.video
        )
        peak, reserved = machine.peak(pipe)
        estimated = estimate.peak if machine.on_gpu else max(estimate.activations.values())
        expected = video if expected is None else expected
        row = {
            "options": name,
            "seconds per step": per_step,
            "seconds in all": seconds,
            "peak GB": peak / 1e9,
            "reserved GB": reserved / 1e9,
            "estimate / measured": estimated / peak,
            "difference": difference(video, expected),
        }
        rows.append(row)
        machine.passed[f"{name}: finite, and the same video"] = (
            bool(video.isfinite().all()) and row["difference"] < 0.02
        )
        # What a GPU's libraries take comes on top of the estimate.
        most = 1.25 * estimated + 1e9 if machine.on_gpu else 1.15 * estimated
        machine.passed[f"{name}: the estimate fits"] = 0.85 * estimated < peak < most
    if machine.on_gpu and machine.at_full_size:
        machine.passed |= compared({row["options"]: row["peak GB"] for row in rows})
    pipe.memory = FASTEST
    return expected, rows


def compared(peaks: dict[str, float]) -> dict[str, bool]:
    """What the peaks (GB) of a full-size model on a GPU should be beside each other and beside a T4's memory."""
    passed = {"fastest: under 12 GB": peaks["fastest"] < T4_LIMIT / 1e9} if "fastest" in peaks else {}
    if peaks.keys() == OPTIONS.keys():
        fastest, networks, blocks = (peaks[n] for n in ("fastest", "offload networks", "everything, offload blocks"))
        passed["no option needs more than none"] = all(peak <= 1.02 * fastest for peak in peaks.values())
        passed["offload saves memory"] = blocks < networks < fastest
    return passed


def precision(machine: Machine, path: Path) -> dict[str, float]:
    """One step in half precision and in float32; with guidance every rounding error would be amplified 12 times."""
    videos = []
    for dtype, memory in ((machine.half, FASTEST), (torch.float32, replace(FASTEST, offload="blocks"))):
        pipe = machine.load(path, dtype=dtype, memory=memory, verify=False)
        videos.append(machine.sample(pipe, steps=1, guidance_scale=1.0))
        del pipe
    found = difference(*videos)
    allowed = 0.01 if machine.on_gpu else 0.03  # float16 has 10 bits after the point, bfloat16 has 7.
    machine.passed["half precision is close to float32"] = 0 < found < allowed
    return {"difference": found, "allowed": allowed}


def compiled(
    machine: Machine, pipe: vdmlib.VideoCrafterPipeline, expected: torch.Tensor, per_step: float, backend: str | None
) -> Row:
    """The same video from the network as ``torch.compile`` translates it."""
    backend = backend or ("inductor" if machine.on_gpu else "eager")
    counters.clear()
    pipe.compile(fullgraph=True, backend=backend)
    start = time.perf_counter()
    machine.sample(pipe, steps=1)
    first = time.perf_counter() - start
    video, _, with_compile = machine.timed(pipe)
    graphs = counters["stats"]["unique_graphs"]
    torch.compiler.reset()
    row = {
        "backend": backend,
        "seconds of the first step": first,
        "seconds per step": with_compile,
        "gain": per_step / with_compile,
        "difference": difference(video, expected),
        "graphs": graphs,
    }
    machine.passed["compiled: the same video"] = row["difference"] < 0.02
    machine.passed["compiled: once"] = graphs == 1
    return row


def run(machine: Machine, arguments: argparse.Namespace, folder: Path) -> Row:
    """The checks that were asked for; prints each result as it comes, and returns them all."""
    results, checks = machine.described(), arguments.checks
    print("{model} on {device}, torch {torch}, video {video}".format(**results))
    if "loading" in checks:
        path, results["loading"] = loading(machine, folder)
        print(table(results["loading"]))
    else:
        path = write(folder / "model.ckpt", SyntheticWeights(machine.release))
    if "precision" in checks:
        results["half against float32"] = precision(machine, path)
        print("half against float32\n" + table([results["half against float32"]]))
    if not {"options", "compile"} & set(checks):
        return results
    pipe = machine.load(path, verify=False)
    weights = sum(p.nbytes for network in pipe.networks.named().values() for p in network.parameters())
    results["weights GB"] = weights / 1e9
    print(f"weights: {results['weights GB']:.4f} GB in {machine.dtype}")
    if "options" in checks:
        expected, results["rows"] = options(machine, pipe, arguments.options)
        per_step = results["rows"][0]["seconds per step"]
        print(table(results["rows"]))
    else:
        expected, _, per_step = machine.timed(pipe)
    if "compile" in checks:
        results["compile"] = compiled(machine, pipe, expected, per_step, arguments.backend)
        print("torch.compile\n" + table([results["compile"]]))
    return results


def main() -> None:
    arguments = parse()
    machine = Machine(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        results = run(machine, arguments, Path(name))
    failed = [name for name, passed in machine.passed.items() if not passed]
    print(f"all {len(machine.passed)} checks passed" if not failed else "FAILED: " + "; ".join(failed))
    if arguments.json:
        results |= {"checks": machine.passed, "passed": not failed}
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
