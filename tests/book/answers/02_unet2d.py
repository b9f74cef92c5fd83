"""Wrong and right answers to the exercises of chapter 2."""

import torch
import torch.nn.functional as F
from answers import right, wrong
from einops import rearrange, repeat

from vdmlib.unet2d import UNet2D


@wrong("ex-unet2d-sizes", "ignores an argument", fails="100 is too small")
def original_size(n):
    return 388


@wrong("ex-unet2d-sizes", "hard-codes the example", fails="of the sizes up to 572, 25 fit")
def original_size(n):
    return {572: 388, 188: 4}.get(n)


@wrong("ex-unet2d-sizes", "has the classic bug", "rounds odd sides down", fails="all of them lose the same border")
def original_size(n):
    for _ in range(4):
        n = (n - 4) // 2
    n -= 4
    for _ in range(4):
        n = 2 * n - 4
    return n if n > 0 else None


@wrong(
    "ex-unet2d-sizes",
    "has the classic bug",
    "forgets the two convolutions at the bottom",
    fails="572 gives 388, as in the paper",
)
def original_size(n):
    for _ in range(4):
        n -= 4
        if n % 2 or n <= 0:
            return None
        n //= 2
    for _ in range(4):
        n = 2 * n - 4
    return n if n > 0 else None


@wrong("ex-unet2d-sizes", "has the right shape and nothing else", fails="572 gives 388, as in the paper")
def original_size(n):
    return n if n % 2 == 0 else None


@right("ex-unet2d-sizes", "in closed form")
def original_size(n):
    return n - 184 if n % 16 == 12 and n > 184 else None


@right("ex-unet2d-sizes", "from the bottom: which sizes come from a map of k pixels there?")
def original_size(n):
    fits = {16 * k + 124: 16 * k - 60 for k in range(4, 200)}
    return fits.get(n)


class Adding(UNet2D):
    """What the wrong networks have in common: ``merge`` and ``finish`` say what they do with the skips."""

    def __init__(self, widths=(16, 32, 64, 128)):
        super().__init__(widths=widths, skip_connections=False)

    def merge(self, h, skip, number):
        return h + skip

    def finish(self, answer, x):
        return answer

    def forward(self, x, noise_level):
        h = torch.cat([x, repeat(noise_level, "b -> b 1 h w", h=x.shape[2], w=x.shape[3])], dim=1)
        skips = []
        for block in self.encoder_blocks:
            h = block(h)
            skips.append(h)
        h = self.middle(h)
        for number, block in enumerate(self.decoder_blocks):
            h = block(self.merge(h, skips.pop(), number))
        return self.finish(self.out(h), x)


@wrong("ex-unet2d-add", "ignores an argument", "the noise level", fails="picture and noise level go in together")
class AddingUNet(Adding):
    def forward(self, x, noise_level):
        return super().forward(x, torch.zeros_like(noise_level))


@wrong(
    "ex-unet2d-add",
    "hard-codes the example",
    "only the finest skip",
    fails="the lowest decoder block gets below + skip",
)
class AddingUNet(Adding):
    def merge(self, h, skip, number):
        return h + skip if number == len(self.decoder_blocks) - 1 else h


@wrong("ex-unet2d-add", "has the classic bug", "only the coarsest skip", fails="and the last one")
class AddingUNet(Adding):
    def merge(self, h, skip, number):
        return h + skip if number == 0 else h


@wrong("ex-unet2d-add", "has the classic bug", "subtracts a part", fails="the lowest decoder block gets below + skip")
class AddingUNet(Adding):
    def merge(self, h, skip, number):
        return h - 0.3 * skip


@wrong(
    "ex-unet2d-add",
    "has the classic bug",
    "multiplies instead of adding",
    fails="the lowest decoder block gets below + skip",
)
class AddingUNet(Adding):
    def merge(self, h, skip, number):
        return h * (1 + skip)


@wrong(
    "ex-unet2d-add",
    "has the classic bug",
    "adds the picture to the answer, and no skip",
    fails="what comes out of `out` is the answer",
)
class AddingUNet(Adding):
    def merge(self, h, skip, number):
        return h

    def finish(self, answer, x):
        return answer + x


@wrong(
    "ex-unet2d-add", "has the classic bug", "adds the picture as well", fails="what comes out of `out` is the answer"
)
class AddingUNet(Adding):
    def finish(self, answer, x):
        return answer + x


@wrong("ex-unet2d-add", "has the right shape and nothing else", fails="the lowest decoder block gets below + skip")
class AddingUNet(Adding):
    def merge(self, h, skip, number):
        return h


@right("ex-unet2d-add", "by index, without a stack")
class AddingUNet(Adding):
    def forward(self, x, noise_level):
        sigma = noise_level[:, None, None, None].expand(-1, 1, *x.shape[2:])
        maps = [self.encoder_blocks[0](torch.cat((x, sigma), 1))]
        for i in range(1, len(self.encoder_blocks)):
            maps.append(self.encoder_blocks[i](maps[i - 1]))
        h = self.middle(maps[-1])
        for i in range(len(self.decoder_blocks)):
            h = self.decoder_blocks[i](torch.add(h, maps[-1 - i]))
        return self.out(h)


@right("ex-unet2d-add", "the skips are added in place, from a recursive function")
class AddingUNet(Adding):
    def forward(self, x, noise_level):
        def level(h, i):
            if i == len(self.encoder_blocks):
                return self.middle(h)
            skip = self.encoder_blocks[i](h)
            return self.decoder_blocks[-1 - i](level(skip, i + 1) + skip)

        sigma = torch.ones_like(x[:, :1]) * noise_level.reshape(-1, 1, 1, 1)
        return self.out(level(torch.cat([x, sigma], dim=1), 0))


@wrong(
    "ex-unet2d-shuffle", "ignores an argument", "gives back what was folded last", fails="fold gives everything back"
)
def unfold(x):
    folded = x[:, ::4]
    return torch.arange(folded.numel() * 4).float().reshape(len(x), -1, 2 * x.shape[2], 2 * x.shape[3])


@wrong("ex-unet2d-shuffle", "hard-codes the example", fails="fold gives everything back")
def fold(x):
    x = x.flatten()[: 3 * 4 * 6 * (x.numel() // 72)].reshape(-1, 3, 4, 6)
    return rearrange(x, "b c (h i) (w j) -> b (c i j) h w", i=2, j=2)


@wrong(
    "ex-unet2d-shuffle",
    "has the classic bug",
    "quarters instead of neighbours",
    fails="the four of a square are at one place",
)
def fold(x):
    return rearrange(x, "b c (i h) (j w) -> b (c i j) h w", i=2, j=2)


@wrong(
    "ex-unet2d-shuffle",
    "has the classic bug",
    "another order of channels than fold's",
    fails="unfold gives everything back",
)
def unfold(x):
    return rearrange(x, "b (c i j) h w -> b c (h j) (w i)", i=2, j=2)


@wrong("ex-unet2d-shuffle", "has the right shape and nothing else", fails="the four of a square are at one place")
def fold(x):
    return x.reshape(len(x), 4 * x.shape[1], x.shape[2] // 2, x.shape[3] // 2)


@right("ex-unet2d-shuffle", "PyTorch's own")
def fold(x):
    return F.pixel_unshuffle(x, 2)


@right("ex-unet2d-shuffle", "by axes that are moved, in the solution's order")
def unfold(x):
    b, c, h, w = x.shape
    return x.reshape(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, 2 * h, 2 * w)
