"""Wrong and right answers to the exercises of chapter 3."""

import torch
import torch.nn.functional as F
from answers import right, wrong
from einops import rearrange, repeat
from torch import nn

from vdmlib.temporal import inflate_conv2d, per_video


@wrong("ex-temporal-field", "ignores an argument", "the dilations", fails="dilations 1, 2, 4, 8 see 31")
def temporal_field(kernels, dilations):
    return 1 + sum(k - 1 for k in kernels)


@wrong("ex-temporal-field", "hard-codes the example", "kernels of three", fails="as measured")
def temporal_field(kernels, dilations):
    return 1 + sum(2 * d for d in dilations)


@wrong("ex-temporal-field", "hard-codes the example", fails="as measured")
def temporal_field(kernels, dilations):
    return {(1,): 3, (1, 1, 1, 1): 9, (1, 2, 4, 8): 31, (): 1}.get(tuple(dilations), 9)


@wrong("ex-temporal-field", "has the classic bug", "counts the taps, not the gaps", fails="the block's four see 9")
def temporal_field(kernels, dilations):
    return sum(k * d for k, d in zip(kernels, dilations, strict=True))


@wrong(
    "ex-temporal-field",
    "has the classic bug",
    "jumps multiply, as if frames were halved",
    fails="dilations 1, 2, 4, 8 see 31",
)
def temporal_field(kernels, dilations):
    field, jump = 1, 1
    for k, d in zip(kernels, dilations, strict=True):
        field, jump = field + (k - 1) * jump, jump * d
    return field


@wrong("ex-temporal-field", "has the right shape and nothing else", fails="dilations 1, 2, 4, 8 see 31")
def temporal_field(kernels, dilations):
    return len(kernels) + len(dilations) + 1


