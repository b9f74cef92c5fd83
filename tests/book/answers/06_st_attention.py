"""Wrong and right answers to the exercises of chapter 6."""

import itertools
import math

import torch
import torch.nn.functional as F
from answers import right, wrong


def masked(q, k, v, near, root=True):
    scores = q @ k.mT / (math.sqrt(q.shape[-1]) if root else 1)
    return scores.masked_fill(~near, float("-inf")).softmax(dim=-1) @ v


def distances(n):
    return torch.arange(n)[None, :] - torch.arange(n)[:, None]


@wrong("ex-attention-window", "ignores an argument", fails="who is out of reach moves nothing")
def window_attention(q, k, v, reach):
    return F.scaled_dot_product_attention(q, k, v)


@wrong("ex-attention-window", "hard-codes the example", fails="a reach of 0 gives v")
def window_attention(q, k, v, reach):
    return masked(q, k, v, distances(q.shape[1]).abs() <= 2)


@wrong("ex-attention-window", "has the classic bug", "forgets the root", fails="a reach beyond the ends is attention")
def window_attention(q, k, v, reach):
    return masked(q, k, v, distances(q.shape[1]).abs() <= reach, root=False)


@wrong("ex-attention-window", "has the classic bug", "masks after the softmax", fails="a reach of 0 gives v")
def window_attention(q, k, v, reach):
    p = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return (p * (distances(q.shape[1]).abs() <= reach)) @ v


@wrong(
    "ex-attention-window",
    "has the classic bug",
    "far scores are 0 and not minus infinity",
    fails="who is out of reach moves nothing",
)
def window_attention(q, k, v, reach):
    scores = q @ k.mT / math.sqrt(q.shape[-1]) * (distances(q.shape[1]).abs() <= reach)
    return scores.softmax(dim=-1) @ v


@wrong("ex-attention-window", "has the classic bug", "one token too few", fails="strong scores")
def window_attention(q, k, v, reach):
    return masked(q, k, v, distances(q.shape[1]).abs() < max(reach, 1))


@wrong("ex-attention-window", "has the classic bug", "looks back only", fails="a reach beyond the ends is attention")
def window_attention(q, k, v, reach):
    far = distances(q.shape[1])
    return masked(q, k, v, (far <= 0) & (far >= -reach))


@wrong(
    "ex-attention-window",
    "has the classic bug",
    "softmax over the queries",
    fails="a reach beyond the ends is attention",
)
def window_attention(q, k, v, reach):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    far = distances(q.shape[1]).abs() > reach
    return scores.masked_fill(far, float("-inf")).softmax(dim=-2) @ v


@wrong("ex-attention-window", "has the right shape and nothing else", fails="a reach beyond the ends is attention")
def window_attention(q, k, v, reach):
    return v


@right("ex-attention-window", "with PyTorch's mask")
def window_attention(q, k, v, reach):
    near = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(reach).triu(-reach)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=near)


@right("ex-attention-window", "a loop over the tokens, by hand")
def window_attention(q, k, v, reach):
    out = []
    for i in range(q.shape[1]):
        near = slice(max(0, i - reach), i + reach + 1)
        weights = (q[:, i : i + 1] * k[:, near]).sum(-1) * q.shape[-1] ** -0.5
        weights = (weights - weights.amax(dim=1, keepdim=True)).exp()
        out.append((weights[..., None] * v[:, near]).sum(1) / weights.sum(1, keepdim=True))
    return torch.stack(out, dim=1)


def heard_of(layer, x, places, threshold=0.0, seen=None):
    heard, before = set(), layer(x)
    for frame, i, j in places:
        other = x.clone()
        other[:, frame, :, i, j] += 1
        moves = ((layer(other) - before).abs() > threshold).any(dim=2).any(dim=0)
        for f, r, c in moves.nonzero().tolist():
            same_frame, same_pixel = f == frame, (r, c) == (i, j)
            if same_frame and not same_pixel:
                heard.add("own frame")
            elif same_pixel and not same_frame:
                heard.add("same pixel")
            elif not same_frame:
                heard.add("elsewhere")
    return heard


def everywhere(x):
    _, f, _, h, w = x.shape
    return itertools.product(range(f), range(h), range(w))


