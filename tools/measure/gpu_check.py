"""Check a CUDA machine with a full-size model, and itself: one table, and the same numbers as JSON.

    python tools/measure/gpu_check.py --json gpu_check.json
    python tools/measure/gpu_check.py --model videocrafter1_i2v --steps 10
    python tools/measure/gpu_check.py --model videocrafter2 --device cpu --video 4 64 128 --stages loading precision
    python tools/measure/gpu_check.py --model videocrafter2 --device cpu --stages options --options fastest --steps 2

Four stages, each with its checks; the command ends with status 1 if one of them fails:

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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmark import PeakMemory, StepTimer
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile

import vdmlib
from vdmlib.released.memory import FASTEST
from vdmlib.released.names import checkpoint_names
from vdmlib.released.synthetic import SyntheticWeights, write

OPTIONS = {
    "fastest": FASTEST,
    "guidance in turn": replace(FASTEST, guidance_in_one_batch=False),
    "sliced attention": replace(FASTEST, sliced_attention=True),
    "decode one frame": replace(FASTEST, decode_frames=1),
    "offload networks": replace(FASTEST, offload="networks"),
    "everything, offload blocks": vdmlib.MemoryOptions(False, 1, True, "blocks"),
}
STAGES = ("loading", "options", "precision", "compile")
T4_LIMIT = 12e9  # Bytes: what must do for 16 × 320 × 512 with guidance in float16.


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["videocrafter2", "videocrafter1_i2v", "tiny"], help="default: by device")
    parser.add_argument("--device", help="default: cuda if there is one, else cpu")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="default: all")
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS), help="default: all")
    parser.add_argument("--steps", type=int, default=4, help="DDIM steps of each run, at least 2 (default: 4)")
    parser.add_argument(
        "--video", type=int, nargs=3, metavar=("FRAMES", "HEIGHT", "WIDTH"), help="default: the model's"
    )
    parser.add_argument("--backend", help="of torch.compile (default: inductor on a GPU, eager on a CPU)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file as well")
    return parser.parse_args()


class Machine:
    """The device, how to measure on it, and what is sampled."""

    def __init__(self, arguments: argparse.Namespace):
        self.device = vdmlib.released.pipeline.choose_device(arguments.device)
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


def difference(video: torch.Tensor, expected: torch.Tensor) -> float:
    """Of a pixel, on average, where black is 0 and white is 1."""
    return float((video - expected).abs().mean()) / 2


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


def weights_in_place(pipe: vdmlib.VideoCrafterPipeline, weights: SyntheticWeights) -> int:
    """How many numbers of the file arrived where they belong; raises ValueError for the first that did not."""
    count = 0
    for network, names in checkpoint_names(pipe.networks).items():
        parameters = dict(getattr(pipe.networks, network).named_parameters())
        if parameters.keys() != names.keys():
            raise ValueError(f"{network} has other weights than its checkpoint: {parameters.keys() ^ names.keys()}")
        for ours, (theirs, _) in names.items():
            found = parameters[ours]
            if not torch.equal(found.cpu().flatten(), weights[theirs].flatten().to(found.dtype)):
                raise ValueError(f"{network}.{ours} is not what the file holds under {theirs}.")
            count += found.numel()
    return count


def loading(machine: Machine, folder: Path, checks: dict[str, bool]) -> tuple[Path, list[dict[str, Any]]]:
    """Write, load and compare: a ``.safetensors`` file, then a ``.ckpt``, which stays for the other stages."""
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
        checks[f".{suffix}: every weight in its place"] = count == sum(
            parameter.numel() for network in pipe.networks.named().values() for parameter in network.parameters()
        )
        del pipe
    return path, rows


def options(
    machine: Machine, pipe: vdmlib.VideoCrafterPipeline, chosen: list[str], checks: dict[str, bool]
) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """The same video with each of the memory options."""
    rows, expected = [], None
    for name in chosen:
        pipe.memory = memory = OPTIONS[name]
        if machine.on_gpu:
            machine.sample(pipe, steps=1)  # Kernels are chosen and loaded here.
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(machine.device)
        video, seconds, per_step = machine.timed(pipe)
        estimate = vdmlib.estimate_memory(
            machine.release, memory, machine.dtype, device=machine.device, **machine.video
        )
        if machine.on_gpu:
            peak, estimated = torch.cuda.max_memory_allocated(machine.device), estimate.peak
            reserved = torch.cuda.max_memory_reserved(machine.device)
        else:  # Weights may lie in a mapped file: only what comes on top of them is counted.
            peak = reserved = allocated_peak(lambda: machine.sample(pipe, steps=1))
            estimated = max(estimate.activations.values())
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
        checks[f"{name}: finite, and the same video"] = bool(video.isfinite().all()) and row["difference"] < 0.02
        # What a GPU's libraries take comes on top of the estimate.
        most = 1.25 * estimated + 1e9 if machine.on_gpu else 1.15 * estimated
        checks[f"{name}: the estimate fits"] = 0.85 * estimated < peak < most
    if machine.on_gpu and machine.at_full_size and chosen[0] == "fastest":
        checks["fastest: under 12 GB"] = rows[0]["peak GB"] < T4_LIMIT / 1e9
    if machine.on_gpu and machine.at_full_size and chosen == list(OPTIONS):
        checks["no option needs more than none"] = all(row["peak GB"] <= 1.02 * rows[0]["peak GB"] for row in rows)
        checks["offload saves memory"] = rows[-1]["peak GB"] < rows[-2]["peak GB"] < rows[0]["peak GB"]
    pipe.memory = FASTEST
    return expected, rows


def precision(machine: Machine, path: Path, checks: dict[str, bool]) -> dict[str, float]:
    """One step in half precision and in float32; with guidance every rounding error would be amplified 12 times."""
    videos = []
    for dtype, memory in ((machine.half, FASTEST), (torch.float32, replace(FASTEST, offload="blocks"))):
        pipe = machine.load(path, dtype=dtype, memory=memory, verify=False)
        videos.append(machine.sample(pipe, steps=1, guidance_scale=1.0))
        del pipe
    found = difference(*videos)
    allowed = 0.01 if machine.on_gpu else 0.03  # float16 has 10 bits after the point, bfloat16 has 7.
    checks["half precision is close to float32"] = 0 < found < allowed
    return {"difference": found, "allowed": allowed}


def compiled(
    machine: Machine,
    pipe: vdmlib.VideoCrafterPipeline,
    expected: torch.Tensor,
    per_step: float,
    backend: str | None,
    checks: dict[str, bool],
) -> dict[str, Any]:
    """The same video from the network as ``torch.compile`` translates it."""
    backend = backend or ("inductor" if machine.on_gpu else "eager")
    counters.clear()
    pipe.compile(fullgraph=True, backend=backend)
    start = time.perf_counter()
    machine.sample(pipe, steps=1)
    first = time.perf_counter() - start
    video, _, with_compile = machine.timed(pipe)
    found, graphs = difference(video, expected), counters["stats"]["unique_graphs"]
    checks["compiled: the same video"] = found < 0.02
    checks["compiled: once"] = graphs == 1
    torch.compiler.reset()
    return {
        "backend": backend,
        "seconds of the first step": first,
        "seconds per step": with_compile,
        "gain": per_step / with_compile,
        "difference": found,
        "graphs": graphs,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys under a header."""
    cells = [list(rows[0]), *([f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True)) for row in cells)