@right("ex-temporal-field", "the set of all frames that can be reached")
def temporal_field(kernels, dilations):
    seen = {0}
    for k, d in zip(kernels, dilations, strict=True):
        seen = {frame + d * tap for frame in seen for tap in range(-(k // 2), k // 2 + 1)}
    return max(seen) - min(seen) + 1


@right("ex-temporal-field", "recursive")
def temporal_field(kernels, dilations):
    if not kernels:
        return 1
    return (kernels[0] - 1) * dilations[0] + temporal_field(kernels[1:], dilations[1:])


def with_taps(convolution, taps):
    inflated = inflate_conv2d(convolution, len(taps))
    with torch.no_grad():
        for i, tap in enumerate(taps):
            inflated.weight[:, :, i] = tap * convolution.weight
    return inflated


@wrong(
    "ex-temporal-inflate", "ignores an argument", "always three frames", fails="the kernel of five frames is 5 × 3 × 3"
)
def inflate_repeated(convolution, frames=3):
    return with_taps(convolution, [1 / 3] * 3)


@wrong("ex-temporal-inflate", "hard-codes the example", "divides by 3", fails="one frame changes nothing")
def inflate_repeated(convolution, frames=3):
    return with_taps(convolution, [1 / 3] * frames)


@wrong("ex-temporal-inflate", "has the classic bug", "forgets to divide", fails="right on a still video, 3 frames")
def inflate_repeated(convolution, frames=3):
    return with_taps(convolution, [1] * frames)


@wrong(
    "ex-temporal-inflate", "has the classic bug", "divides the bias as well", fails="right on a still video, 3 frames"
)
def inflate_repeated(convolution, frames=3):
    inflated = with_taps(convolution, [1 / frames] * frames)
    with torch.no_grad():
        inflated.bias.div_(frames)
    return inflated


@wrong("ex-temporal-inflate", "has the classic bug", "binomial taps", fails="all time steps are alike")
def inflate_repeated(convolution, frames=3):
    taps = {1: [1], 3: [1 / 4, 1 / 2, 1 / 4], 5: [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16]}
    return with_taps(convolution, taps[frames])


@wrong(
    "ex-temporal-inflate", "has the classic bug", "only the first and the last step", fails="all time steps are alike"
)
def inflate_repeated(convolution, frames=3):
    return with_taps(convolution, [1] if frames == 1 else [0.5, *[0] * (frames - 2), 0.5])


@wrong(
    "ex-temporal-inflate",
    "has the classic bug",
    "first and last alike, the middle takes what is left",
    fails="all time steps are alike",
)
def inflate_repeated(convolution, frames=3):
    return with_taps(convolution, [1] * (frames // 2) + [2 - frames] + [1] * (frames // 2))


@wrong("ex-temporal-inflate", "has the right shape and nothing else", fails="wrong where something moves")
def inflate_repeated(convolution, frames=3):
    return inflate_conv2d(convolution, frames)


@right("ex-temporal-inflate", "pads by repeating the end frames, so that it is right at the ends as well")
def inflate_repeated(convolution, frames=3):
    class Inflated(nn.Conv3d):
        def forward(self, x):
            end = frames // 2
            x = torch.cat([x[:, :, :1]] * end + [x] + [x[:, :, -1:]] * end, dim=2)
            return F.conv3d(x, self.weight, self.bias, padding=(0, 1, 1))

    inflated = Inflated(convolution.in_channels, convolution.out_channels, (frames, 3, 3))
    inflated.weight.data = repeat(convolution.weight.data, "o i h w -> o i t h w", t=frames) / frames
    inflated.bias.data = convolution.bias.data
    return inflated


@right("ex-temporal-inflate", "made from the beginning")
def inflate_repeated(convolution, frames=3):
    outputs, inputs, height, width = convolution.weight.shape
    inflated = nn.Conv3d(inputs, outputs, (frames, height, width), padding=(frames // 2, height // 2, width // 2))
    mean = convolution.weight.detach()[:, :, None].expand(-1, -1, frames, -1, -1) * (1 / frames)
    inflated.load_state_dict({"weight": mean, "bias": convolution.bias.detach()})
    return inflated


class Convolving(nn.Module):
    """What the answers have in common: a kernel over three frames."""

    def __init__(self, channels):
        super().__init__()
        self.convolution = nn.Conv3d(channels, channels, (3, 1, 1))

    def padded(self, x, before, after):
        return per_video(lambda video: self.convolution(F.pad(video, (0, 0, 0, 0, before, after))), x)


@wrong("ex-temporal-causal", "ignores an argument", "the frames before", fails="each depends on itself and two before")
class CausalConvolution(Convolving):
    def forward(self, x):
        now = rearrange(self.convolution.weight[:, :, 2], "o i 1 1 -> o i")
        return torch.einsum("oi,bfihw->bfohw", now, x) + self.convolution.bias[:, None, None]


@wrong("ex-temporal-causal", "hard-codes the example", "8 channels", fails="any number of channels")
class CausalConvolution(Convolving):
    def __init__(self, channels):
        super().__init__(8)

    def forward(self, x):
        x = F.pad(x, (0, 0, 0, 0, 0, 8 - x.shape[2]))
        return self.padded(x, 2, 0)


@wrong("ex-temporal-causal", "has the classic bug", "looks both ways", fails="no frame depends on a later one")
class CausalConvolution(Convolving):
    def forward(self, x):
        return self.padded(x, 1, 1)


@wrong("ex-temporal-causal", "has the classic bug", "looks ahead", fails="no frame depends on a later one")
class CausalConvolution(Convolving):
    def forward(self, x):
        return self.padded(x, 0, 2)


@wrong(
    "ex-temporal-causal",
    "has the classic bug",
    "reads the axes as b c f h w",
    fails="each depends on itself and two before",
)
class CausalConvolution(Convolving):
    def forward(self, x):
        weight = self.convolution.weight[0, 0, :, 0, 0].reshape(1, 1, 3, 1, 1)
        rows = rearrange(x, "b f c h w -> (b f) 1 c h w")
        rows = F.conv3d(F.pad(rows, (0, 0, 0, 0, 2, 0)), weight)
        return rearrange(rows, "(b f) 1 c h w -> b f c h w", b=len(x))


@wrong("ex-temporal-causal", "has the right shape and nothing else", fails="each depends on itself and two before")
class CausalConvolution(Convolving):
    def forward(self, x):
        return x


@right("ex-temporal-causal", "the first frame repeated instead of zeros")
class CausalConvolution(Convolving):
    def forward(self, x):
        x = torch.cat([x[:, :1], x[:, :1], x], dim=1)
        return per_video(self.convolution, x)


@right("ex-temporal-causal", "padded on both sides, the end cut off")
class CausalConvolution(Convolving):
    def forward(self, x):
        return self.padded(x, 2, 2)[:, : x.shape[1]]


@right("ex-temporal-causal", "a frame at a time, in a loop")
class CausalConvolution(Convolving):
    def forward(self, x):
        zeros = torch.zeros_like(x[:, :1])
        frames = [zeros, zeros, *x.split(1, dim=1)]
        windows = [torch.cat(frames[i : i + 3], dim=1) for i in range(x.shape[1])]
        return torch.cat([per_video(self.convolution, window) for window in windows], dim=1)