@wrong("ex-attention-hears", "ignores an argument", fails="a layer in which nobody hears another")
def who_hears(layer, x):
    return {"own frame", "same pixel", "elsewhere"}


@wrong("ex-attention-hears", "hard-codes the example", "asks the name of the layer", fails="temporal self-attention")
def who_hears(layer, x):
    name = type(layer).__name__
    return {"own frame"} if "Spatial" in name else {"same pixel"} if "Temporal" in name else set()


@wrong("ex-attention-hears", "has the classic bug", "one pixel of the first frame", fails="only the frame before hears")
def who_hears(layer, x):
    return heard_of(layer, x, [(0, 2, 2)])


@wrong("ex-attention-hears", "has the classic bug", "one pixel of the last frame", fails="only the next frame hears")
def who_hears(layer, x):
    return heard_of(layer, x, [(x.shape[1] - 1, 2, 2)])


@wrong("ex-attention-hears", "has the classic bug", "a threshold", fails="a very faint answer")
def who_hears(layer, x):
    return heard_of(layer, x, everywhere(x), threshold=1e-6)


@wrong(
    "ex-attention-hears",
    "has the classic bug",
    "compares with the input instead of the answer before",
    fails="a layer in which nobody hears another",
)
def who_hears(layer, x):
    def change(x):
        return layer(x) - x

    return heard_of(lambda y: change(y) if y is not x else torch.zeros_like(x), x, everywhere(x))


@wrong(
    "ex-attention-hears",
    "has the classic bug",
    "counts the changed pixel itself",
    fails="a layer in which nobody hears another",
)
def who_hears(layer, x):
    return heard_of(layer, x, everywhere(x)) | {"own frame"}


@wrong("ex-attention-hears", "has the right shape and nothing else", fails="temporal self-attention")
def who_hears(layer, x):
    return set()


