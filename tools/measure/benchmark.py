r"""How fast a U-Net runs, how much memory it needs, and how far that is from what the machine could do.

    python tools/measure/benchmark.py --config small --frames 16 --height 24 --width 32 --threads 2
    python tools/measure/benchmark.py --config videocrafter2 --device cuda --dtype float16 --sampling
    python tools/measure/benchmark.py --height 16 --width 16 --threads 1 --repeat 9 --gains \
        --json vdmlib/small/shipped/sampling_gains.json

The last one's file is what chapter 11 shows. Weights are random: time and memory do not depend on them.
"""

import argparse
import json
from pathlib import Path


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="small", help="of UNet3DConfig: tiny, small, videocrafter2, ...")
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
    parser.add_argument(
        "--gains", action="store_true", help="also time what a sampler saves, with and without, in turn"
    )
    parser.add_argument("--steps", type=int, default=4, help="DDIM steps to time, at least 2 (default: 4)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file as well")
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error(f"--steps is {arguments.steps}: use 2 or more, since time is measured from one step to the next.")
    return arguments


if __name__ == "__main__":
    parse()  # What follows takes seconds: help and misspelt options are answered before.

import shlex
import statistics
import sys
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from instruments import PeakMemory, StepTimer, machine_name, median_time
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import vdmlib
from vdmlib.devices import channels_last_weights, choose_device, compile_network
from vdmlib.released.memory import FASTEST, slice_layers

Numbers = dict[str, object]


class Case:
    """A network and its input, as the arguments ask for them."""

    def __init__(self, arguments: argparse.Namespace):
        torch.manual_seed(0)
        self.device, self.dtype = choose_device(arguments.device), getattr(torch, arguments.dtype)
        self.config = named_config(arguments.config)
        with self.device:
            self.net = vdmlib.UNet3D(self.config).to(self.dtype).eval()
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.uniform_(-0.05, 0.05)
        slice_layers(self.net, FASTEST, self.device)
        if self.device.type == "cuda":
            channels_last_weights(self.net)
        b, f, h, w = arguments.batch, arguments.frames, arguments.height, arguments.width
        self.x = torch.randn(b, f, self.config.in_channels, h, w, device=self.device, dtype=self.dtype)
        self.timesteps = torch.full((b,), 500, device=self.device)
        context = torch.randn(b, context_tokens(self.config), self.config.context_channels, device=self.device)
        self.context = context.to(self.dtype)

    def run(self) -> Tensor:
        return self.net(self.x, self.timesteps, context=self.context)

    @torch.no_grad()
    def forward(self) -> Tensor:
        return self.run()

    def backward(self) -> None:
        self.run().float().square().mean().backward()


def named_config(name: str) -> vdmlib.UNet3DConfig:
    named = [n for n, v in vars(vdmlib.UNet3DConfig).items() if isinstance(v, classmethod) and n != "from_videocrafter"]
    if name not in named:
        raise SystemExit(f"--config is {name!r}: use one of {', '.join(named)}.")
    return getattr(vdmlib.UNet3DConfig, name)()


def context_tokens(config: vdmlib.UNet3DConfig) -> int:
    return config.text_tokens + 16 * config.image_attention


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


def sampling(case: Case, steps: int, limits: dict[str, float]) -> Numbers:
    """DDIM steps with guidance, both halves in one batch: time, speed, and how far that is from the machine's."""
    b, f, _, h, w = case.x.shape
    timer, channels = StepTimer(case.device), case.config.out_channels
    noise = case.x[:, :, :channels]
    concat = case.x[:, :, channels:] if case.config.in_channels > channels else None

    def run(steps: int, callback=None):
        vdmlib.sample_ddim(
            case.net, vdmlib.NoiseSchedule.videocrafter2(), noise, context=case.context,
            uncond_context=torch.zeros_like(case.context), guidance_scale=12.0, steps=steps, callback=callback,
            progress=False, concat=concat,
        )  # fmt: skip

    if case.device.type == "cuda":
        run(1)  # Kernels are chosen and loaded here.
    with PeakMemory(case.device) as peak:
        run(steps, timer)
    flops = sum(flops_of_forward(case.config, f, h, w, 2 * b, cached=True).values())
    speed = flops / timer.seconds
    return {
        "FLOP of a sampling step with guidance": flops,
        "sampling step with guidance (s)": timer.seconds,
        "sampling (FLOP/s)": speed,
        "sampling share of the machine's matrix product": speed / limits["matrix product"],
        "sampling peak above the weights (bytes)": peak.bytes,
    }


