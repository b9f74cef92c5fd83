"""Attention over space, over time and to text and image tokens (chapters 6 and 7)."""

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from .temporal import per_frame, per_video

# Text and image tokens may be differently many, so their number has no name.
KeysValues = tuple[Float[Tensor, "_ heads _ d"], Float[Tensor, "_ heads _ d"]]


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
        positions = torch.arange(max(queries, keys), device=self.table.device)
        distance = positions[None, :keys] - positions[:queries, None]
        return self.table[distance.clamp(-self.max_distance, self.max_distance) + self.max_distance]


class ContextCache:
    """Context tokens whose keys and values are computed once for each layer, however often the network runs.

    The context does not change from one sampling step to the next, so a sampler makes one cache a run
    (:meth:`vdmlib.UNet3D.prepare_context`) and passes it as ``context``. Not for training: weights must not change.
    """

    def __init__(self, tokens: Float[Tensor, "b m c"]):
        self.tokens = tokens
        self._of_layer: dict[nn.Module, tuple[KeysValues, ...]] = {}

    def keys_values(self, attention: "Attention") -> tuple[KeysValues, ...]:
        if attention not in self._of_layer:
            self._of_layer[attention] = attention.keys_values(self.tokens)
        return self._of_layer[attention]


def attend(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads m d"],
    v: Float[Tensor, "b heads m d"],
    causal: bool = False,
) -> Float[Tensor, "b heads n d"]:
    """softmax(q·kᵀ/√d)·v, fused.

    On a CPU a handful of frames is the exception: there two small matrix products beat the fused kernel, which works
    in blocks far longer than such a sequence.
    """
    if q.device.type == "cpu" and q.shape[2] <= 32 and k.shape[2] <= 32 and not causal:
        return (q @ k.transpose(-2, -1)).mul_(q.shape[-1] ** -0.5).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