@wrong("ex-attention-hears", "has the classic bug", "one pixel in the middle", fails="the first frame hears the last")
def who_hears(layer, x):
    return heard_of(layer, x, [tuple(n // 2 for n in (x.shape[1], *x.shape[3:]))])


@wrong("ex-attention-hears", "has the classic bug", "the first clip only", fails="the second clip only")
def who_hears(layer, x):
    return heard_of(lambda y: layer(y)[:1], x, everywhere(x))


@wrong("ex-attention-hears", "has the classic bug", "leaves the given tensor changed", fails="temporal self-attention")
def who_hears(layer, x):
    heard = heard_of(layer, x, everywhere(x))
    x[:, 0] += 1
    return heard


@wrong("ex-attention-hears", "ignores an argument", "a tensor of its own", fails="the second clip only")
def who_hears(layer, x):
    own = torch.randn(1, 4, 32, 5, 6, dtype=x.dtype)
    return heard_of(layer, own, everywhere(own))


@right("ex-attention-hears", "derivatives instead of differences")
def who_hears(layer, x):
    found, given = set(), x.clone().requires_grad_()
    answer = layer(given)
    for f, i, j in everywhere(x):
        (reach,) = torch.autograd.grad(answer[:, f, :, i, j].sum(), given, retain_graph=True)
        heard = reach.ne(0).any(2).any(0)
        heard[f, i, j] = False
        found |= {"own frame"} if heard[f].any() else set()
        found |= {"same pixel"} if heard[:, i, j].any() else set()
        heard[f], heard[:, i, j] = False, False
        found |= {"elsewhere"} if heard.any() else set()
    return found


@right("ex-attention-hears", "every pixel of every frame")
def who_hears(layer, x):
    return heard_of(layer, x, everywhere(x))


@right("ex-attention-hears", "pixels in any order, and a new value instead of a sum; answers with a list")
def who_hears(layer, x):
    generator = torch.Generator().manual_seed(5)
    before, found = layer(x), set()
    _, f, _, h, w = x.shape
    for number in torch.randperm(f * h * w, generator=generator).tolist():
        a, b, c = number // (h * w), number // w % h, number % w
        other = x.clone()
        other[:, a, :, b, c] = torch.randn(x.shape[2], dtype=x.dtype, generator=generator)
        moves = layer(other).ne(before).any(2).any(0)
        moves[a, b, c] = False
        found |= {"own frame"} if moves[a].any() else set()
        found |= {"same pixel"} if moves[:, b, c].any() else set()
        moves[a], moves[:, b, c] = False, False
        found |= {"elsewhere"} if moves.any() else set()
    return sorted(found)


def related(*given, sign=1, root="both", shift=0, clip=True, values=True):
    q, k, v, a, b = given
    reach, n = (len(a) - 1) // 2, q.shape[1]
    far = sign * distances(n) + shift
    index = (far.clamp(-reach, reach) if clip else far) + reach
    index = index % len(a) if not clip else index.clamp(0, len(a) - 1)
    extra = (q[:, :, None] * a[index]).sum(-1)
    scale = q.shape[-1] ** -0.5
    scores = {"both": (q @ k.mT + extra) * scale, "keys": q @ k.mT * scale + extra, "none": q @ k.mT + extra}[root]
    p = scores.softmax(-1)
    return p @ v + ((p[..., None] * b[index]).sum(2) if values else 0)


@wrong("ex-attention-relative", "ignores an argument", "nothing in the values", fails="positions in the values")
def relative_attention(q, k, v, a, b):
    return related(q, k, v, a, b, values=False)


@wrong("ex-attention-relative", "ignores an argument", "nothing in the keys", fails="positions in the keys")
def relative_attention(q, k, v, a, b):
    return related(q, k, v, 0 * a, b)


@wrong("ex-attention-relative", "hard-codes the example", "a table of nine rows", fails="both")
def relative_attention(q, k, v, a, b):
    index = (distances(q.shape[1]).clamp(-4, 4) + 4).clamp(max=len(a) - 1)
    p = ((q @ k.mT + (q[:, :, None] * a[index]).sum(-1)) / math.sqrt(q.shape[-1])).softmax(-1)
    return p @ v + (p[..., None] * b[index]).sum(2)


@wrong("ex-attention-relative", "has the classic bug", "i - j instead of j - i", fails="positions in the values")
def relative_attention(q, k, v, a, b):
    return related(q, k, v, a, b, sign=-1)


@wrong(
    "ex-attention-relative",
    "has the classic bug",
    "the positions are not divided by the root",
    fails="positions in the keys",
)
def relative_attention(q, k, v, a, b):
    return related(q, k, v, a, b, root="keys")


@wrong("ex-attention-relative", "has the classic bug", "no root", fails="without tables it is attention")
def relative_attention(q, k, v, a, b):
    return related(q, k, v, a, b, root="none")


@wrong(
    "ex-attention-relative",
    "has the classic bug",
    "distances wrap around instead of being clipped",
    fails="what is far counts as D",
)
def relative_attention(q, k, v, a, b):
    return related(q, k, v, a, b, clip=False)


@wrong("ex-attention-relative", "has the classic bug", "one row off", fails="positions in the values")
def relative_attention(q, k, v, a, b):
    return related(q, k, v, a, b, shift=1)


@wrong("ex-attention-relative", "has the right shape and nothing else", fails="without tables it is attention")
def relative_attention(q, k, v, a, b):
    return v + b.mean(0)


@right("ex-attention-relative", "a loop over the pairs")
def relative_attention(q, k, v, a, b):
    reach, n = len(a) // 2, q.shape[1]
    out = torch.zeros_like(v)
    for i in range(n):
        rows = [reach + max(-reach, min(reach, j - i)) for j in range(n)]
        p = ((q[:, i : i + 1] * (k + a[rows])).sum(-1) / math.sqrt(q.shape[-1])).softmax(-1)
        out[:, i] = (p[..., None] * (v + b[rows])).sum(1)
    return out


@right("ex-attention-relative", "keys and values of each pair, in one piece, with the fused kernel")
def relative_attention(q, k, v, a, b):
    reach = len(a) // 2
    index = distances(q.shape[1]).clamp(-reach, reach) + reach
    keys, values = k[:, None] + a[index], v[:, None] + b[index]  # b i j d
    return F.scaled_dot_product_attention(q[:, :, None], keys, values)[:, :, 0]
