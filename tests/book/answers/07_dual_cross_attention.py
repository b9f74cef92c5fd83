"""Wrong and right answers to the exercises of chapter 7."""

import torch
import torch.nn.functional as F
from answers import right, wrong
from einops import rearrange, repeat


def heard(q, k, v, root=True, scale=1.0):
    return (scale * (q @ k.T) / (q.shape[-1] ** 0.5 if root else 1)).softmax(dim=-1) @ v


@wrong(
    "ex-dual-voices",
    "ignores an argument",
    "all voices are equally loud",
    fails="the image half as loud, or not at all",
)
def voices(q, keys, values, scales):
    return sum(heard(q, k, v) for k, v in zip(keys, values, strict=True))


@wrong("ex-dual-voices", "ignores an argument", "the text's scale is taken for 1", fails="the text has a scale as well")
def voices(q, keys, values, scales):
    scales = [1.0, *scales[1:]]
    return sum(s * heard(q, k, v) for s, k, v in zip(scales, keys, values, strict=True))


@wrong("ex-dual-voices", "hard-codes the example", "two voices", fails="three voices, and one")
def voices(q, keys, values, scales):
    return heard(q, keys[0], values[0]) * scales[0] + heard(q, keys[1], values[1]) * scales[1]


@wrong("ex-dual-voices", "hard-codes the example", "a width of 6", fails="other widths")
def voices(q, keys, values, scales):
    parts = [(q @ k.T / 6**0.5).softmax(dim=-1) @ v for k, v in zip(keys, values, strict=True)]
    return sum(s * part for s, part in zip(scales, parts, strict=True))


@wrong("ex-dual-voices", "has the classic bug", "one softmax for all", fails="who repeats himself is not louder")
def voices(q, keys, values, scales):
    return heard(q, torch.cat(keys), torch.cat([s * v for s, v in zip(scales, values, strict=True)]))


@wrong("ex-dual-voices", "has the classic bug", "forgets the root of d", fails="text and image")
def voices(q, keys, values, scales):
    return sum(s * heard(q, k, v, root=False) for s, k, v in zip(scales, keys, values, strict=True))


@wrong(
    "ex-dual-voices", "has the classic bug", "the scale is a temperature", fails="the image half as loud, or not at all"
)
def voices(q, keys, values, scales):
    return sum(heard(q, k, v, scale=s) for s, k, v in zip(scales, keys, values, strict=True))


@wrong("ex-dual-voices", "has the classic bug", "softmax over the queries", fails="who repeats himself is not louder")
def voices(q, keys, values, scales):
    parts = [(q @ k.T / q.shape[-1] ** 0.5).softmax(dim=0) @ v for k, v in zip(keys, values, strict=True)]
    return sum(s * part for s, part in zip(scales, parts, strict=True))


@wrong("ex-dual-voices", "has the classic bug", "divides by the sum of the scales", fails="text and image")
def voices(q, keys, values, scales):
    return sum(s * heard(q, k, v) for s, k, v in zip(scales, keys, values, strict=True)) / sum(scales)


@wrong("ex-dual-voices", "has the classic bug", "exponentials that overflow", fails="strong queries and keys")
def voices(q, keys, values, scales):
    total = 0
    for k, v, s in zip(keys, values, scales, strict=True):
        weights = (q @ k.T / q.shape[-1] ** 0.5).exp()
        total = total + s * (weights / weights.sum(dim=-1, keepdim=True)) @ v
    return total


@wrong("ex-dual-voices", "has the right shape and nothing else", fails="text and image")
def voices(q, keys, values, scales):
    return torch.zeros_like(q)


@right("ex-dual-voices", "the scale on the values, the fused kernel")
def voices(q, keys, values, scales):
    loud = [s * v for s, v in zip(scales, values, strict=True)]
    return torch.stack([F.scaled_dot_product_attention(q, k, v) for k, v in zip(keys, loud, strict=True)]).sum(dim=0)