class Attention(nn.Module):
    """Multi-head attention: self-attention without a context, cross-attention with one, dual with image tokens.

    Follows ``CrossAttention`` in ``lvdm/modules/attention.py``.

    Args:
        channels: of the tokens that ask (in and out).
        context_channels: of the tokens that are asked; the same as ``channels`` for self-attention.
        heads, head_channels: number of heads and their width.
        max_distance: learn relative positions up to this distance (VideoCrafter1's temporal layers).
        image_attention: dual cross-attention. The first ``text_tokens`` tokens of the context are text, the rest
            image; each kind has its own keys, values and softmax, and the two results are added up.
        image_scale: weight of the image result; ``"learned"`` for 1 + tanh of a parameter (DynamiCrafter 256).
        image_tokens_per_frame: if the context has exactly this many image tokens for each frame, each frame attends
            to its own (DynamiCrafter).
        dropout: on the output, in training.

    Attributes:
        tokens_at_once: self-attention takes whole rows of at most about so many tokens at a time; ``None`` for all.
            The same result, in less memory. Not for training.
    """

    tokens_at_once: int | None = None

    def __init__(
        self,
        channels: int,
        context_channels: int | None = None,
        heads: int = 8,
        head_channels: int = 64,
        max_distance: int | None = None,
        image_attention: bool = False,
        image_scale: float | str = 1.0,
        text_tokens: int = 77,
        image_tokens_per_frame: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        inner, context_channels = heads * head_channels, context_channels or channels
        self.heads, self.head_channels = heads, head_channels
        self.text_tokens, self.image_tokens_per_frame = text_tokens, image_tokens_per_frame
        self.image_attention = image_attention
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(context_channels, inner, bias=False)
        self.to_v = nn.Linear(context_channels, inner, bias=False)
        if image_attention:
            self.to_k_image = nn.Linear(context_channels, inner, bias=False)
            self.to_v_image = nn.Linear(context_channels, inner, bias=False)
            self.image_scale = None if image_scale == "learned" else float(image_scale)
            self.image_gate = nn.Parameter(torch.zeros(())) if image_scale == "learned" else None
        self.relative_keys = self.relative_values = None
        if max_distance is not None:
            self.relative_keys = RelativePosition(head_channels, max_distance)
            self.relative_values = RelativePosition(head_channels, max_distance)
        self.to_out = nn.Linear(inner, channels)
        self.dropout = nn.Dropout(dropout)

    def _split_heads(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b heads n d"]:
        return rearrange(x, "b n (heads d) -> b heads n d", heads=self.heads)

    def keys_values(self, context: Float[Tensor, "b m c"]) -> tuple[KeysValues, ...]:
        """Keys and values of the context: one pair, or a pair for text and a pair for image tokens."""
        if not self.image_attention:
            return ((self._split_heads(self.to_k(context)), self._split_heads(self.to_v(context))),)
        if context.shape[1] <= self.text_tokens:
            raise ValueError(
                f"The context has {context.shape[1]} tokens, but dual cross-attention needs image tokens after "
                f"{self.text_tokens} text tokens: concatenate text and image tokens, (b, {self.text_tokens} + n, c)."
            )
        text, image = context[:, : self.text_tokens], context[:, self.text_tokens :]
        return (
            (self._split_heads(self.to_k(text)), self._split_heads(self.to_v(text))),
            (self._split_heads(self.to_k_image(image)), self._split_heads(self.to_v_image(image))),
        )

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        context: Float[Tensor, "videos m c2"] | ContextCache | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "b n c"]:
        """Let the tokens ``x`` ask the context, or each other.

        The batch of the context may be smaller: then each ``b / videos`` consecutive rows of ``x``, such as the
        frames of one video, share one context, and its keys and values exist once.
        """
        rows = len(x) if self.tokens_at_once is None else max(1, self.tokens_at_once // x.shape[1])
        if context is None and len(x) > rows:
            out = torch.empty_like(x)
            for part, result in zip(x.split(rows), out.split(rows), strict=True):
                result.copy_(self(part, causal=causal))
            return out
        q = self._split_heads(self.to_q(x))
        if context is None:
            pairs = self.keys_values(x)
        else:
            pairs = context.keys_values(self) if isinstance(context, ContextCache) else self.keys_values(context)
        ask = self._ask if self.relative_keys is None else self._ask_with_distances
        out = ask(q, *pairs[0], causal)
        if self.image_attention:
            scale = self.image_scale if self.image_gate is None else 1 + self.image_gate.tanh()
            out = out + scale * self._ask(q, *self._per_frame(*pairs[1], q))
        return self.dropout(self.to_out(out))

    def _per_frame(self, k: Tensor, v: Tensor, q: Tensor) -> KeysValues:
        frames = q.shape[0] // k.shape[0]
        if self.image_tokens_per_frame is None or k.shape[2] != frames * self.image_tokens_per_frame:
            return k, v
        return tuple(rearrange(t, "b heads (f m) d -> (b f) heads m d", f=frames) for t in (k, v))

    def _ask(
        self,
        q: Float[Tensor, "b heads n d"],
        k: Float[Tensor, "v heads m d"],
        v: Float[Tensor, "v heads m d"],
        causal: bool = False,
    ) -> Float[Tensor, "b n c"]:
        # Rows that share a context ask as one long sequence, so nothing has to be repeated.
        shared = rearrange(q, "(v r) heads n d -> v heads (r n) d", v=k.shape[0]) if len(q) != len(k) else q
        out = attend(shared, k, v, causal)
        return rearrange(out, "v heads (r n) d -> (v r) n (heads d)", n=q.shape[2])

    def _ask_with_distances(self, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Float[Tensor, "b n c"]:
        # Learned distances change the values too, so the probabilities themselves are needed: no fused kernel.
        n, m = q.shape[2], k.shape[2]
        k, v = (repeat(t, "v ... -> (v r) ...", r=len(q) // len(t)) for t in (k, v))
        scores = q @ k.transpose(-2, -1)
        scores = scores + einsum(q, self.relative_keys(n, m), "b heads n d, n m d -> b heads n m")
        scores = scores * self.head_channels**-0.5
        if causal:
            scores = scores.masked_fill(torch.ones(n, m, dtype=torch.bool, device=q.device).triu(1), float("-inf"))
        probabilities = scores.softmax(dim=-1)
        out = probabilities @ v
        out = out + einsum(probabilities, self.relative_values(n, m), "b heads n m, n m d -> b heads n d")
        return rearrange(out, "b heads n d -> b n (heads d)")


class FeedForward(nn.Module):
    """A linear layer to four times the channels, GELU, and back; by default gated (GEGLU, Shazeer 2020)."""

    # Wide hidden activations are made for a few thousand tokens at a time when nothing is recorded for a backward
    # pass: they then stay in the processor's cache, and the peak memory of the whole network drops.
    CHUNK_ELEMENTS = 2**22

    def __init__(self, channels: int, multiplier: int = 4, gated: bool = True, dropout: float = 0.0):
        super().__init__()
        self.gated = gated
        self.widen = nn.Linear(channels, channels * multiplier * (2 if gated else 1))
        self.narrow = nn.Linear(channels * multiplier, channels)
        self.dropout = nn.Dropout(dropout)

    def _forward(self, x: Tensor) -> Tensor:
        hidden = self.widen(x)
        if self.gated:
            value, gate = hidden.chunk(2, dim=-1)
            hidden = F.gelu(gate).mul_(value)
        else:
            hidden = F.gelu(hidden)
        return self.narrow(self.dropout(hidden))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        rows = max(1, self.CHUNK_ELEMENTS // self.widen.out_features)
        if torch.is_grad_enabled() or x.shape[0] * x.shape[1] <= rows:
            return self._forward(x)
        tokens = rearrange(x, "b n c -> (b n) c")
        out = torch.empty_like(tokens)
        for part, result in zip(tokens.split(rows), out.split(rows), strict=True):
            result.copy_(self._forward(part))
        return rearrange(out, "(b n) c -> b n c", b=x.shape[0])


class TransformerBlock(nn.Module):
    """Self-attention, then attention to the context (or to itself again, without one), then feed-forward.

    Each with LayerNorm before and a residual connection around it. Follows ``BasicTransformerBlock`` in
    ``lvdm/modules/attention.py``. Arguments are those of :class:`Attention`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        head_channels: int,
        context_channels: int | None = None,
        max_distance: int | None = None,
        dropout: float = 0.0,
        **dual,
    ):
        super().__init__()
        shared = dict(heads=heads, head_channels=head_channels, max_distance=max_distance, dropout=dropout)
        self.norm_self = nn.LayerNorm(channels)
        self.self_attention = Attention(channels, **shared)
        self.norm_cross = nn.LayerNorm(channels)
        self.cross_attention = Attention(channels, context_channels, **shared, **dual)
        self.norm_feed_forward = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, dropout=dropout)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        context: Float[Tensor, "videos m c2"] | ContextCache | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "b n c"]:
        x = self.self_attention(self.norm_self(x), causal=causal).add_(x)
        x = self.cross_attention(self.norm_cross(x), context, causal=causal and context is None).add_(x)
        return self.feed_forward(self.norm_feed_forward(x)).add_(x)


class SpatialTransformer(nn.Module):
    """Attention among the pixels of each frame, then from every pixel to the context (text, and image in I2V).

    GroupNorm looks at one frame at a time. Follows ``SpatialTransformer`` in ``lvdm/modules/attention.py``.

    Args:
        channels: in and out; a multiple of 32.
        heads, head_channels: their product is the width inside, which may differ from ``channels``.
        context_channels: width of the context tokens; ``None`` makes the second attention a self-attention.
        depth: number of transformer blocks.
        dual: ``image_attention``, ``image_scale``, ``text_tokens``, ``image_tokens_per_frame`` of :class:`Attention`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        head_channels: int,
        context_channels: int | None = None,
        depth: int = 1,
        **dual,
    ):
        super().__init__()
        inner = heads * head_channels
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.project_in = nn.Linear(channels, inner)
        self.blocks = nn.ModuleList(
            TransformerBlock(inner, heads, head_channels, context_channels, **dual) for _ in range(depth)
        )
        self.project_out = nn.Linear(inner, channels)
        nn.init.zeros_(self.project_out.weight)
        nn.init.zeros_(self.project_out.bias)

    def forward(
        self, x: Float[Tensor, "b f c h w"], context: Float[Tensor, "b m c2"] | ContextCache | None = None
    ) -> Float[Tensor, "b f c h w"]:
        b, h = x.shape[0], x.shape[3]
        tokens = self.project_in(rearrange(per_frame(self.norm, x), "b f c h w -> (b f) (h w) c"))
        for block in self.blocks:
            tokens = block(tokens, context)
        return rearrange(self.project_out(tokens), "(b f) (h w) c -> b f c h w", b=b, h=h).add_(x)


class TemporalTransformer(nn.Module):
    """Attention among the frames, separately at each pixel; then once more, or to the context.

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
        dual: ``image_attention`` and its companions, as in :class:`SpatialTransformer`.
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
        **dual,
    ):
        super().__init__()
        inner = heads * head_channels
        self.causal, self.uses_context = causal, context_channels is not None
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.project_in = nn.Linear(channels, inner)
        self.blocks = nn.ModuleList(
            TransformerBlock(inner, heads, head_channels, context_channels, max_distance, **dual) for _ in range(depth)
        )
        self.project_out = nn.Linear(inner, channels)
        nn.init.zeros_(self.project_out.weight)
        nn.init.zeros_(self.project_out.bias)

    def forward(
        self, x: Float[Tensor, "b f c h w"], context: Float[Tensor, "b m c2"] | ContextCache | None = None
    ) -> Float[Tensor, "b f c h w"]:
        b, h, w = x.shape[0], x.shape[3], x.shape[4]
        tokens = self.project_in(rearrange(per_video(self.norm, x), "b f c h w -> (b h w) f c"))
        for block in self.blocks:
            tokens = block(tokens, context if self.uses_context else None, causal=self.causal)
        return x + rearrange(self.project_out(tokens), "(b h w) f c -> b f c h w", b=b, h=h, w=w)
