"""Answers to assignment 1, wrong and right, as students write them."""

import torch
import torch.nn.functional as F
from course_answers import right, wrong
from einops import rearrange
from torch import nn


@wrong("per_frame", "each frame is as if it were alone")
def frames_among_channels(layer, x):
    b, f, c, h, w = x.shape
    return layer(x.reshape(b, c, f, h, w).transpose(1, 2).reshape(b * f, c, h, w)).reshape(b, f, -1, h, w)


@wrong("per_frame", "each frame is as if it were alone")
def first_frame_only(layer, x):
    return layer(x[:, 0])[:, None].repeat(1, x.shape[1], 1, 1, 1)


@wrong("per_frame", "the layer may change channels and sides")
def keeps_the_sizes(layer, x):
    return layer(x.flatten(0, 1)).reshape(x.shape)


@wrong("per_frame", "the layer is called once")
def a_loop(layer, x):
    return torch.stack([layer(x[:, i]) for i in range(x.shape[1])], dim=1)


@wrong("per_frame", "a video that lies otherwise in memory is welcome")
def a_view(layer, x):
    b, f, c, h, w = x.shape
    out = layer(x.view(b * f, c, h, w))
    return out.view(b, f, *out.shape[1:])


@wrong("per_frame", "each frame is as if it were alone")
def frames_first(layer, x):
    out = layer(rearrange(x, "b f c h w -> (f b) c h w"))
    return rearrange(out, "(b f) c h w -> b f c h w", b=len(x))


@right("per_frame", "flatten and unflatten")
def by_flatten(layer, x):
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@right("per_frame", "frames before videos, and back")
def frames_before_videos(layer, x):
    out = layer(torch.cat(list(x.transpose(0, 1))))
    return torch.stack(out.chunk(x.shape[1]), dim=1)


