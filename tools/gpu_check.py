"""Check a CUDA machine with a full-size model, and itself: one table, and the same numbers as JSON.

    python tools/gpu_check.py --json gpu_check.json
    python tools/gpu_check.py --model videocrafter1_i2v --steps 10

Builds the model from random weights, samples in float16 and in float32 and compares, measures the peak memory and the
time of a step for each memory option beside the estimate of ``vdmlib.estimate_memory``, and compares torch.compile on
and off. Without a GPU the same is done at tiny size on the CPU. Ends with status 1 if a check fails.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

import vdmlib
from vdmlib.memory import FASTEST
from vdmlib.releases import Parts, build_parts

OPTIONS = {
    "fastest": FASTEST,
    "guidance in turn": replace(FASTEST, guidance_in_one_batch=False),
    "sliced attention": replace(FASTEST, sliced_attention=True),
    "decode one frame": replace(FASTEST, decode_frames=1),
    "offload parts": replace(FASTEST, offload="parts"),
    "everything, offload blocks": vdmlib.MemoryOptions(False, 1, True, "blocks"),
}
T4_LIMIT = 12e9  # Bytes: what must do for 16 × 320 × 512 with guidance in float16.


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["videocrafter2", "videocrafter1_i2v", "tiny"], help="default: by device")
    parser.add_argument("--device", help="default: cuda if there is one, else cpu")
    parser.add_argument("--steps", type=int, default=4, help="DDIM steps of each run (default: 4)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", type=Path, help="write the numbers to this file as well")
    return parser.parse_args()


def random_parts(release: vdmlib.Release, dtype: torch.dtype, seed: int = 0) -> Parts:
    """Networks on the CPU whose activations stay of order one, and in which nothing is zero."""
    with torch.device("meta"):
        parts = build_parts(release)
    generator = torch.Generator().manual_seed(seed)
    for part in parts.named().values():
        for module in part.modules():
            for name, parameter in module.named_parameters(recurse=False):
                value = torch.full(parameter.shape, float(name == "weight"))
                if parameter.ndim > 1:
                    value.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
                module.register_parameter(name, torch.nn.Parameter(value.to(dtype), requires_grad=False))
    return parts


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


def measured(run: Callable[[], torch.Tensor], device: torch.device) -> tuple[torch.Tensor, float, int]:
    """Result, seconds, and peak bytes: on a GPU all that is allocated, on a CPU what comes on top of the weights."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return result, time.perf_counter() - start, torch.cuda.max_memory_allocated(device)
    return result, time.perf_counter() - start, allocated_peak(run)


def main() -> None:
    arguments = parse()
    device = vdmlib.pipeline.choose_device(arguments.device)
    on_gpu = device.type == "cuda"
    model = arguments.model or ("videocrafter2" if on_gpu else "tiny")
    release = getattr(vdmlib.Release, model)()
    # A CPU computes in bfloat16 what it is slow at in float16.
    half = torch.float16 if on_gpu else torch.bfloat16
    image = torch.full((3, 64, 64), 0.5) if release.kind == "i2v" else None
    settings = dict(image=image, steps=arguments.steps, guidance_scale=12.0, eta=0.0, seed=0, progress=False)
    print(f"{model} on {torch.cuda.get_device_name(device) if on_gpu else 'the CPU'}, torch {torch.__version__}")

    def pipeline(dtype: torch.dtype, options: vdmlib.MemoryOptions) -> vdmlib.VideoCrafterPipeline:
        return vdmlib.VideoCrafterPipeline(random_parts(release, dtype), release, device, options)

    def once(pipe: vdmlib.VideoCrafterPipeline, steps: int = arguments.steps) -> torch.Tensor:
        return pipe("a sailing boat at sunset", **{**settings, "steps": steps})

    checks: dict[str, bool] = {}
    dtype = half if on_gpu else torch.float32
    pipe = pipeline(dtype, FASTEST)
    rows, expected = [], None
    for name, options in OPTIONS.items():
        pipe.memory = options
        once(pipe, steps=1)  # Kernels are chosen and loaded here.
        _, overhead, _ = measured(lambda: once(pipe, steps=1), device) if on_gpu else (None, 0.0, 0)
        video, seconds, peak = measured(lambda: once(pipe), device)
        expected = video if expected is None else expected
        estimate = vdmlib.estimate_memory(release, options, dtype)
        estimated = estimate.peak if on_gpu else max(estimate.activations.values())
        row = {
            "options": name,
            "seconds per step": (seconds - overhead) / max(1, arguments.steps - bool(overhead)),
            "seconds in all": seconds,
            "peak GB": peak / 1e9,
            "estimate / measured": estimated / peak,
            "difference": float((video - expected).abs().mean()),
        }
        rows.append(row)
        checks[f"{name}: finite, and the same video"] = bool(video.isfinite().all()) and row["difference"] < 0.02
    if on_gpu and model != "tiny":
        checks["fastest: under 12 GB"] = rows[0]["peak GB"] < T4_LIMIT / 1e9
        by_name = {row["options"]: row["peak GB"] for row in rows}
        checks["offload saves memory"] = by_name["everything, offload blocks"] < by_name["fastest"]

    compiled = None
    if not arguments.no_compile:
        pipe.memory = FASTEST
        pipe.compile(**({} if on_gpu else {"backend": "eager"}))
        start = time.perf_counter()
        video = once(pipe)
        first = time.perf_counter() - start
        seconds = measured(lambda: once(pipe), device)[1]
        compiled = {
            "first run, seconds": first,
            "seconds in all": seconds,
            "gain": rows[0]["seconds in all"] / seconds,
            "difference": float((video - expected).abs().mean()),
        }
        checks["compiled: the same video"] = compiled["difference"] < 0.02
        torch.compiler.reset()
    del pipe

    # With guidance every rounding error is amplified 12 times; without, half precision must be close.
    plain = {"guidance_scale": 1.0, "steps": 1}
    videos = {}
    for precision in (half, torch.float32):
        options = FASTEST if precision == half else replace(FASTEST, offload="blocks", decode_frames=1)
        videos[precision] = pipeline(precision, options)("a sailing boat at sunset", **{**settings, **plain})
    difference = float((videos[half] - videos[torch.float32]).abs().mean())
    allowed = 0.01 if on_gpu else 0.03  # float16 has 10 bits after the point, bfloat16 has 7.
    checks["half precision is close to float32"] = 0 < difference < allowed

    columns = ["options", "seconds per step", "seconds in all", "peak GB", "estimate / measured", "difference"]
    print("  ".join(f"{column:>26}" if i == 0 else f"{column:>19}" for i, column in enumerate(columns)))
    for row in rows:
        print("  ".join(f"{row[c]:>26}" if i == 0 else f"{row[c]:>19.4f}" for i, c in enumerate(columns)))
    if compiled:
        print("torch.compile: " + ", ".join(f"{name} {value:.4f}" for name, value in compiled.items()))
    print(f"half against float32, mean difference of a pixel in 0 ... 1: {difference:.5f} (allowed {allowed})")
    failed = [name for name, passed in checks.items() if not passed]
    print("all checks passed" if not failed else "FAILED: " + "; ".join(failed))
    if arguments.json:
        results = {
            "model": model,
            "device": torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads",
            "torch": torch.__version__,
            "dtype": str(dtype),
            "video": [release.frames, release.height, release.width],
            "steps": arguments.steps,
            "rows": rows,
            "compile": compiled,
            "half against float32": difference,
            "half against float32, allowed": allowed,
            "checks": checks,
            "passed": not failed,
        }
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
