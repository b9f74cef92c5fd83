"""Wrong and right answers to the exercises of chapter 5."""

import torch
import torch.nn.functional as F
from answers import right, wrong
from einops import rearrange
from torch import nn

from vdmlib.resnet import ResBlock


def by_terms(c_in, c_out, c_embedding, temporal, film, bias=1, temporal_bias=1, skip=True):
    weights = 2 * c_in + (9 * c_in + bias) * c_out + (c_embedding + bias) * c_out * (2 if film else 1)
    weights += 2 * c_out + (9 * c_out + bias) * c_out
    weights += (c_in + bias) * c_out if skip and c_in != c_out else 0
    return weights + (4 * (2 * c_out + (3 * c_out + temporal_bias) * c_out) if temporal else 0)


@wrong("ex-resnet-weights", "ignores an argument", fails="scaled and shifted")
def resblock_weights(c_in, c_out, c_embedding, temporal=False, film=False):
    return by_terms(c_in, c_out, c_embedding, temporal, film=False)


@wrong("ex-resnet-weights", "ignores an argument", fails="with layers for time")
def resblock_weights(c_in, c_out, c_embedding, temporal=False, film=False):
    return by_terms(c_in, c_out, c_embedding, temporal=False, film=film)


@wrong("ex-resnet-weights", "hard-codes the example", fails="same channels")
def resblock_weights(c_in, c_out, c_embedding, temporal=False, film=False):
    return by_terms(c_in, c_out, 128, temporal, film)


@wrong("ex-resnet-weights", "has the classic bug", "forgets the biases", fails="same channels")
def resblock_weights(c_in, c_out, c_embedding, temporal=False, film=False):
    return by_terms(c_in, c_out, c_embedding, temporal, film, bias=0, temporal_bias=0)


@wrong("ex-resnet-weights", "has the classic bug", "forgets the 1 × 1 convolution", fails="other channels")
def resblock_weights(c_in, c_out, c_embedding, temporal=False, film=False):
    return by_terms(c_in, c_out, c_embedding, temporal, film, skip=False)


@wrong("ex-resnet-weights", "has the right shape and nothing else", fails="same channels")
def resblock_weights(c_in, c_out, c_embedding, temporal=False, film=False):
    return 18 * c_in * c_out


@right("ex-resnet-weights", "counts a real block")
def resblock_weights(c_in, c_out, c_embedding, temporal=False, film=False):
    block = ResBlock(c_in, c_embedding, c_out, temporal_convolution=temporal, scale_shift_norm=film).to("meta")
    return sum(p.numel() for p in block.parameters())


@right("ex-resnet-weights", "sorted by powers of the width")
def resblock_weights(c_in, c_out, c_embedding, temporal=False, film=False):
    other = int(c_in != c_out)
    squares = 9 * c_in * c_out + 9 * c_out**2 + other * c_in * c_out + 12 * temporal * c_out**2
    return squares + (c_embedding + 1) * c_out * (1 + film) + 2 * c_in + (4 + other + 12 * temporal) * c_out


def normed(x, axes, groups, eps=1e-5, root=True, unbiased=False, layout="g c"):
    members = rearrange(x, f"b f ({layout}) h w -> b f g c h w", g=groups)
    away = members - members.mean(dim=axes, keepdim=True)
    spread = members.var(dim=axes, keepdim=True, correction=int(unbiased)) + eps
    return rearrange(away / (spread.sqrt() if root else spread), f"b f g c h w -> b f ({layout}) h w")


FRAME, VIDEO = (3, 4, 5), (1, 3, 4, 5)


def axes_of(over):
    return FRAME if over == "frame" else VIDEO


@wrong("ex-resnet-norm", "ignores an argument", fails="over a video")
def video_norm(x, groups, over):
    return normed(x, FRAME, groups)


@wrong("ex-resnet-norm", "ignores an argument", fails="over a frame")
def video_norm(x, groups, over):
    return normed(x, axes_of(over), 1)


@wrong("ex-resnet-norm", "hard-codes the example", fails="the small number is added to the variance")
def video_norm(x, groups, over):
    return normed(x, axes_of(over), 4 if x.shape[2] == 8 else groups)


@wrong("ex-resnet-norm", "has the classic bug", "forgets the root", fails="over a frame")
def video_norm(x, groups, over):
    return normed(x, axes_of(over), groups, root=False)


@wrong("ex-resnet-norm", "has the classic bug", "divides the variance by one less", fails="over a frame")
def video_norm(x, groups, over):
    return normed(x, axes_of(over), groups, unbiased=True)


@wrong("ex-resnet-norm", "has the classic bug", "every second channel makes a group", fails="over a frame")
def video_norm(x, groups, over):
    return normed(x, axes_of(over), groups, layout="c g")


