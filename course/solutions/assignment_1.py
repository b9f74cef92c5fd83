# %% [markdown]
# By the end you have turned a network for pictures into one for videos that begins where the pictures ended: frame by
# frame the same, and ready to learn what time is. That is how VideoCrafter, AnimateDiff and their relatives began.
# You have read chapters 2, 3 and 5.
#
# A video is `(batch, frames, channels, height, width)`, written `b f c h w`.
# %%
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vdmlib.course import try_part

_ = torch.manual_seed(0)


# %% [part] per_frame
# Every layer of a picture network takes `(batch, c, h, w)`. Let such a layer work on a video, on each of its frames as if
# that frame were alone. Call the layer once: a loop over frames would leave most of a GPU waiting.
def per_frame(layer, x):  # x: b f c h w, layer: (n, c, h, w) -> (n, c2, h2, w2)
    """The layer applied to every frame: b f c2 h2 w2."""
    frames = layer(rearrange(x, "b f c h w -> (b f) c h w"))
    return rearrange(frames, "(b f) c h w -> b f c h w", b=len(x))


# %% [part] inflate
# Make an `nn.Conv2d` an `nn.Conv3d` (which takes `b c f h w`) with a kernel of `frames` over time, an odd number. It returns
# as many frames as it gets, and *before any training each frame is exactly what the picture's convolution would make of
# it*, the first and the last one included. Stride, padding, dilation and groups over space stay what they were, and so
# does the `dtype`.
def inflate(convolution, frames=3):
    """A convolution over space and time that begins as the given one over space."""
    over_time = frames // 2
    inflated = nn.Conv3d(
        convolution.in_channels,
        convolution.out_channels,
        (frames, *convolution.kernel_size),
        stride=(1, *convolution.stride),
        padding=(over_time, *convolution.padding),
        dilation=(1, *convolution.dilation),
        groups=convolution.groups,
        bias=convolution.bias is not None,
    ).to(convolution.weight)
    with torch.no_grad():
        inflated.weight.zero_()
        inflated.weight[:, :, over_time] = convolution.weight
        if convolution.bias is not None:
            inflated.bias.copy_(convolution.bias)
    return inflated


# %% [part] temporal_conv
# A convolution over time by hand: `weight` is `(out, in, taps)` with an odd number of taps; the middle one looks at the
# frame itself, the one before it at the frame before. Outside the video lie zeros. Pixels do not see each other. `bias` is
# `(out,)` or `None`. You may use sums, products, `einsum` and `pad`, and no convolution of PyTorch's.
def temporal_conv(x, weight, bias):
    """b f c h w -> b f out h w."""
    taps, frames = weight.shape[-1], x.shape[1]
    padded = F.pad(x, (0, 0, 0, 0, 0, 0, taps // 2, taps // 2))
    out = sum(torch.einsum("bfchw,oc->bfohw", padded[:, tap : tap + frames], weight[:, :, tap]) for tap in range(taps))
    return out if bias is None else out + bias[:, None, None]


# %% [part] add_embedding
# The ResNet block is told the noise level in the middle: the embedding goes through a SiLU and a linear layer, and the result
# is added to every pixel. Write it with the layer's `weight` `(c, d)` and `bias` `(c,)`. An embedding `(b, d)` is for all
# frames of a video, an embedding `(b, f, d)` has one vector for each frame.
def add_embedding(h, embedding, weight, bias):
    """h: b f c h w, plus what the embedding says to each channel."""
    added = F.linear(F.silu(embedding), weight, bias)
    if added.ndim == 2:
        added = added[:, None]
    return h + added[..., None, None]


# %% [part] TemporalResidual
# A block with weights that goes between the layers of a picture network, takes `b f c h w` (`channels` of them, a multiple
# of 8) and returns the same. Fresh, it changes nothing at all, so that the pictures stay what they were. Trained, it lets
# frames that lie side by side hear each other, and keeps pixels and videos apart (so no norm over pixels, unlike chapter
# 3's block). Which layers it has is up to you.
class TemporalResidual(nn.Module):
    """x plus what its neighbours in time say, which is nothing at first."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv1d(channels, channels, 3, padding=1)
        self.last = nn.Conv1d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x):
        b, _, _, h, _ = x.shape
        rows = rearrange(x, "b f c h w -> (b h w) c f")
        added = self.last(F.silu(self.first(rows)))
        return x + rearrange(added, "(b h w) c f -> b f c h w", b=b, h=h)


# %% [part] load_picture_weights
# Bring the weights of a picture network into a video network. Both are given as dictionaries of tensors, as `state_dict`
# returns them. Return a new dictionary for the video network, and the list of the names for which the pictures had nothing:
# the new layers. A kernel of four axes becomes one of five by the rule of `inflate`. Names that only the picture network
# has are left out. What fits in neither way is refused, shape by shape: a `ValueError` that says the name.
def load_picture_weights(video, picture):
    """(weights of the video network after loading, names that were not loaded)."""
    loaded, new = {}, []
    for name, own in video.items():
        value = own.clone()
        if name not in picture:
            new.append(name)
        elif picture[name].shape == own.shape:
            value.copy_(picture[name])
        elif own.ndim == 5 and picture[name].shape == own[:, :, 0].shape:
            value.zero_()
            value[:, :, own.shape[2] // 2] = picture[name]
        else:
            raise ValueError(f"{name} is {tuple(picture[name].shape)} for pictures and {tuple(own.shape)} for videos.")
        loaded[name] = value
    return loaded, new


# %% [markdown]
# ## Put together
#
# With all six parts you can do what the chapters do: take `vdmlib.unet2d.UNet2D` (as a subclass, so that its names stay),
# apply its layers with `per_frame`, put a `TemporalResidual` behind each block, load the weights of a trained picture
# network, and check that the video network's frames are the picture network's. Nobody grades this; it is the best way to see
# that your parts fit.