def main() -> None:
    arguments = parse()
    if arguments.steps < 2:
        sys.exit(f"--steps is {arguments.steps}: use 2 or more, since time is measured from one step to the next.")
    machine, checks = Machine(arguments), {}
    print(f"{machine.model} on {machine.name}, torch {torch.__version__}, video {tuple(machine.video.values())}")
    results: dict[str, Any] = {
        "model": machine.model,
        "device": machine.name if machine.on_gpu else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "dtype": str(machine.dtype),
        "video": list(machine.video.values()),
        "steps": machine.steps,
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if "loading" in arguments.stages:
            path, results["loading"] = loading(machine, folder, checks)
            print(table(results["loading"]))
        else:
            path = write(folder / "model.ckpt", SyntheticWeights(machine.release))
        if "precision" in arguments.stages:
            results["half against float32"] = precision(machine, path, checks)
            print("half against float32, mean difference of a pixel in 0 ... 1: "
                  "{difference:.5f} (allowed {allowed})".format(**results["half against float32"]))  # fmt: skip
        if {"options", "compile"} & set(arguments.stages):
            pipe = machine.load(path, verify=False)
            weights = sum(p.nbytes for network in pipe.networks.named().values() for p in network.parameters())
            results["weights GB"] = weights / 1e9
            print(f"weights: {results['weights GB']:.4f} GB in {machine.dtype}")
            if "options" in arguments.stages:
                expected, results["rows"] = options(machine, pipe, arguments.options, checks)
                per_step = results["rows"][0]["seconds per step"]
                print(table(results["rows"]))
            else:
                expected, _, per_step = machine.timed(pipe)
            if "compile" in arguments.stages:
                results["compile"] = compiled(machine, pipe, expected, per_step, arguments.backend, checks)
                print("torch.compile\n" + table([results["compile"]]))
            del pipe
    failed = [name for name, passed in checks.items() if not passed]
    print(f"all {len(checks)} checks passed" if not failed else "FAILED: " + "; ".join(failed))
    results |= {"checks": checks, "passed": not failed}
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