@right("ex-dual-voices", "all scores at once, a softmax for each part")
def voices(q, keys, values, scales):
    lengths = [len(k) for k in keys]
    scores = (q @ torch.cat(keys).T / q.shape[-1] ** 0.5).split(lengths, dim=-1)
    weights = torch.cat([s * part.softmax(dim=-1) for s, part in zip(scales, scores, strict=True)], dim=-1)
    return weights @ torch.cat(values)


@right("ex-dual-voices", "exponentials by hand, the largest taken away")
def voices(q, keys, values, scales):
    total = torch.zeros_like(q)
    for k, v, s in zip(keys, values, scales, strict=True):
        scores = torch.einsum("nd,md->nm", q, k) * q.shape[-1] ** -0.5
        weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
        total += s * torch.einsum("nm,md->nd", weights, v) / weights.sum(dim=-1, keepdim=True)
    return total


def parted(context, frames, text, per_frame, order="(b f)", image="b (f m) c", own=True):
    words, tokens = context[:, :text], context[:, text:]
    if own and tokens.shape[1] == frames * per_frame:
        tokens = rearrange(tokens, f"{image} -> {order} m c", f=frames)
    else:
        tokens = repeat(tokens, f"b m c -> {order} m c", f=frames)
    return repeat(words, f"b m c -> {order} m c", f=frames), tokens


@wrong("ex-dual-frames", "ignores an argument", "77 words", fails="one frame")
def cut(context, frames, text=77, per_frame=16):
    return parted(context, frames, 77, per_frame)


@wrong("ex-dual-frames", "ignores an argument", "16 tokens a frame", fails="one token for each frame")
def cut(context, frames, text=77, per_frame=16):
    return parted(context, frames, text, 16)


@wrong("ex-dual-frames", "ignores an argument", "cuts whatever number there is", fails="tokens for the whole video")
def cut(context, frames, text=77, per_frame=16):
    tokens = context[:, text:]
    if tokens.shape[1] % frames == 0:
        return parted(context, frames, text, tokens.shape[1] // frames)
    return parted(context, frames, text, per_frame)


@wrong("ex-dual-frames", "hard-codes the example", fails="one token for each frame")
def cut(context, frames, text=77, per_frame=16):
    return parted(context, frames, text, per_frame, own=context.shape[1] == 333)


@wrong(
    "ex-dual-frames", "has the classic bug", "the videos of a frame stay together", fails="tokens for the whole video"
)
def cut(context, frames, text=77, per_frame=16):
    return parted(context, frames, text, per_frame, order="(f b)")


@wrong(
    "ex-dual-frames", "has the classic bug", "each frame gets every so-many-th token", fails="77 + 16 × 16, as released"
)
def cut(context, frames, text=77, per_frame=16):
    return parted(context, frames, text, per_frame, image="b (m f) c")


@wrong("ex-dual-frames", "has the classic bug", "always all tokens for every frame", fails="77 + 16 × 16, as released")
def cut(context, frames, text=77, per_frame=16):
    return parted(context, frames, text, per_frame, own=False)


@wrong("ex-dual-frames", "has the right shape and nothing else", fails="one frame")
def cut(context, frames, text=77, per_frame=16):
    return tuple(torch.zeros_like(part) for part in parted(context, frames, text, per_frame))


@right("ex-dual-frames", "frame by frame, by slices")
def cut(context, frames, text=77, per_frame=16):
    words, own = [], []
    for video in context:
        mine = len(video) - text == frames * per_frame
        for frame in range(frames):
            start, stop = (text + frame * per_frame, text + (frame + 1) * per_frame) if mine else (text, len(video))
            words.append(video[:text])
            own.append(video[start:stop])
    return torch.stack(words), torch.stack(own)


@right("ex-dual-frames", "with reshape and repeat_interleave")
def cut(context, frames, text=77, per_frame=16):
    words = context[:, :text].repeat_interleave(frames, dim=0)
    image = context[:, text:]
    if image.shape[1] == frames * per_frame:
        return words, image.reshape(len(context) * frames, per_frame, -1)
    return words, image.repeat_interleave(frames, dim=0)
