# %% [markdown]
# By the end you have written every kind of attention that a video U-Net has: over pixels, over frames, to a sentence, to a
# sentence and a picture; the waves that tell it numbers; and the guidance that exaggerates what it heard. You have read
# chapters 4, 6 and 7.
#
# Tokens are `(rows, tokens, channels)`; a video is `(batch, frames, channels, height, width)`, written `b f c h w`. PyTorch's
# own attention (`F.scaled_dot_product_attention`, `nn.MultiheadAttention`) is for comparing, not for handing in.
# %%
import math

import torch
import torch.nn.functional as F
from einops import rearrange

from vdmlib.course import try_part

_ = torch.manual_seed(0)


# %% [part] waves
# Tell a network numbers, such as timesteps or frames per second: as cosines (the first half of the channels) and sines (the
# second half) of `value` times frequencies that fall from 1, frequency $i$ being `max_period` to the power $-i / \text{half}$.
# An odd last channel is zero.
def waves(values, channels, max_period=10000):
    """(...) -> (..., channels)."""
    half = channels // 2
    frequencies = max_period ** (-torch.arange(half, dtype=torch.double) / half)
    angles = values[..., None].double() * frequencies
    features = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(features, (0, channels - 2 * half))


# %% [part] attend
# Attention by hand. `allowed` `(n, m)` is true where a query may look at a key, and `None` if it may look everywhere.
# The axes before the last two are any: rows, or rows and heads. Only the result is returned, not the shares.
def attend(q, k, v, allowed=None):  # q: ... n d, k: ... m d, v: ... m e
    """What each query hears: ... n e."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    return scores.softmax(dim=-1) @ v


# %% [part] multi_head
# Queries from `x` `(b, n, c)`, keys and values from `context` `(b, m, d)`; each head has its own consecutive share of the
# channels; a last matrix mixes what the heads have heard. The matrices are those of linear layers without bias, `(out, in)`.
def multi_head(x, context, to_q, to_k, to_v, to_out, heads):
    """Attention with several heads: b n c."""

    def split(tokens):
        return rearrange(tokens, "b n (heads d) -> b heads n d", heads=heads)

    heard = attend(split(x @ to_q.T), split(context @ to_k.T), split(context @ to_v.T))
    return rearrange(heard, "b heads n d -> b n (heads d)") @ to_out.T


# %% [part] over_pixels
# Let a layer for tokens, `(rows, tokens, channels) -> (rows, tokens, channels)`, work over space: the pixels of a frame are one
# row, read line by line. Call it once.
def over_pixels(layer, x):
    """b f c h w -> b f c h w, every frame for itself."""
    b, _, _, h, _ = x.shape
    tokens = layer(rearrange(x, "b f c h w -> (b f) (h w) c"))
    return rearrange(tokens, "(b f) (h w) c -> b f c h w", b=b, h=h)


# %% [part] over_frames
# And now over time: who is in a row with whom? Call the layer once.
def over_frames(layer, x):
    """b f c h w -> b f c h w, every pixel for itself."""
    b, _, _, h, w = x.shape
    tokens = layer(rearrange(x, "b f c h w -> (b h w) f c"))
    return rearrange(tokens, "(b h w) f c -> b f c h w", b=b, h=h, w=w)


# %% [part] dual
# Dual cross-attention: the same queries ask the words and the picture, and the answer of the picture, times `scale`, is added.
# No heads and no matrices here; as in `attend`, any axes may stand before the last two.
def dual(q, text_k, text_v, image_k, image_v, scale):
    """What the words say plus scale times what the picture says."""
    return attend(q, text_k, text_v) + scale * attend(q, image_k, image_v)


# %% [part] two_guidances
# Three answers of a denoiser: to nothing, to the picture alone, to the picture and the words. Exaggerate what the picture adds
# by `image_scale`, and what the words add to it by `text_scale`.
def two_guidances(empty, image, both, text_scale, image_scale):
    """The guided answer, of the same shape."""
    return empty + image_scale * (image - empty) + text_scale * (both - image)


# %% [markdown]
# ## Put together
#
# A transformer over space is `over_pixels` of a `multi_head` with `context` the pixels themselves, then one with the words; a
# transformer over time is `over_frames` of the same. Compare yours with `vdmlib.attention.Attention` and its weights (its last
# layer has a bias, which yours lacks; repeat the words for each row). Nobody grades this; it is the best way to see that your
# parts fit.