@wrong(
    "ex-resnet-norm", "has the classic bug", "all videos of the batch share mean and variance", fails="one frame alone"
)
def video_norm(x, groups, over):
    return normed(x, FRAME if over == "frame" else (0, *VIDEO), groups)


@wrong(
    "ex-resnet-norm",
    "has the classic bug",
    "adds the small number to the deviation",
    fails="the small number is added to the variance",
)
def video_norm(x, groups, over):
    members = rearrange(x, "b f (g c) h w -> b f g c h w", g=groups)
    away = members - members.mean(dim=axes_of(over), keepdim=True)
    away = away / (away.square().mean(dim=axes_of(over), keepdim=True).sqrt() + 1e-5)
    return rearrange(away, "b f g c h w -> b f (g c) h w")


@wrong("ex-resnet-norm", "has the right shape and nothing else", fails="over a frame")
def video_norm(x, groups, over):
    return x - x.mean()


@right("ex-resnet-norm", "with layer_norm over what belongs together")
def video_norm(x, groups, over):
    b = len(x)
    folded = rearrange(x, "b f c h w -> (b f) c 1 h w" if over == "frame" else "b f c h w -> b c f h w")
    members = folded.reshape(len(folded), groups, -1)
    out = F.layer_norm(members, members.shape[2:]).reshape(folded.shape)
    return rearrange(out, "(b f) c 1 h w -> b f c h w" if over == "frame" else "b c f h w -> b f c h w", b=b)


@right("ex-resnet-norm", "a loop, and var_mean")
def video_norm(x, groups, over):
    out = torch.empty_like(x)
    size = x.shape[2] // groups
    frames = [slice(i, i + 1) for i in range(x.shape[1])] if over == "frame" else [slice(None)]
    for video in range(len(x)):
        for f in frames:
            for g in range(groups):
                place = (video, f, slice(g * size, (g + 1) * size))
                variance, mean = torch.var_mean(x[place], correction=0)
                out[place] = (x[place] - mean) * torch.rsqrt(variance + 1e-5)
    return out


class Gate(nn.Module):
    """What the answers have in common."""

    def __init__(self, branch, start=0.0, shape=(1,)):
        super().__init__()
        self.branch = branch
        self.alpha = nn.Parameter(torch.full(shape, start))


@wrong("ex-resnet-gate", "ignores an argument", fails="twenty steps make it better")
class Gated(Gate):
    def __init__(self, branch):
        super().__init__(nn.Identity())

    def forward(self, x):
        return x + self.alpha * self.branch(x)


@wrong("ex-resnet-gate", "hard-codes the example", fails="the first step moves alpha, and alpha only")
class Gated(Gate):
    def forward(self, x):
        return x + 0 * self.alpha * self.branch(x)


@wrong(
    "ex-resnet-gate",
    "has the classic bug",
    "the branch ends in zeros as well",
    fails="the first step moves alpha, and alpha only",
)
class Gated(Gate):
    def __init__(self, branch):
        super().__init__(branch)
        last = [m for m in branch.modules() if isinstance(m, nn.Conv2d)][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x):
        return x + self.alpha * self.branch(x)


@wrong("ex-resnet-gate", "has the classic bug", "alpha is a number that no optimizer sees", fails="alpha is learned")
class Gated(nn.Module):
    def __init__(self, branch):
        super().__init__()
        self.branch, self.alpha = branch, 0.0

    def forward(self, x):
        return x + self.alpha * self.branch(x)


@wrong("ex-resnet-gate", "has the classic bug", "alpha starts at 1", fails="fresh, it changes nothing")
class Gated(Gate):
    def __init__(self, branch):
        super().__init__(branch, start=1.0)

    def forward(self, x):
        return x + self.alpha * self.branch(x)


@wrong(
    "ex-resnet-gate",
    "has the classic bug",
    "a mixture: what the branch gains, x loses",
    fails="with alpha = 1 it is x + branch(x)",
)
class Gated(Gate):
    def forward(self, x):
        return (1 - self.alpha) * x + self.alpha * self.branch(x)


@wrong("ex-resnet-gate", "has the right shape and nothing else", fails="twenty steps make it better")
class Gated(Gate):
    def forward(self, x):
        return (1 + self.alpha) * x


@right("ex-resnet-gate", "a number for each channel")
class Gated(Gate):
    def __init__(self, branch):
        super().__init__(branch, shape=(8, 1, 1))

    def forward(self, x):
        return torch.addcmul(x, self.alpha, self.branch(x))


@right("ex-resnet-gate", "alpha is the weight of a layer")
class Gated(nn.Module):
    def __init__(self, branch):
        super().__init__()
        self.branch, self.gate = branch, nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.gate.weight)

    def forward(self, x):
        return x + self.gate(self.branch(x)[..., None])[..., 0]
