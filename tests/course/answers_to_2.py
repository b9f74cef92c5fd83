"""Answers to assignment 2, wrong and right, as students write them."""

import math

import torch
import torch.nn.functional as F
from course_answers import right, wrong
from einops import rearrange

END = 10000


def features(values, channels, frequencies, order=("cos", "sin"), scale=1.0):
    angles = scale * values[..., None].double() * frequencies
    parts = [getattr(angles, name)() for name in order]
    return F.pad(torch.cat(parts, dim=-1), (0, channels - 2 * (channels // 2)))


def falling(half, max_period):
    return max_period ** (-torch.arange(half, dtype=torch.double) / half)


@wrong("waves", "at 0 all cosines are 1 and all sines 0")
def sines_first(values, channels, max_period=END):
    return features(values, channels, falling(channels // 2, max_period), ("sin", "cos"))


@wrong("waves", "the first pair turns by 1 for each step")
def full_turns(values, channels, max_period=END):
    return features(values, channels, falling(channels // 2, max_period), scale=2 * math.pi)


@wrong("waves", "the others turn ever more slowly")
def divides_by_channels(values, channels, max_period=END):
    return features(values, channels, falling(channels // 2, max_period) ** 0.5)


@wrong("waves", "another slowest period")
def ignores_the_period(values, channels, max_period=END):
    return features(values, channels, falling(channels // 2, END))


@wrong("waves", "an odd last channel is zero")
def even_only(values, channels, max_period=END):
    return features(values, channels, falling(channels // 2, max_period))[..., : 2 * (channels // 2)]


@wrong("waves", "values of any shape")
def one_axis_only(values, channels, max_period=END):
    return features(values.reshape(-1), channels, falling(channels // 2, max_period))


@wrong("waves", "the others turn ever more slowly")
def interleaved(values, channels, max_period=END):
    out = features(values, channels, falling(channels // 2, max_period))
    half = channels // 2
    mixed = torch.stack([out[..., :half], out[..., half : 2 * half]], dim=-1).flatten(-2)
    return F.pad(mixed, (0, channels - 2 * half))


@right("waves", "through complex numbers")
def complex_numbers(values, channels, max_period=END):
    turns = torch.exp(1j * values[..., None].double() * falling(channels // 2, max_period))
    rest = torch.zeros(*values.shape, channels - 2 * (channels // 2)).double()
    return torch.cat([turns.real, turns.imag, rest], dim=-1)


@right("waves", "through exp and log, in float32")
def by_exp(values, channels, max_period=END):
    half = channels // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half) / half)
    return features(values, channels, frequencies.double()).float()


def masked(scores, allowed):
    return scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)


@wrong("attend", "scores are divided by √d")
def forgets_the_root(q, k, v, allowed=None):
    return masked(q @ k.transpose(-2, -1), allowed).softmax(dim=-1) @ v


@wrong("attend", "scores are divided by √d")
def divides_by_d(q, k, v, allowed=None):
    return masked(q @ k.transpose(-2, -1) / q.shape[-1], allowed).softmax(dim=-1) @ v


@wrong("attend", "keys that are all alike give the mean of the values")
def softmax_over_queries(q, k, v, allowed=None):
    return masked(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, allowed).softmax(dim=-2) @ v


@wrong("attend", "and the rest sums to one")
def forbids_afterwards(q, k, v, allowed=None):
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights if allowed is None else weights * allowed) @ v


@wrong("attend", "what is not allowed is not heard")
def ignores_the_mask(q, k, v, allowed=None):
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


@wrong("attend", "what is not allowed is not heard")
def a_hundred_is_not_infinity(q, k, v, allowed=None):
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return (scores if allowed is None else scores - 100.0 * ~allowed).softmax(dim=-1) @ v


@wrong("attend", "large scores are no trouble")
def overflows(q, k, v, allowed=None):
    weights = masked(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, allowed).exp()
    return weights / weights.sum(dim=-1, keepdim=True) @ v


@wrong("attend", "what is not allowed is not heard")
def the_mask_upside_down(q, k, v, allowed=None):
    return masked(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, None if allowed is None else ~allowed).softmax(-1) @ v


@right("attend", "einsum and a softmax by hand")
def by_hand(q, k, v, allowed=None):
    scores = torch.einsum("...nd,...md->...nm", q * q.shape[-1] ** -0.5, k)
    if allowed is not None:
        scores = torch.where(allowed, scores, torch.tensor(-1e30, dtype=scores.dtype))
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return torch.einsum("...nm,...me->...ne", weights / weights.sum(-1, keepdim=True), v)


@right("attend", "one query after the other")
def query_by_query(q, k, v, allowed=None):
    rows = []
    for i in range(q.shape[-2]):
        scores = (k * q[..., i : i + 1, :]).sum(-1) / math.sqrt(q.shape[-1])
        rows.append((masked(scores, None if allowed is None else allowed[i])).softmax(-1)[..., None, :] @ v)
    return torch.cat(rows, dim=-2)


def heads_of(x, context, to_q, to_k, to_v, to_out, heads, pattern="(heads d)"):
    asked = x @ to_q.T, context @ to_k.T, context @ to_v.T
    q, k, v = (rearrange(t, f"b n {pattern} -> b heads n d", heads=heads) for t in asked)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return rearrange(scores.softmax(-1) @ v, f"b heads n d -> b n {pattern}") @ to_out.T


@wrong("multi_head", "several heads, each with its own share of the channels")
def ignores_the_heads(x, context, to_q, to_k, to_v, to_out, heads):
    return heads_of(x, context, to_q, to_k, to_v, to_out, 1)


@wrong("multi_head", "several heads, each with its own share of the channels")
def heads_last(x, context, to_q, to_k, to_v, to_out, heads):
    return heads_of(x, context, to_q, to_k, to_v, to_out, heads, "(d heads)")


@wrong("multi_head", "several heads, each with its own share of the channels")
def root_of_all_channels(x, context, to_q, to_k, to_v, to_out, heads):
    return heads_of(x, context, to_q / heads**0.5, to_k, to_v, to_out, heads)


@wrong("multi_head", "a single token of context is what everybody hears")
def forgets_the_last_matrix(x, context, to_q, to_k, to_v, to_out, heads):
    return heads_of(x, context, to_q, to_k, to_v, torch.eye(len(to_out)).double(), heads)


@wrong("multi_head", "a single token of context is what everybody hears")
def values_from_keys(x, context, to_q, to_k, to_v, to_out, heads):
    return heads_of(x, context, to_q, to_k, to_k, to_out, heads)


@wrong("multi_head", "one head")
def forgets_to_transpose(x, context, to_q, to_k, to_v, to_out, heads):
    return heads_of(x, context, to_q.T, to_k, to_v, to_out, heads)


@right("multi_head", "head after head")
def head_by_head(x, context, to_q, to_k, to_v, to_out, heads):
    out = 0
    for q, k, v, o in zip(*(m.chunk(heads) for m in (to_q, to_k, to_v, to_out.T)), strict=True):
        scores = (x @ q.T) @ (context @ k.T).transpose(1, 2) / len(q) ** 0.5
        out = out + scores.softmax(-1) @ (context @ v.T) @ o
    return out


@right("multi_head", "PyTorch's own attention inside")
def fused(x, context, to_q, to_k, to_v, to_out, heads):
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (x @ to_q.T, context @ to_k.T, context @ to_v.T))
    return F.linear(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), to_out)


@wrong("over_pixels", "one row for each frame, one token for each pixel")
def all_frames_in_one_row(layer, x):
    _, f, _, h, w = x.shape
    out = layer(rearrange(x, "b f c h w -> b (f h w) c"))
    return rearrange(out, "b (f h w) c -> b f c h w", f=f, h=h, w=w)


@wrong("over_pixels", "what goes in comes out in its place")
def reshapes_back(layer, x):
    return layer(x.flatten(3).transpose(2, 3).flatten(0, 1)).reshape(x.shape)


@wrong("over_pixels", "pixels in reading order, frames apart")
def column_by_column(layer, x):
    b, _, _, h, _ = x.shape
    return rearrange(layer(rearrange(x, "b f c h w -> (b f) (w h) c")), "(b f) (w h) c -> b f c h w", b=b, h=h)


@wrong("over_pixels", "one row for each frame, one token for each pixel")
def a_loop_over_frames(layer, x):
    frames = [layer(x[:, i].flatten(2).transpose(1, 2)).transpose(1, 2) for i in range(x.shape[1])]
    return torch.stack(frames, dim=1).reshape(x.shape)


@right("over_pixels", "without einops")
def by_flattening(layer, x):
    tokens = layer(x.flatten(3).transpose(2, 3).flatten(0, 1))
    return tokens.unflatten(0, x.shape[:2]).transpose(2, 3).unflatten(3, x.shape[3:])


@right("over_pixels", "channels last, and permuted back")
def by_permuting(layer, x):
    b, f, c, h, w = x.shape
    return layer(x.permute(0, 1, 3, 4, 2).reshape(b * f, h * w, c)).reshape(b, f, h, w, c).permute(0, 1, 4, 2, 3)


@wrong("over_frames", "one row for each pixel, one token for each frame")
def over_space_after_all(layer, x):
    b, _, _, h, _ = x.shape
    return rearrange(layer(rearrange(x, "b f c h w -> (b f) (h w) c")), "(b f) (h w) c -> b f c h w", b=b, h=h)


@wrong("over_frames", "what goes in comes out in its place")
def reshapes_frames_back(layer, x):
    return layer(rearrange(x, "b f c h w -> (b h w) f c")).reshape(x.shape)


@wrong("over_frames", "frames in their order")
def last_frame_first(layer, x):
    b, _, _, h, w = x.shape
    out = layer(rearrange(x, "b f c h w -> (b h w) f c").flip(1)).flip(1)
    return rearrange(out, "(b h w) f c -> b f c h w", b=b, h=h, w=w)


@wrong("over_frames", "pixels and videos do not hear each other")
def shuffles_by_reshape(layer, x):
    b, f, c, h, w = x.shape
    return layer(x.reshape(b * h * w, f, c)).reshape(x.shape)


@right("over_frames", "without einops")
def frames_by_flattening(layer, x):
    b, f, c, h, w = x.shape
    return layer(x.permute(0, 3, 4, 1, 2).reshape(-1, f, c)).reshape(b, h, w, f, c).permute(0, 3, 4, 1, 2)


@right("over_frames", "pixels in another order: nobody asks for one")
def columns_first(layer, x):
    b, _, _, h, w = x.shape
    return rearrange(layer(rearrange(x, "b f c h w -> (w b h) f c")), "(w b h) f c -> b f c h w", b=b, h=h, w=w)


def heard(q, k, v):
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v


@wrong("dual", "at a scale of 1 both are added, each with its own softmax")
def one_softmax(q, text_k, text_v, image_k, image_v, scale):
    return heard(q, torch.cat([text_k, image_k], 1), torch.cat([text_v, scale * image_v], 1))


@wrong("dual", "at a scale of 1 both are added, each with its own softmax")
def a_slider(q, text_k, text_v, image_k, image_v, scale):
    return (1 - scale) * heard(q, text_k, text_v) + scale * heard(q, image_k, image_v)


@wrong("dual", "a scale of 2 adds the picture twice and takes nothing from the text")
def scales_the_keys(q, text_k, text_v, image_k, image_v, scale):
    return heard(q, text_k, text_v) + heard(q, scale * image_k, image_v) * (scale != 0)


@wrong("dual", "a scale of 2 adds the picture twice and takes nothing from the text")
def ignores_the_scale(q, text_k, text_v, image_k, image_v, scale):
    return heard(q, text_k, text_v) + heard(q, image_k, image_v)


@wrong("dual", "at a scale of 0 it is the text's attention")
def scales_the_text(q, text_k, text_v, image_k, image_v, scale):
    return scale * heard(q, text_k, text_v) + heard(q, image_k, image_v)


@right("dual", "the image branch only where it is wanted")
def with_a_branch(q, text_k, text_v, image_k, image_v, scale):
    out = heard(q, text_k, text_v)
    return out if scale == 0 else out + heard(q, image_k, scale * image_v)


@right("dual", "two blocks of one matrix of weights")
def two_blocks(q, text_k, text_v, image_k, image_v, scale):
    scores = q @ torch.cat([text_k, image_k], 1).transpose(1, 2) / q.shape[-1] ** 0.5
    words = text_k.shape[1]
    weights = torch.cat([scores[..., :words].softmax(-1), scale * scores[..., words:].softmax(-1)], -1)
    return weights @ torch.cat([text_v, image_v], 1)


@wrong("two_guidances", "with both scales 1 it is the answer to both")
def both_from_nothing(empty, image, both, text_scale, image_scale):
    return empty + image_scale * (image - empty) + text_scale * (both - empty)


@wrong("two_guidances", "the text scale exaggerates what the words add to the picture")
def swapped(empty, image, both, text_scale, image_scale):
    return empty + text_scale * (image - empty) + image_scale * (both - image)


@wrong("two_guidances", "with both scales 0 nothing is heard")
def starts_from_the_picture(empty, image, both, text_scale, image_scale):
    return image + image_scale * (image - empty) + text_scale * (both - image)


@wrong("two_guidances", "an image scale of 1 alone: the answer to the picture")
def one_scale_for_all(empty, image, both, text_scale, image_scale):
    return empty + text_scale * (both - empty)


@wrong("two_guidances", "the image scale exaggerates what the picture adds to nothing")
def ignores_the_image_scale(empty, image, both, text_scale, image_scale):
    return image + text_scale * (both - image)


@right("two_guidances", "as a weighted sum of three answers")
def weighted(empty, image, both, text_scale, image_scale):
    return (1 - image_scale) * empty + (image_scale - text_scale) * image + text_scale * both


@right("two_guidances", "by lerp, twice")
def by_lerp(empty, image, both, text_scale, image_scale):
    return torch.lerp(empty, image, image_scale) + torch.lerp(torch.zeros_like(both), both - image, text_scale)