@torch.no_grad()
def gains(case: Case, repeat: int) -> Numbers:
    """The time of a guided step with each of three habits, over that without: a ratio for each pair, run in turn.

    On a CPU it is the processor's time that counts, so that other work on the machine disturbs less.
    """
    x, timesteps, context = (torch.cat([each, each]) for each in (case.x, case.timesteps, case.context))
    cached = case.net.prepare_context(context)

    def step(tokens=context, halves=1):
        for of_x, of_t, of_tokens in zip(x.chunk(halves), timesteps.chunk(halves), tokens.chunk(halves), strict=True):
            case.net(of_x, of_t, context=of_tokens)

    def in_any_layout():
        with patch("vdmlib.unet3d.channels_last", torch.Tensor.contiguous):
            step()

    pairs = {
        "keys and values of the context once": (step, lambda: case.net(x, timesteps, context=cached)),
        "both halves in one batch": (lambda: step(halves=2), step),
        "channels last": (in_any_layout, step),
    }
    results: Numbers = {}
    for name, (without, with_it) in pairs.items():
        without(), with_it()
        ratios = [seconds_of(with_it, case.device) / seconds_of(without, case.device) for _ in range(repeat)]
        results[f"time with, over without: {name}"] = ratios
    return results


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        return median_time(run, 1, device)
    begin = time.process_time()
    run()
    return time.process_time() - begin


def compiled(case: Case, repeat: int, seconds: float) -> Numbers:
    """A forward pass as ``torch.compile`` translates it, against the ``seconds`` that it takes without."""
    compile_network(case.net)
    first = median_time(case.forward, 1, case.device)
    with PeakMemory(case.device) as peak:
        later = median_time(case.forward, repeat, case.device)
    return {
        "first forward pass with torch.compile (s)": first,
        "forward pass with torch.compile (s)": later,
        "gain of torch.compile": seconds / later,
        "torch.compile peak above the weights (bytes)": peak.bytes,
    }


def measure(arguments: argparse.Namespace) -> Numbers:
    case = Case(arguments)
    b, f, _, h, w = case.x.shape
    flops, limits = flops_of_forward(case.config, f, h, w, b), machine_limits(case.device, case.dtype)
    with PeakMemory(case.device) as peak:
        case.forward()
    seconds = median_time(case.forward, arguments.repeat, case.device)
    results = {
        "command": shlex.join(["python", "tools/measure/benchmark.py", *sys.argv[1:]]),
        "configuration": arguments.config,
        "input": tuple(case.x.shape),
        "dtype": arguments.dtype,
        "device": machine_name(case.device),
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in case.net.parameters()),
        "weights (bytes)": sum(p.nbytes for p in case.net.parameters()),
        "FLOP of a forward pass": sum(flops.values()),
        "machine: matrix product (FLOP/s)": limits["matrix product"],
        "machine: convolution (FLOP/s)": limits["convolution"],
        "forward pass, if only those counted (s)": sum(flops[kind] / limits[kind] for kind in flops),
        "forward peak above the weights (bytes)": peak.bytes,
        "forward pass (s)": seconds,
        "forward pass (FLOP/s)": sum(flops.values()) / seconds,
    }
    if arguments.sampling:
        results |= sampling(case, arguments.steps, limits)
    if arguments.gains:
        results |= gains(case, arguments.repeat)
    if arguments.backward:
        with PeakMemory(case.device) as peak:
            case.backward()
        results["backward peak above the weights (bytes)"] = peak.bytes
        results["forward and backward pass (s)"] = median_time(case.backward, arguments.repeat, case.device)
    if arguments.compile:
        results |= compiled(case, arguments.repeat, seconds)
    return results


UNITS = {"bytes": (2**30, "GiB"), "FLOP/s": (1e12, "TFLOP/s"), "FLOP": (1e12, "TFLOP"), "(s)": (1, "s")}


def readable(name: str, value: object) -> str:
    if value is None:
        return "not known on this system"
    if isinstance(value, list):
        return f"{statistics.median(value):.3f} in the median of {len(value)}, {min(value):.3f} to {max(value):.3f}"
    for sign, (unit, word) in UNITS.items():
        if sign in name:
            return f"{value / unit:.3f} {word}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    arguments = parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    results = measure(arguments)
    for name, value in results.items():
        print(f"{name:48} {readable(name, value)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
