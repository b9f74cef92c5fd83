"""What the network is told besides noise level and frame rate: image tokens (chapters 4 and 7)."""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn


class ImageProjection(nn.Module):
    """One image embedding to a few context tokens: a linear layer, cut into tokens, and LayerNorm.

    The simple projection of IP-Adapter; ``ImageProjModel`` in ``lvdm/modules/encoders/ip_resampler.py``.
    """

    def __init__(self, image_channels: int = 1024, context_channels: int = 1024, tokens: int = 4):
        super().__init__()
        self.tokens = tokens
        self.projection = nn.Linear(image_channels, tokens * context_channels)
        self.norm = nn.LayerNorm(context_channels)

    def forward(self, image: Float[Tensor, "b c"]) -> Float[Tensor, "b tokens c2"]:
        return self.norm(rearrange(self.projection(image), "b (tokens c) -> b tokens c", tokens=self.tokens))


class PerceiverAttention(nn.Module):
    """Queries attend to the image tokens and to themselves, side by side in one softmax."""

    def __init__(self, channels: int, heads: int, head_channels: int):
        super().__init__()
        self.heads = heads
        self.norm_image = nn.LayerNorm(channels)
        self.norm_queries = nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels, heads * head_channels, bias=False)
        self.to_kv = nn.Linear(channels, 2 * heads * head_channels, bias=False)
        self.to_out = nn.Linear(heads * head_channels, channels, bias=False)

    def forward(self, image: Float[Tensor, "b n c"], queries: Float[Tensor, "b q c"]) -> Float[Tensor, "b q c"]:
        image, queries = self.norm_image(image), self.norm_queries(queries)
        k, v = self.to_kv(torch.cat([image, queries], dim=1)).chunk(2, dim=-1)
        q, k, v = (rearrange(t, "b n (h d) -> b h n d", h=self.heads) for t in (self.to_q(queries), k, v))
        return self.to_out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


class Resampler(nn.Module):
    """All tokens of an image encoder to a fixed number of context tokens, by learned queries.

    A Perceiver resampler (Flamingo, Alayrac et al. 2022); ``Resampler`` in
    ``lvdm/modules/encoders/ip_resampler.py``. The defaults are those of VideoCrafter1 I2V: the 257 tokens of CLIP
    ViT-H (1280 channels) become 16 tokens of 1024 channels.
    """

    def __init__(
        self,
        image_channels: int = 1280,
        context_channels: int = 1024,
        queries: int = 16,
        channels: int = 1024,
        depth: int = 4,
        heads: int = 12,
        head_channels: int = 64,
        multiplier: int = 4,
    ):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, queries, channels) / channels**0.5)
        self.project_in = nn.Linear(image_channels, channels)
        self.attentions = nn.ModuleList(PerceiverAttention(channels, heads, head_channels) for _ in range(depth))
        self.feed_forwards = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(channels),
                nn.Linear(channels, multiplier * channels, bias=False),
                nn.GELU(),
                nn.Linear(multiplier * channels, channels, bias=False),
            )
            for _ in range(depth)
        )
        self.project_out = nn.Linear(channels, context_channels)
        self.norm_out = nn.LayerNorm(context_channels)

    def forward(self, image: Float[Tensor, "b n c"]) -> Float[Tensor, "b queries c2"]:
        queries = repeat(self.queries, "1 q c -> b q c", b=image.shape[0])
        image = self.project_in(image)
        for attention, feed_forward in zip(self.attentions, self.feed_forwards, strict=True):
            queries = queries + attention(image, queries)
            queries = queries + feed_forward(queries)
        return self.norm_out(self.project_out(queries))
