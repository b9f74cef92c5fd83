"""Attention over space, over time, and to text and image tokens (chapters 6 and 7)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from .checks import check_context, check_image_tokens, check_transformer
from .inference import ContextCache, KeysValues, in_chunks
from .temporal import per_frame, per_video, zero_module


def attend(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "videos heads m d"],
    v: Float[Tensor, "videos heads m d"],
    causal: bool = False,
) -> Float[Tensor, "b heads n d"]:
    """softmax(q·kᵀ/√d)·v, fused.

    Where there are fewer rows of keys than of queries, each ``b / videos`` consecutive rows of queries, such as the
    frames of one video, share one.
    """
    if len(k) < len(q):  # They ask as one long sequence, so that nothing has to be repeated.
        shared = rearrange(q, "(v r) heads n d -> v heads (r n) d", v=len(k))
        return rearrange(attend(shared, k, v), "v heads (r n) d -> (v r) heads n d", n=q.shape[2])
    short = max(q.shape[2], k.shape[2]) <= 32 and not causal
    if short and q.device.type == "cpu" and q.dtype != torch.float16:
        # Two small products beat the fused kernel, which works in blocks far longer than such a sequence. Not in
        # float16, which could not hold the products before they are scaled.
        return (q @ k.transpose(-2, -1)).mul_(q.shape[-1] ** -0.5).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


class Attention(nn.Module):
    """Multi-head attention: among the tokens themselves, or from them to a context.

    Follows ``CrossAttention`` in ``lvdm/modules/attention.py``.

    Args:
        channels: of the tokens that ask (in and out).
        context_channels: of the tokens that are asked; the same as ``channels`` for self-attention.
        heads, head_channels: number of heads and their width.
        text_tokens: of a context only so many tokens are asked, the first; ``None`` for all.

    Attributes:
        tokens_at_once: self-attention takes whole rows of at most about so many tokens at a time, without gradients:
            the same in less memory. ``None``: as many as is fastest.
    """

    tokens_at_once: int | None = None

    def __init__(
        self,
        channels: int,
        context_channels: int | None = None,
        heads: int = 8,
        head_channels: int = 64,
        text_tokens: int | None = None,
    ):
        super().__init__()
        inner, context_channels = heads * head_channels, context_channels or channels
        self.heads, self.head_channels, self.text_tokens = heads, head_channels, text_tokens
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(context_channels, inner, bias=False)
        self.to_v = nn.Linear(context_channels, inner, bias=False)
        self.to_out = nn.Linear(inner, channels)

    def split_heads(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b heads n d"]:
        """A few channels of each token for every head."""
        return rearrange(tokens, "b n (heads d) -> b heads n d", heads=self.heads)

    def join_heads(self, tokens: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b n c"]:
        """All channels of a token side by side again."""
        return rearrange(tokens, "b heads n d -> b n (heads d)")

    def keys_values(self, context: Float[Tensor, "b m c"]) -> KeysValues:
        """Keys and values of tokens that are asked, (b, heads, m, d) each."""
        context = context[:, : self.text_tokens]
        return self.split_heads(self.to_k(context)), self.split_heads(self.to_v(context))

    def attend_to(
        self, x: Float[Tensor, "b n c"], keys_values: KeysValues, causal: bool = False
    ) -> Float[Tensor, "b n c"]:
        """What the tokens ``x`` get from these keys and values."""
        k, v = keys_values
        q = self.split_heads(self.to_q(x))
        return self.to_out(self.join_heads(attend(q, k, v, causal)))

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        context: Float[Tensor, "videos m c2"] | ContextCache | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "b n c"]:
        """Let the tokens ``x`` attend to the context, or to each other.

        The batch of the context may be smaller: then each ``b / videos`` consecutive rows of ``x``, such as the
        frames of one video, share one context, and its keys and values exist once. ``causal``: no token attends to a
        later one; a context has no order, so there it changes nothing.
        """
        if context is None:
            return in_chunks(lambda x: self.attend_to(x, self.keys_values(x), causal), x, self.tokens_at_once)
        keys_values = context.get(self) if isinstance(context, ContextCache) else self.keys_values(context)
        return self.attend_to(x, keys_values)


class RelativePosition(nn.Module):
    """A learned vector for each signed distance between a query and a key, clipped at ``max_distance``.

    Shaw et al. 2018, "Self-Attention with Relative Position Representations"; VideoCrafter1's temporal layers.
    """

    def __init__(self, channels: int, max_distance: int):
        super().__init__()
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.empty(2 * max_distance + 1, channels))
        nn.init.xavier_uniform_(self.table)

    def forward(self, queries: int, keys: int) -> Float[Tensor, "{queries} {keys} d"]:
        """The vectors between so many queries and keys, counted from the first of each."""
        positions = torch.arange(max(queries, keys), device=self.table.device)
        distance = positions[None, :keys] - positions[:queries, None]
        return self.table[distance.clamp(-self.max_distance, self.max_distance) + self.max_distance]


class RelativeAttention(Attention):
    """Attention that also knows how far apart in time query and key are: a learned vector is added to key and value.

    Follows ``CrossAttention`` with ``relative_position`` in ``lvdm/modules/attention.py`` (VideoCrafter1 T2V).

    Args:
        max_distance: learn positions up to this distance; what is further apart counts as so far.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int | None = None,
        heads: int = 8,
        head_channels: int = 64,
        max_distance: int = 16,
        text_tokens: int | None = None,
    ):
        super().__init__(channels, context_channels, heads, head_channels, text_tokens)
        self.relative_keys = RelativePosition(head_channels, max_distance)
        self.relative_values = RelativePosition(head_channels, max_distance)

    def attend_to(
        self, x: Float[Tensor, "b n c"], keys_values: KeysValues, causal: bool = False
    ) -> Float[Tensor, "b n c"]:
        """What the tokens ``x`` get from these keys and values, and from how far away they are."""
        q = self.split_heads(self.to_q(x)) * self.head_channels**-0.5
        k, v = (repeat(t, "v ... -> (v r) ...", r=len(q) // len(t)) for t in keys_values)
        n, m = q.shape[2], k.shape[2]
        scores = q @ k.transpose(-2, -1)
        scores = scores + einsum(q, self.relative_keys(n, m), "b heads n d, n m d -> b heads n m")
        if causal:
            later = torch.ones(n, m, dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        # The values too depend on the distance, so the probabilities themselves are needed: no fused kernel.
        probabilities = scores.softmax(dim=-1)
        out = probabilities @ v
        out = out + einsum(probabilities, self.relative_values(n, m), "b heads n m, n m d -> b heads n d")
        return self.to_out(self.join_heads(out))


@dataclass(frozen=True)
class ImageTokens:
    """How a layer takes the image tokens that follow the text tokens of a context.

    Attributes:
        text_tokens: so many tokens are text, the rest image tokens.
        scale: weight of the image result; ``"learned"`` for 1 + tanh of a parameter (DynamiCrafter 256).
        per_frame: if the context has exactly this many image tokens for each frame, each frame attends to its own
            (DynamiCrafter).
        ignored: the layer asks the text tokens alone (DynamiCrafter, in the temporal transformers).
    """

    text_tokens: int = 77
    scale: float | Literal["learned"] = 1.0
    per_frame: int | None = None
    ignored: bool = False


class DualCrossAttention(Attention):
    """Attention to the text and attention to the image, added up (chapter 7).

    Both have the same queries; each has its own keys, values and softmax. Follows ``CrossAttention`` with
    ``img_cross_attention`` in ``lvdm/modules/attention.py``.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int | None = None,
        heads: int = 8,
        head_channels: int = 64,
        image: ImageTokens | None = None,
    ):
        super().__init__(channels, context_channels, heads, head_channels)
        image = image or ImageTokens()
        self.text_tokens, self.tokens_per_frame = image.text_tokens, image.per_frame
        self.to_k_image = nn.Linear(self.to_k.in_features, self.to_k.out_features, bias=False)
        self.to_v_image = nn.Linear(self.to_v.in_features, self.to_v.out_features, bias=False)
        learned = image.scale == "learned"
        self.image_scale = 1.0 if learned else float(image.scale)
        self.image_gate = nn.Parameter(torch.zeros(())) if learned else None

    def keys_values(self, context: Float[Tensor, "b m c"]) -> KeysValues:
        """Keys and values of the text tokens, then keys and values of the image tokens."""
        check_image_tokens(context, self.text_tokens)
        text, image = context[:, : self.text_tokens], context[:, self.text_tokens :]
        k_image, v_image = self.split_heads(self.to_k_image(image)), self.split_heads(self.to_v_image(image))
        return *super().keys_values(text), k_image, v_image

    def attend_to(
        self, x: Float[Tensor, "b n c"], keys_values: KeysValues, causal: bool = False
    ) -> Float[Tensor, "b n c"]:
        """What the tokens ``x`` get from the text, and from the image."""
        k, v, k_image, v_image = keys_values
        q = self.split_heads(self.to_q(x))
        from_text = attend(q, k, v)
        from_image = attend(q, *self._for_each_frame(k_image, v_image, rows=len(x)))
        return self.to_out(self.join_heads(from_text + self._scale() * from_image))

    def _scale(self) -> float | Tensor:
        return self.image_scale if self.image_gate is None else self.image_scale * (1 + self.image_gate.tanh())

    def _for_each_frame(self, k: Tensor, v: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        frames = rows // len(k)
        if self.tokens_per_frame is None or k.shape[2] != frames * self.tokens_per_frame:
            return k, v  # Every frame attends to all image tokens.
        k, v = (rearrange(t, "v heads (f m) d -> (v f) heads m d", f=frames) for t in (k, v))
        return k, v


class FeedForward(nn.Module):
    """A linear layer to four times the channels, GELU, and back; by default gated (GEGLU, Shazeer 2020).

    Attributes:
        tokens_at_once: so many tokens pass at a time, without gradients: the same in less memory, since nothing else
            in the network is as wide. ``None``: as many as is fastest.
    """

    tokens_at_once: int | None = None

    def __init__(self, channels: int, multiplier: int = 4, gated: bool = True):
        super().__init__()
        self.gated = gated
        self.widen = nn.Linear(channels, channels * multiplier * (2 if gated else 1))
        self.narrow = nn.Linear(channels * multiplier, channels)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        tokens = in_chunks(self.each_token, rearrange(x, "b n c -> (b n) c"), self.tokens_at_once)
        return rearrange(tokens, "(b n) c -> b n c", b=len(x))

    def each_token(self, tokens: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """The layer itself: no token looks at another."""
        hidden = self.widen(tokens)
        if self.gated:
            value, gate = hidden.chunk(2, dim=-1)
            hidden = F.gelu(gate).mul_(value)  # In place: these activations are the widest of the network.
        else:
            hidden = F.gelu(hidden)
        return self.narrow(hidden)


class TransformerBlock(nn.Module):
    """Self-attention, then attention to the context (or to itself again, without one), then feed-forward.

    Each with LayerNorm before and a residual connection around it. Follows ``BasicTransformerBlock`` in
    ``lvdm/modules/attention.py``.

    Args:
        channels: in and out.
        heads, head_channels, context_channels: see :class:`Attention`.
        max_distance: both attentions learn relative positions, see :class:`RelativeAttention`.
        image: the second attention is a :class:`DualCrossAttention`, or ignores the image tokens.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        head_channels: int,
        context_channels: int | None = None,
        max_distance: int | None = None,
        image: ImageTokens | None = None,
    ):
        super().__init__()
        widths = dict(heads=heads, head_channels=head_channels)
        kind: type[Attention] = Attention
        options: dict[str, Any] = {}
        if max_distance is not None:
            kind, options = RelativeAttention, dict(max_distance=max_distance)
        self.norm_self = nn.LayerNorm(channels)
        self.self_attention = kind(channels, **widths, **options)
        if image is not None and image.ignored:
            options = options | dict(text_tokens=image.text_tokens)
        elif image is not None:
            kind, options = DualCrossAttention, dict(image=image)
        self.norm_cross = nn.LayerNorm(channels)
        self.cross_attention = kind(channels, context_channels, **widths, **options)
        self.norm_feed_forward = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        context: Float[Tensor, "videos m c2"] | ContextCache | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "b n c"]:
        x = x + self.self_attention(self.norm_self(x), causal=causal)
        x = x + self.cross_attention(self.norm_cross(x), context, causal)
        return x + self.feed_forward(self.norm_feed_forward(x))


class SpatialTransformer(nn.Module):
    """Attention among the pixels of each frame, then from every pixel to the context (text, and image in I2V).

    GroupNorm looks at one frame at a time. Follows ``SpatialTransformer`` in ``lvdm/modules/attention.py``.

    Args:
        channels: in and out; a multiple of 32.
        heads, head_channels: their product is the width inside, which may differ from ``channels``.
        context_channels: width of the context tokens; ``None`` makes the second attention a self-attention.
        depth: number of transformer blocks.
        image: dual cross-attention to text and image tokens.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        head_channels: int,
        context_channels: int | None = None,
        depth: int = 1,
        image: ImageTokens | None = None,
    ):
        super().__init__()
        check_transformer(channels, heads, head_channels, context_channels, depth)
        inner = heads * head_channels
        self.context_channels = context_channels
        self.uses_context = context_channels is not None
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.project_in = nn.Linear(channels, inner)
        self.blocks = nn.ModuleList(
            TransformerBlock(inner, heads, head_channels, context_channels, image=image) for _ in range(depth)
        )
        self.project_out = zero_module(nn.Linear(inner, channels))

    def forward(
        self, x: Float[Tensor, "b f c h w"], context: Float[Tensor, "b m c2"] | ContextCache | None = None
    ) -> Float[Tensor, "b f c h w"]:
        b, _, _, h, w = x.shape
        if self.uses_context and not isinstance(context, ContextCache):
            check_context(context, self.context_channels, self.project_in.weight.dtype, b)
        tokens = self.project_in(rearrange(per_frame(self.norm, x), "b f c h w -> (b f) (h w) c"))
        for block in self.blocks:
            tokens = block(tokens, context if self.uses_context else None)
        return x + rearrange(self.project_out(tokens), "(b f) (h w) c -> b f c h w", b=b, h=h, w=w)


class TemporalTransformer(nn.Module):
    """Attention among the frames, separately at each pixel; then once more, or from every pixel to the context.

    GroupNorm spans all frames of a video. Without relative positions nothing here sees the order of the frames.
    Follows ``TemporalTransformer`` in ``lvdm/modules/attention.py``.

    Args:
        channels: in and out; a multiple of 32.
        heads, head_channels: their product is the width inside, which may differ from ``channels``.
        context_channels: ``None``, as in the released models, makes the second attention a self-attention over
            time. A number makes it a cross-attention: each pixel of each frame attends to its video's context.
        depth: number of transformer blocks.
        max_distance: learn relative positions up to this distance in time.
        causal: no frame attends to a later one. (The norm still lets later frames through.)
        image: dual cross-attention to text and image tokens, or to the text alone; ``None`` for one attention to all.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        head_channels: int,
        context_channels: int | None = None,
        depth: int = 1,
        max_distance: int | None = None,
        causal: bool = False,
        image: ImageTokens | None = None,
    ):
        super().__init__()
        check_transformer(channels, heads, head_channels, context_channels, depth)
        inner = heads * head_channels
        self.context_channels = context_channels
        self.uses_context, self.causal = context_channels is not None, causal
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.project_in = nn.Linear(channels, inner)
        self.blocks = nn.ModuleList(
            TransformerBlock(inner, heads, head_channels, context_channels, max_distance, image) for _ in range(depth)
        )
        self.project_out = zero_module(nn.Linear(inner, channels))

    def forward(
        self, x: Float[Tensor, "b f c h w"], context: Float[Tensor, "b m c2"] | ContextCache | None = None
    ) -> Float[Tensor, "b f c h w"]:
        b, _, _, h, w = x.shape
        if self.uses_context and not isinstance(context, ContextCache):
            check_context(context, self.context_channels, self.project_in.weight.dtype, b)
        tokens = self.project_in(rearrange(per_video(self.norm, x), "b f c h w -> (b h w) f c"))
        for block in self.blocks:
            tokens = block(tokens, context if self.uses_context else None, self.causal)
        return x + rearrange(self.project_out(tokens), "(b h w) f c -> b f c h w", b=b, h=h, w=w)
