"""Wrong and right answers to the exercises of chapter 11."""

from fractions import Fraction

import numpy as np
import torch
from answers import right, wrong


@wrong("ex-gpu-levels", "ignores an argument", fails="all of them")
def trailing(n, total):
    return [round(1000 - i * 1000 / n) - 1 for i in range(n)]


@wrong("ex-gpu-levels", "hard-codes the example", fails="always as many as asked")
def trailing(n, total):
    return list(range(999, 0, -20))


@wrong("ex-gpu-levels", "has the classic bug", "rounds the stride down", fails="always as many as asked")
def trailing(n, total):
    return list(range(total - 1, -1, -(total // n)))


@wrong(
    "ex-gpu-levels", "has the classic bug", "spaced as the released sampler does", fails="50 of 1000: 999, 979, ..., 19"
)
def trailing(n, total):
    return [t + 1 for t in range(0, total, total // n)][::-1][:n]


@wrong("ex-gpu-levels", "has the classic bug", "rising", fails="50 of 1000: 999, 979, ..., 19")
def trailing(n, total):
    return [round(total - i * total / n) - 1 for i in range(n)][::-1]


@wrong("ex-gpu-levels", "has the classic bug", "cuts fractions off", fails="30 of 1000 are 30")
def trailing(n, total):
    return [int(total - i * total / n) - 1 for i in range(n)]


@wrong("ex-gpu-levels", "has the right shape and nothing else", fails="50 of 1000: 999, 979, ..., 19")
def trailing(n, total):
    return list(range(n))[::-1]


@right("ex-gpu-levels", "with NumPy, as DynamiCrafter does")
def trailing(n, total):
    return np.round(np.arange(n) * -total / n + total).astype(int) - 1


@right("ex-gpu-levels", "in exact fractions")
def trailing(n, total):
    return [round(Fraction(total * (n - i), n)) - 1 for i in range(n)]


def rescale(text, empty, w, share, axes=(1, 2, 3, 4), like="text"):
    guided = empty + w * (text - empty)
    wanted = text if like == "text" else empty
    size = guided * wanted.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    return share * size + (1 - share) * guided


@wrong("ex-gpu-rescale", "ignores an argument", "the share", fails="a share of 0 is plain guidance")
def rescaled(text, empty, w, share):
    return rescale(text, empty, w, 1.0)


@wrong("ex-gpu-rescale", "ignores an argument", "w", fails="w = 1 is the answer with the sentence")
def rescaled(text, empty, w, share):
    return rescale(text, empty, 7.5, share)


@wrong("ex-gpu-rescale", "hard-codes the example", fails="a share of 0 is plain guidance")
def rescaled(text, empty, w, share):
    return rescale(text, empty, w, 0.7)


@wrong(
    "ex-gpu-rescale",
    "has the classic bug",
    "one spread for the whole batch",
    fails="a share of 1 keeps the spread of each clip",
)
def rescaled(text, empty, w, share):
    return rescale(text, empty, w, share, axes=(0, 1, 2, 3, 4))


@wrong(
    "ex-gpu-rescale",
    "has the classic bug",
    "a spread for each frame",
    fails="a share of 1 keeps the spread of each clip",
)
def rescaled(text, empty, w, share):
    return rescale(text, empty, w, share, axes=(2, 3, 4))


@wrong(
    "ex-gpu-rescale",
    "has the classic bug",
    "the spread of the empty sentence",
    fails="w = 1 is the answer with the sentence",
)
def rescaled(text, empty, w, share):
    return rescale(text, empty, w, share, like="empty")


@wrong("ex-gpu-rescale", "has the classic bug", "the share the wrong way round", fails="a share of 0 is plain guidance")
def rescaled(text, empty, w, share):
    return rescale(text, empty, w, 1 - share)


@wrong("ex-gpu-rescale", "has the right shape and nothing else", fails="w = 1 is the answer with the sentence")
def rescaled(text, empty, w, share):
    return torch.zeros_like(text)


@right("ex-gpu-rescale", "a loop over the clips, by hand")
def rescaled(text, empty, w, share):
    out = torch.empty_like(text)
    for i, (t, e) in enumerate(zip(text, empty, strict=True)):
        g = w * t + (1 - w) * e
        ratio = ((t - t.mean()).square().mean() / (g - g.mean()).square().mean()).sqrt()
        out[i] = g * (1 + share * (ratio - 1))
    return out


@right("ex-gpu-rescale", "with flattened clips")
def rescaled(text, empty, w, share):
    guided = torch.lerp(empty, text, float(w))
    ratio = text.flatten(1).std(1) / guided.flatten(1).std(1)
    return torch.lerp(guided, guided * ratio[:, None, None, None, None], float(share))


def skips(*given, blocks=None, last=True, down=True, shift=1):
    config, frames, height, width, halves, size = given
    c, count, m = config.model_channels, blocks or config.res_blocks, config.channel_multipliers
    numbers = c * height * width
    for level, k in enumerate(m):
        numbers += count * k * c * (height >> level) * (width >> level)
        if down and (level < len(m) - 1 or not last):
            numbers += k * c * (height >> level + shift) * (width >> level + shift)
    return numbers * frames * halves * size


@wrong("ex-gpu-skips", "ignores an argument", "the size of a number", fails="without guidance, in float32")
def skip_bytes(config, frames, height, width, halves, size):
    return skips(config, frames, height, width, halves, 2)


@wrong("ex-gpu-skips", "ignores an argument", "the configuration", fails="the tiny network")
def skip_bytes(config, frames, height, width, halves, size):
    return skips(vdmlib.UNet3DConfig.videocrafter2(), frames, height, width, halves, size)


@wrong("ex-gpu-skips", "hard-codes the example", fails="the tiny network")
def skip_bytes(config, frames, height, width, halves, size):
    return 265_420_800


@wrong("ex-gpu-skips", "has the classic bug", "two blocks on every level", fails="the tiny network")
def skip_bytes(config, frames, height, width, halves, size):
    return skips(config, frames, height, width, halves, size, blocks=2)


@wrong("ex-gpu-skips", "has the classic bug", "forgets the halving blocks", fails="VideoCrafter2, as in the figure")
def skip_bytes(config, frames, height, width, halves, size):
    return skips(config, frames, height, width, halves, size, down=False)


@wrong("ex-gpu-skips", "has the classic bug", "halves on the last level, too", fails="VideoCrafter2, as in the figure")
def skip_bytes(config, frames, height, width, halves, size):
    return skips(config, frames, height, width, halves, size, last=False)


@wrong(
    "ex-gpu-skips",
    "has the classic bug",
    "what the halving blocks are given, not what they leave",
    fails="VideoCrafter2, as in the figure",
)
def skip_bytes(config, frames, height, width, halves, size):
    return skips(config, frames, height, width, halves, size, shift=0)


@wrong("ex-gpu-skips", "has the right shape and nothing else", fails="VideoCrafter2, as in the figure")
def skip_bytes(config, frames, height, width, halves, size):
    return frames * height * width * halves * size


@right("ex-gpu-skips", "the list of all skips")
def skip_bytes(config, frames, height, width, halves, size):
    c, last = config.model_channels, len(config.channel_multipliers) - 1
    shapes = [(c, height, width)]
    for level, k in enumerate(config.channel_multipliers):
        shapes += [(k * c, height, width)] * config.res_blocks
        height, width = height // 2, width // 2
        shapes += [(k * c, height, width)] * (level < last)
    return sum(a * b * d for a, b, d in shapes) * frames * halves * size


@right("ex-gpu-skips", "by running the encoder on tensors without numbers")
def skip_bytes(config, frames, height, width, halves, size):
    with torch.device("meta"):
        net, x = vdmlib.UNet3D(config).eval(), torch.empty(1, frames, config.in_channels, height, width)
        text = torch.empty(1, config.text_tokens, config.context_channels)
        embedding, total = net.embedding(torch.zeros(1, frames), torch.ones(1)), 0
        for block in net.encoder_blocks:
            x = block(x, embedding, text)
            total += x.numel()
    return total * halves * size
