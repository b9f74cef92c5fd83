"""Frames fold into the batch and come out again: laws that hold for every shape."""

import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vdmlib.temporal import channels_last, inflate_conv2d, per_frame, per_video

AXES = ("b", "f", "c", "h", "w")


@st.composite
def videos(draw, largest: int = 4, dtypes=(torch.float16, torch.float32, torch.float64)) -> torch.Tensor:
    """Numbers that are all different, laid out in memory in any order of the axes."""
    sizes = {axis: draw(st.integers(1, largest)) for axis in AXES}
    order, dtype = " ".join(draw(st.permutations(AXES))), draw(st.sampled_from(dtypes))
    counted = torch.arange(torch.Size(sizes.values()).numel()).reshape(*sizes.values())
    counted = rearrange(counted, f"{' '.join(AXES)} -> {order}").contiguous().to(dtype)
    return rearrange(counted, f"{order} -> {' '.join(AXES)}")


@settings(max_examples=40)
@given(videos())
def test_what_is_folded_comes_out_as_it_was(x):
    b, f, c, h, w = x.shape
    seen = []
    assert torch.equal(per_frame(lambda pictures: seen.append(pictures) or pictures, x), x)
    assert torch.equal(per_video(lambda clips: seen.append(clips) or clips, x), x)
    pictures, clips = seen
    assert pictures.shape == (b * f, c, h, w) and clips.shape == (b, c, f, h, w)
    for i in range(b):
        assert torch.equal(pictures[i * f : (i + 1) * f], x[i]), "the frames of a video stay side by side"
        for j in range(f):
            assert torch.equal(clips[i, :, j], x[i, j])
    last = channels_last(x)
    assert torch.equal(last, x) and rearrange(last, "b f c h w -> b f h w c").is_contiguous()


@settings(max_examples=40)
@given(videos(dtypes=(torch.float64,)), st.data())
def test_a_layer_for_pictures_or_videos_does_not_see_beyond_them(x, data):
    """Whatever it does inside, frames and videos come out in the order in which they went in."""
    frames, clips = (data.draw(st.permutations(range(size))) for size in x.shape[:2][::-1])

    def mean(folded: torch.Tensor) -> torch.Tensor:  # Of all numbers of a picture or video, on one pixel.
        return folded.flatten(1).mean(dim=1).reshape(-1, *(1,) * (folded.ndim - 1))

    assert torch.equal(per_frame(mean, x[:, frames]), per_frame(mean, x)[:, frames])
    assert torch.equal(per_video(mean, x[clips]), per_video(mean, x)[clips])
    assert torch.equal(per_frame(mean, x).squeeze((2, 3, 4)), x.flatten(2).mean(dim=2))
    assert torch.equal(per_video(mean, x).flatten(), rearrange(x, "b f c h w -> b (c f h w)").mean(dim=1))


@settings(max_examples=40)
@given(videos(dtypes=(torch.float64,)), st.sampled_from([1, 3, 5]), st.sampled_from([1, 3]), st.booleans())
def test_an_inflated_convolution_does_to_each_frame_what_it_did_to_a_picture(x, over_time, over_space, bias):
    torch.manual_seed(0)
    picture = nn.Conv2d(x.shape[2], 3, over_space, padding=over_space // 2, bias=bias, dtype=torch.float64)
    video = inflate_conv2d(picture, over_time)
    torch.testing.assert_close(per_video(video, x), per_frame(picture, x), rtol=1e-12, atol=1e-9)
