"""Attention where numbers are large, contexts are shared, and memory is short."""

import pytest
import torch
from einops import repeat
from golden_numbers import EXACT, relative_error

from vdmlib import Attention, ContextCache, DualCrossAttention, RelativeAttention
from vdmlib.attention import ImageTokens, attend
from vdmlib.inference import in_chunks


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tokens", [16, 64])
@pytest.mark.parametrize("largest", [7e4, 3e5])
def test_products_beyond_float16_are_scaled_before_they_overflow(tokens, largest):
    """float16 ends at 65,504; divided by √64 the products fit."""
    q, k, v = (noise(1, 2, tokens, 64, seed=seed) for seed in range(3))
    factor = (largest / (q @ k.transpose(-2, -1)).abs().max()).sqrt()
    half = [(factor * q).half(), (factor * k).half(), v.half()]
    assert (half[0].float() @ half[1].float().transpose(-2, -1)).abs().max() > 65504
    result = attend(*half)
    assert result.isfinite().all()
    assert relative_error(result, attend(*(t.double() for t in half))) < 1e-3


def test_products_with_distances_beyond_float16_are_scaled_before_they_overflow():
    torch.manual_seed(0)
    layer = RelativeAttention(64, heads=1, head_channels=64, max_distance=16).requires_grad_(False)
    x = noise(1, 16, 64)
    q, k = layer.to_q(x), layer.to_k(x)
    layer.to_q.weight *= 7e4 / (q @ k.transpose(-2, -1)).abs().max()
    result = layer.half()(x.half())
    assert result.isfinite().all()
    assert relative_error(result, layer.double()(x.half().double())) < 2e-2


LAYERS = {
    "attention": lambda: Attention(32, 24, heads=2, head_channels=16),
    "with distances": lambda: RelativeAttention(32, 24, heads=2, head_channels=16, max_distance=2),
    "dual": lambda: DualCrossAttention(32, 24, heads=2, head_channels=16, image=ImageTokens(text_tokens=3)),
}


@pytest.mark.parametrize("layer", LAYERS)
@torch.no_grad()
def test_rows_share_the_context_of_their_video(layer):
    """As if it were repeated for each of them, and no other."""
    layer, x, context = LAYERS[layer]().double(), noise(6, 5, 32).double(), noise(2, 7, 24, seed=1).double()
    expected = layer(x, repeat(context, "v n c -> (v r) n c", r=3))
    for shared in (context, ContextCache(context)):
        assert relative_error(layer(x, shared), expected) < EXACT
    other = layer(x, torch.cat([context[:1], context[1:] + 1]))
    assert relative_error(other[:3], expected[:3]) < EXACT
    assert (other[3:] - expected[3:]).abs().amax(dim=(1, 2)).min() > 1e-3


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
@torch.no_grad()
def test_text_and_image_attention_add_up(scale):
    """By hand: attention to the text with one set of keys and values, to the image with another, the same queries."""
    layer = DualCrossAttention(32, 24, 2, 16, ImageTokens(text_tokens=3, scale=scale)).double()
    x, context = noise(2, 5, 32).double(), noise(2, 7, 24, seed=1).double()
    results = []
    for tokens, to_k, to_v in (
        (context[:, :3], layer.to_k, layer.to_v),
        (context[:, 3:], layer.to_k_image, layer.to_v_image),
    ):
        heads = []
        for head in (slice(0, 16), slice(16, 32)):
            q, k, v = layer.to_q(x)[..., head], to_k(tokens)[..., head], to_v(tokens)[..., head]
            heads.append((q @ k.transpose(1, 2) / 4).softmax(dim=-1) @ v)
        results.append(torch.cat(heads, dim=-1))
    expected = layer.to_out(results[0] + scale * results[1])
    assert relative_error(layer(x, context), expected) < EXACT


@pytest.mark.parametrize(
    "shape, tokens_at_once, expected",
    [
        ((10, 4), 10, [10]),
        ((10, 4), 4, [4, 4, 2]),
        ((10, 4), 1, [1] * 10),
        ((10, 3, 4), 7, [2] * 5),
        ((10, 3, 4), 1, [1] * 10),
        ((2500, 4), None, [1024, 1024, 452]),
        ((150, 16, 4), None, [64, 64, 22]),
        ((300, 64, 4), None, [300]),
    ],
)
def test_chunks_are_the_whole(shape, tokens_at_once, expected):
    x, rows = noise(*shape), []

    def layer(chunk: torch.Tensor) -> torch.Tensor:
        rows.append(len(chunk))
        return torch.cat([chunk, 2 * chunk], dim=-1).double()

    with torch.no_grad():
        assert torch.equal(in_chunks(layer, x, tokens_at_once), layer(x))
    assert rows == [*expected, len(x)]
    rows.clear()
    in_chunks(layer, x.requires_grad_(), tokens_at_once).sum().backward()
    assert rows == [len(x)] and torch.equal(x.grad, torch.full(shape, 3.0)), "all at once for gradients"


def test_the_image_scale_multiplies_a_learned_one():
    """``image_cross_attention_scale * out_ip * (tanh(alpha) + 1)`` in DynamiCrafter's attention.py."""
    layer = DualCrossAttention(32, 24, 4, 8, ImageTokens(text_tokens=5, scale="learned")).double()
    layer.image_gate.data.fill_(0.7)
    x, context = noise(1, 9, 32).double(), noise(1, 8, 24, seed=1).double()

    def out(scale):
        layer.image_scale = scale
        return layer(x, context)

    mute = Attention.attend_to(layer, x, layer.keys_values(context)[:2])
    assert relative_error(out(0.0), mute) < EXACT
    assert relative_error(out(2.0) - mute, 2 * (out(1.0) - mute)) < EXACT
