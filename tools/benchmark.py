"""How fast a U-Net runs, how much memory it needs, and how far that is from what the machine could do.

    python tools/benchmark.py --config small --frames 16 --height 24 --width 32 --threads 2
    python tools/benchmark.py --config videocrafter2 --device cuda --dtype float16 --sampling

Weights are random: time and memory do not depend on them.
"""

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import vdmlib


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = [n for n, v in vars(vdmlib.UNet3DConfig).items() if isinstance(v, classmethod) and n != "from_videocrafter"]
    parser.add_argument("--config", default="small", choices=named, help="a named configuration (default: small)")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=24, help="of the latents: pixels / 8")
    parser.add_argument("--width", type=int, default=32, help="of the latents: pixels / 8")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of which the median counts, after a first one")
    parser.add_argument("--backward", action="store_true", help="also time a forward and backward pass")
    parser.add_argument("--sampling", action="store_true", help="also time DDIM steps with guidance")
    parser.add_argument("--steps", type=int, default=4, help="DDIM steps to time (default: 4)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file as well")
    return parser.parse_args()


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


def median_time(run: Callable[[], object], repeat: int, device: torch.device) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def machine_limits(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """FLOP/s of a large matrix product and of a 3 × 3 convolution over 16 frames, the best that torch reaches here."""
    size = 2048 if device.type == "cpu" else 8192
    a = torch.randn(size, size, device=device, dtype=dtype)
    x = torch.randn(16, 320, 40, 64, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    convolution = torch.nn.Conv2d(320, 320, 3, padding=1, device=device, dtype=dtype)
    convolution.to(memory_format=torch.channels_last)
    with torch.no_grad():
        a @ a, convolution(x)
        product, convolved = (median_time(f, 5, device) for f in (lambda: a @ a, lambda: convolution(x)))
    return {"matrix product": 2 * size**3 / product, "convolution": 2 * 9 * 320 * x.numel() / convolved}


def flops_of_forward(net_arguments: tuple, config: vdmlib.UNet3DConfig) -> dict[str, float]:
    """FLOP (a multiply-add counts as two) of convolutions and of everything else, counted on the meta device."""
    x, timesteps, context = (t.to("meta") for t in net_arguments)
    with torch.device("meta"):
        net = vdmlib.UNet3D(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x.float(), timesteps, context=context.float())
    by_operator = counter.get_flop_counts()["Global"]
    convolution = sum(v for k, v in by_operator.items() if "convolution" in str(k))
    return {"convolution": convolution, "matrix product": sum(by_operator.values()) - convolution}


def main():
    arguments = parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    config = getattr(vdmlib.UNet3DConfig, arguments.config)()
    with device:
        net = vdmlib.UNet3D(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-0.05, 0.05)

    shape = (arguments.batch, arguments.frames, config.in_channels, arguments.height, arguments.width)
    tokens = config.text_tokens + 16 * config.image_attention
    x = torch.randn(shape, device=device, dtype=dtype)
    timesteps = torch.full((arguments.batch,), 500, device=device)
    context = torch.randn(arguments.batch, tokens, config.context_channels, device=device, dtype=dtype)

    parameters = sum(p.numel() for p in net.parameters())
    flops = flops_of_forward((x, timesteps, context), config)
    limits = machine_limits(device, dtype)
    bound = sum(flops[kind] / limits[kind] for kind in flops)
    results = {
        "configuration": arguments.config,
        "input": shape,
        "dtype": arguments.dtype,
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "parameters": parameters,
        "weights (bytes)": sum(p.nbytes for p in net.parameters()),
        "FLOP of a forward pass": sum(flops.values()),
        "machine: matrix product (FLOP/s)": limits["matrix product"],
        "machine: convolution (FLOP/s)": limits["convolution"],
        "forward pass, if only those counted (s)": bound,
    }

    def forward():
        with torch.no_grad():
            return net(x, timesteps, context=context)

    def backward():
        net(x, timesteps, context=context).float().square().mean().backward()

    with PeakMemory(device) as peak:
        forward()
    results["forward peak above the weights (bytes)"] = peak.bytes
    seconds = median_time(forward, arguments.repeat, device)
    results["forward pass (s)"] = seconds
    results["forward pass (FLOP/s)"] = sum(flops.values()) / seconds

    if arguments.sampling:
        with PeakMemory(device) as peak:
            start = time.perf_counter()
            vdmlib.sample_ddim(
                net, vdmlib.NoiseSchedule.videocrafter2(), x, context=context, uncond_context=torch.zeros_like(context),
                guidance_scale=12.0, steps=arguments.steps, progress=False,
            )  # fmt: skip
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            step = (time.perf_counter() - start) / arguments.steps
        results["sampling step with guidance (s)"] = step
        results["sampling (FLOP/s)"] = 2 * sum(flops.values()) / step
        results["sampling share of the machine's matrix product"] = (
            2 * sum(flops.values()) / step / limits["matrix product"]
        )
        results["sampling peak above the weights (bytes)"] = peak.bytes

    if arguments.backward:
        with PeakMemory(device) as peak:
            backward()
        results["backward peak above the weights (bytes)"] = peak.bytes
        results["forward and backward pass (s)"] = median_time(backward, arguments.repeat, device)

    for name, value in results.items():
        print(f"{name:48} {_readable(name, value)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


def _readable(name: str, value) -> str:
    if value is None:
        return "not known on this system"
    if "bytes" in name:
        return f"{value / 2**30:.3f} GiB"
    if "FLOP/s" in name:
        return f"{value / 1e12:.3f} TFLOP/s"
    if "FLOP" in name:
        return f"{value / 1e12:.3f} TFLOP"
    if "(s)" in name:
        return f"{value:.3f} s"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
