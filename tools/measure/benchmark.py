"""How fast a U-Net runs, how much memory it needs, and how far that is from what the machine could do.

    python tools/measure/benchmark.py --config small --frames 16 --height 24 --width 32 --threads 2
    python tools/measure/benchmark.py --config videocrafter2 --device cuda --dtype float16 --sampling

Weights are random: time and memory do not depend on them.
"""

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import vdmlib
from vdmlib.devices import channels_last_weights, compile_network
from vdmlib.released.memory import FASTEST, slice_layers


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
    parser.add_argument("--compile", action="store_true", help="also time a forward pass translated by torch.compile")
    parser.add_argument("--sampling", action="store_true", help="also time DDIM steps with guidance")
    parser.add_argument("--steps", type=int, default=4, help="DDIM steps to time, at least 2 (default: 4)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file as well")
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error(f"--steps is {arguments.steps}: use 2 or more, since time is measured from one step to the next.")
    return arguments


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


def flops_of_forward(
    config: vdmlib.UNet3DConfig, frames: int, height: int, width: int, batch: int = 1, cached: bool = False
) -> dict[str, float]:
    """FLOP (a multiply-add counts as two) of convolutions and of everything else, counted on the meta device.

    ``cached``: without the keys and values of the context, which a sampler computes once for all its steps.
    """
    with torch.device("meta"):
        net = vdmlib.UNet3D(config)
        x, timesteps = torch.empty(batch, frames, config.in_channels, height, width), torch.zeros(batch)
        context = net.prepare_context(torch.empty(batch, context_tokens(config), config.context_channels))
    with torch.no_grad():
        if cached:
            net(x, timesteps, context=context)
        with FlopCounterMode(display=False) as counter:
            net(x, timesteps, context=context)
    by_operator = counter.get_flop_counts()["Global"]
    convolution = sum(v for k, v in by_operator.items() if "convolution" in str(k))
    return {"convolution": convolution, "matrix product": sum(by_operator.values()) - convolution}


def context_tokens(config: vdmlib.UNet3DConfig) -> int:
    return config.text_tokens + 16 * config.image_attention


def sampling(
    net: vdmlib.UNet3D, x: torch.Tensor, context: torch.Tensor, steps: int, limits: dict[str, float]
) -> dict[str, float]:
    """DDIM steps with guidance, both halves in one batch: time, speed, and how far that is from the machine's."""
    b, f, _, h, w = x.shape
    timer, channels = StepTimer(x.device), net.config.out_channels
    noise, concat = x[:, :, :channels], x[:, :, channels:] if net.config.in_channels > channels else None

    def run(steps: int, callback=None):
        vdmlib.sample_ddim(
            net, vdmlib.NoiseSchedule.videocrafter2(), noise, context=context, uncond_context=torch.zeros_like(context),
            guidance_scale=12.0, steps=steps, callback=callback, progress=False, concat=concat,
        )  # fmt: skip

    if x.device.type == "cuda":
        run(1)  # Kernels are chosen and loaded here.
    with PeakMemory(x.device) as peak:
        run(steps, timer)
    flops = sum(flops_of_forward(net.config, f, h, w, 2 * b, cached=True).values())
    speed = flops / timer.seconds
    return {
        "FLOP of a sampling step with guidance": flops,
        "sampling step with guidance (s)": timer.seconds,
        "sampling (FLOP/s)": speed,
        "sampling share of the machine's matrix product": speed / limits["matrix product"],
        "sampling peak above the weights (bytes)": peak.bytes,
    }


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
    slice_layers(net, FASTEST, device)
    if device.type == "cuda":
        channels_last_weights(net)

    shape = (arguments.batch, arguments.frames, config.in_channels, arguments.height, arguments.width)
    x = torch.randn(shape, device=device, dtype=dtype)
    timesteps = torch.full((arguments.batch,), 500, device=device)
    context = torch.randn(arguments.batch, context_tokens(config), config.context_channels, device=device, dtype=dtype)

    parameters = sum(p.numel() for p in net.parameters())
    flops = flops_of_forward(config, arguments.frames, arguments.height, arguments.width, arguments.batch)
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
        results |= sampling(net, x, context, arguments.steps, limits)

    if arguments.backward:
        with PeakMemory(device) as peak:
            backward()
        results["backward peak above the weights (bytes)"] = peak.bytes
        results["forward and backward pass (s)"] = median_time(backward, arguments.repeat, device)

    if arguments.compile:
        compile_network(net)
        results["first forward pass with torch.compile (s)"] = median_time(forward, 1, device)
        with PeakMemory(device) as peak:
            compiled = median_time(forward, arguments.repeat, device)
        results["forward pass with torch.compile (s)"] = compiled
        results["gain of torch.compile"] = seconds / compiled
        results["torch.compile peak above the weights (bytes)"] = peak.bytes

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