def inflated(convolution, frames, taps, bias=True, padding=None, stride=True):
    layer = nn.Conv3d(
        convolution.in_channels,
        convolution.out_channels,
        (frames, *convolution.kernel_size),
        (1, *(convolution.stride if stride else (1, 1))),
        (frames // 2 if padding is None else padding, *convolution.padding),
        (1, *convolution.dilation),
        convolution.groups,
        bias=bias and convolution.bias is not None,
    ).double()
    with torch.no_grad():
        for i, tap in enumerate(taps):
            layer.weight[:, :, i] = tap * convolution.weight
        if layer.bias is not None:
            layer.bias.copy_(convolution.bias)
    return layer


def middle(frames):
    return [float(i == frames // 2) for i in range(frames)]


@wrong("inflate", "at first every frame is as the picture's convolution makes it")
def the_mean_of_the_frames(convolution, frames=3):
    return inflated(convolution, frames, [1 / frames] * frames)


@wrong("inflate", "at first every frame is as the picture's convolution makes it")
def first_tap(convolution, frames=3):
    return inflated(convolution, frames, [1.0] + [0.0] * (frames - 1))


@wrong("inflate", "at first every frame is as the picture's convolution makes it")
def forgets_the_bias(convolution, frames=3):
    return inflated(convolution, frames, middle(frames), bias=False)


@wrong("inflate", "a Conv3d whose kernel is as long as asked")
def always_three(convolution, frames=3):
    return inflated(convolution, 3, middle(3))


@wrong("inflate", "five frames long, too")
def always_pads_one(convolution, frames=3):
    return inflated(convolution, frames, middle(frames), padding=1)


@wrong("inflate", "strides and paddings are kept")
def forgets_the_stride(convolution, frames=3):
    return inflated(convolution, frames, middle(frames), stride=False)


@wrong("inflate", "the convolution for pictures keeps its weights")
def shares_the_bias(convolution, frames=3):
    layer = inflated(convolution, frames, middle(frames))
    layer.bias = convolution.bias
    return layer


@wrong("inflate", "at first every frame is as the picture's convolution makes it")
def forgets_the_dtype(convolution, frames=3):
    return inflated(convolution, frames, middle(frames)).float()


@right("inflate", "the kernel is padded with zeros")
def padded_kernel(convolution, frames=3):
    layer = inflated(convolution, frames, [0.0] * frames)
    layer.weight.data = F.pad(convolution.weight.data[:, :, None], (0, 0, 0, 0, frames // 2, frames // 2))
    return layer


@right("inflate", "by a product with a unit vector")
def unit_vector(convolution, frames=3):
    layer = inflated(convolution, frames, [0.0] * frames)
    unit = F.one_hot(torch.tensor(frames // 2), frames)
    layer.load_state_dict({"weight": torch.einsum("ochw,t->octhw", convolution.weight, unit.double())}, strict=False)
    return layer


def by_taps(x, weight, bias, places):
    out = 0
    for tap, place in enumerate(places):
        moved = torch.zeros_like(x)
        for i in range(x.shape[1]):
            if 0 <= i + place < x.shape[1]:
                moved[:, i] = x[:, i + place]
        out = out + torch.einsum("bfchw,oc->bfohw", moved, weight[:, :, tap])
    return out if bias is None else out + bias[:, None, None]


def around(weight):
    return range(-(weight.shape[-1] // 2), weight.shape[-1] // 2 + 1)


@wrong("temporal_conv", "in the middle: the sum over frames and channels")
def flips_the_kernel(x, weight, bias):
    return by_taps(x, weight.flip(-1), bias, around(weight))


@wrong("temporal_conv", "in the middle: the sum over frames and channels")
def looks_back_only(x, weight, bias):
    return by_taps(x, weight, bias, range(-weight.shape[-1] + 1, 1))


@wrong("temporal_conv", "in the middle: the sum over frames and channels")
def mixes_up_in_and_out(x, weight, bias):
    return by_taps(x, weight.transpose(0, 1), bias, around(weight))


@wrong("temporal_conv", "before the first and after the last frame lie zeros")
def wraps_around(x, weight, bias):
    out = sum(
        torch.einsum("bfchw,oc->bfohw", x.roll(-place, 1), weight[:, :, tap])
        for tap, place in enumerate(around(weight))
    )
    return out if bias is None else out + bias[:, None, None]


@wrong("temporal_conv", "without a bias")
def needs_a_bias(x, weight, bias):
    return by_taps(x, weight, None, around(weight)) + bias[:, None, None]


@wrong("temporal_conv", "one tap only mixes the channels")
def always_three_taps(x, weight, bias):
    return by_taps(x, weight, bias, (-1, 0, 1))


@right("temporal_conv", "windows by unfold")
def by_unfold(x, weight, bias):
    half = weight.shape[-1] // 2
    windows = F.pad(x, (0, 0, 0, 0, 0, 0, half, half)).unfold(1, weight.shape[-1], 1)
    out = torch.einsum("bfchwt,oct->bfohw", windows, weight)
    return out if bias is None else out + bias.view(1, 1, -1, 1, 1)


@right("temporal_conv", "a matrix of frames against frames")
def by_matrix(x, weight, bias):
    frames, half = x.shape[1], weight.shape[-1] // 2
    matrix = torch.zeros(*weight.shape[:2], frames, frames, dtype=weight.dtype)
    for i in range(frames):
        for j in range(max(0, i - half), min(frames, i + half + 1)):
            matrix[:, :, i, j] = weight[:, :, j - i + half]
    out = torch.einsum("bgchw,ocfg->bfohw", x, matrix)
    return out if bias is None else out + bias[:, None, None]


@wrong("add_embedding", "large negative numbers are all but silent")
def forgets_silu(h, embedding, weight, bias):
    added = embedding @ weight.T + bias
    return h + (added[:, None] if added.ndim == 2 else added)[..., None, None]


@wrong("add_embedding", "large negative numbers are all but silent")
def silu_afterwards(h, embedding, weight, bias):
    added = F.silu(embedding @ weight.T + bias)
    return h + (added[:, None] if added.ndim == 2 else added)[..., None, None]


@wrong("add_embedding", "one embedding for each video")
def to_frames_instead_of_videos(h, embedding, weight, bias):
    return h + (F.silu(embedding) @ weight.T + bias)[..., None, None]


@wrong("add_embedding", "one embedding for each frame")
def for_videos_only(h, embedding, weight, bias):
    embedding = embedding if embedding.ndim == 2 else embedding[:, 0]
    return h + (F.silu(embedding) @ weight.T + bias)[:, None, :, None, None]


@wrong("add_embedding", "what was given is not overwritten")
def in_place(h, embedding, weight, bias):
    added = F.silu(embedding) @ weight.T + bias
    h += (added[:, None] if added.ndim == 2 else added)[..., None, None]
    return h


@wrong("add_embedding", "zeros add the bias, to every pixel")
def forgets_the_layers_bias(h, embedding, weight, bias):
    added = F.silu(embedding) @ weight.T
    return h + (added[:, None] if added.ndim == 2 else added)[..., None, None]


@right("add_embedding", "a 1 x 1 convolution")
def by_convolution(h, embedding, weight, bias):
    embedding = embedding if embedding.ndim == 3 else embedding[:, None].expand(-1, h.shape[1], -1)
    added = F.conv1d(F.silu(embedding).transpose(1, 2), weight[..., None], bias).transpose(1, 2)
    return h + added.reshape(*h.shape[:3], 1, 1)


@right("add_embedding", "a loop over videos and frames")
def video_by_video(h, embedding, weight, bias):
    out = h.clone()
    for b in range(h.shape[0]):
        for f in range(h.shape[1]):
            vector = embedding[b] if embedding.ndim == 2 else embedding[b, f]
            out[b, f] += (weight @ (vector * torch.sigmoid(vector)) + bias)[:, None, None]
    return out


class Residual(nn.Module):
    kernel, zero = 3, True

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv1d(channels, channels, self.kernel, padding=self.kernel // 2)
        self.last = nn.Conv1d(channels, channels, self.kernel, padding=self.kernel // 2)
        if self.zero:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def rows(self, x):
        return rearrange(x, "b f c h w -> (b h w) c f")

    def forward(self, x):
        b, _, _, h, _ = x.shape
        added = self.last(F.silu(self.first(self.rows(x))))
        return x + rearrange(added, "(b h w) c f -> b f c h w", b=b, h=h)


@wrong("TemporalResidual", "a fresh block changes nothing")
class NotZero(Residual):
    zero = False


@wrong("TemporalResidual", "a fresh block changes nothing")
class BiasLeft(Residual):
    def __init__(self, channels):
        super().__init__(channels)
        nn.init.ones_(self.last.bias)


@wrong("TemporalResidual", "it learns to hear them, although it began with zeros")
class BothZero(Residual):  # only the last bias moves
    def __init__(self, channels):
        super().__init__(channels)
        for weight in self.parameters():
            nn.init.zeros_(weight)


@wrong("TemporalResidual", "a trained one lets neighbouring frames hear each other")
class NoNeighbours(Residual):
    kernel = 1


@wrong("TemporalResidual", "every pixel hears only itself")
class OverColumns(Residual):
    def forward(self, x):
        b, f, _, h, _ = x.shape
        added = self.last(F.silu(self.first(rearrange(x, "b f c h w -> (b f h) c w"))))
        return x + rearrange(added, "(b f h) c w -> b f c h w", b=b, f=f, h=h)


@wrong("TemporalResidual", "the videos of a batch do not hear each other")
class BatchNorm(Residual):
    def __init__(self, channels):
        super().__init__(channels)
        self.norm = nn.BatchNorm1d(channels)

    def rows(self, x):
        return self.norm(super().rows(x))


@wrong("TemporalResidual", "with other weights it adds something")
class Nothing(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.unused = nn.Linear(channels, channels)

    def forward(self, x):
        return x + 0 * self.unused.weight.sum()


@right("TemporalResidual", "one Conv3d with zeros")
class OneConvolution(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layer = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def forward(self, x):
        return x + self.layer(x.transpose(1, 2)).transpose(1, 2)


@right("TemporalResidual", "with dropout, as in the released block")
class Dropping(Residual):
    def __init__(self, channels):
        super().__init__(channels)
        self.drop = nn.Dropout(0.1)

    def rows(self, x):
        return self.drop(super().rows(x))


@right("TemporalResidual", "a learned gate that begins at zero")
class Gated(Residual):
    zero = False

    def __init__(self, channels):
        super().__init__(channels)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.gate * (super().forward(x) - x)


def load(video, picture, place=lambda taps: taps // 2, others=0.0):
    loaded, new = {}, []
    for name, own in video.items():
        loaded[name] = own.clone()
        if name not in picture:
            new.append(name)
        elif picture[name].shape == own.shape:
            loaded[name] = picture[name].clone()
        elif own.ndim == 5 and picture[name].shape == own[:, :, 0].shape:
            loaded[name] = others * own
            loaded[name][:, :, place(own.shape[2])] = picture[name]
        else:
            raise ValueError(f"{name} does not fit")
    return loaded, new


@wrong("load_picture_weights", "a kernel for pictures is the middle tap of one for videos")
def into_the_first_tap(video, picture):
    return load(video, picture, place=lambda taps: 0)


@wrong("load_picture_weights", "a kernel for pictures is the middle tap of one for videos")
def other_taps_stay(video, picture):
    return load(video, picture, others=1.0)


@wrong("load_picture_weights", "the given weights are not changed")
def writes_into_the_video(video, picture):
    loaded, new = load(video, picture)
    for name, value in loaded.items():
        video[name].copy_(value)
    return video, new


@wrong("load_picture_weights", "what only the picture has is left out")
def takes_everything(video, picture):
    loaded, new = load(video, picture)
    return picture | loaded, new


@wrong("load_picture_weights", "what does not fit is refused by name, with a ValueError")
def skips_what_does_not_fit(video, picture):
    fitting = {k: v for k, v in picture.items() if k in video and v.shape[:2] == video[k].shape[:2]}
    loaded, _ = load(video, fitting)
    return loaded, [name for name in video if name not in picture]


@wrong("load_picture_weights", "what does not fit is refused by name, with a ValueError")
def spreads_one_channel(video, picture):
    wide = {k: v.expand_as(video[k][:, :, 0]) if k in video and v.ndim == 4 else v for k, v in picture.items()}
    return load(video, wide)


@wrong("load_picture_weights", "what does not fit is refused by name, with a ValueError")
def counts_only_the_numbers(video, picture):
    alike = {
        k: v.reshape(video[k].shape) if k in video and v.numel() == video[k].numel() else v for k, v in picture.items()
    }
    return load(video, alike)


@wrong("load_picture_weights", "and is named")
def names_what_was_loaded(video, picture):
    loaded, new = load(video, picture)
    return loaded, [name for name in video if name not in new]


@wrong("load_picture_weights", "what only the video has stays")
def new_layers_become_zero(video, picture):
    loaded, new = load(video, picture)
    return loaded | {name: torch.zeros_like(loaded[name]) for name in new}, new


@right("load_picture_weights", "a set of names")
def a_set(video, picture):
    loaded, new = load(video, picture)
    return loaded, set(new)


@right("load_picture_weights", "all at once")
def by_padding(video, picture):
    def fitted(name, own):
        given = picture.get(name, own)
        if own.ndim == 5 and given.ndim == 4:
            half = own.shape[2] // 2
            given = F.pad(given[:, :, None], (0, 0, 0, 0, half, half))
        if given.shape != own.shape:
            raise ValueError(name)
        return given.clone()

    return {name: fitted(name, own) for name, own in video.items()}, list(set(video) - set(picture))
