"""The 3D U-Net of VideoCrafter, assembled from the parts of the other modules (chapter 8)."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import ImageTokens, SpatialTransformer, TemporalTransformer, TransformerBlock
from .checks import (
    check_context,
    check_fps,
    check_image_tokens,
    check_instance,
    check_latents,
    check_timesteps,
)
from .configuration import UNet3DConfig
from .embeddings import TimestepFPSEmbedding
from .inference import ContextCache
from .resnet import Downsample, ResBlock, Upsample
from .temporal import channels_last, per_frame, zero_module


class UNetBlock(nn.ModuleDict):
    """A block of encoder, middle or decoder: some of these layers, always in this order.

    ``convolution`` (block 0 alone), ``resnet``, ``spatial_transformer``, ``temporal_transformer``, ``resnet_out``
    (after the transformers), ``downsample`` or ``upsample``.
    """

    def forward(self, x: Float[Tensor, "b f c h w"], embedding: Float[Tensor, "b f e"], context) -> Tensor:
        if "convolution" in self:
            x = per_frame(self["convolution"], x)
        if "resnet" in self:
            x = self["resnet"](x, embedding)
        if "spatial_transformer" in self:
            x = self["spatial_transformer"](x, context)
        if "temporal_transformer" in self:
            x = self["temporal_transformer"](x, context)
        if "resnet_out" in self:
            x = self["resnet_out"](x, embedding)
        if "downsample" in self:
            x = self["downsample"](x)
        if "upsample" in self:
            x = self["upsample"](x)
        return x


class UNet3D(nn.Module):
    """The denoiser of a latent video diffusion model.

    Equal, weight for weight, to the released network that ``config`` names (``UNetModel`` in
    ``lvdm/modules/networks/openaimodel3d.py``); :mod:`vdmlib.checkpoints` loads its weights.

    Example::

        net = vdmlib.UNet3D(vdmlib.UNet3DConfig.small())
        eps = net(x, timesteps, context=context, fps=24)        # x and eps: (b, f, c, h, w)
    """

    def __init__(self, config: UNet3DConfig):
        super().__init__()
        check_instance("config", config, UNet3DConfig, "UNet3DConfig.videocrafter2()")
        self.config = config
        width = channels = config.model_channels
        self.embedding = TimestepFPSEmbedding(width, 4 * width, config.use_fps)

        first: dict[str, nn.Module] = {"convolution": nn.Conv2d(config.in_channels, width, 3, padding=1)}
        if config.initial_temporal_attention:
            # The released ``init_attn``: always 8 heads, and as deep as the spatial transformers.
            heads = config.attention_heads(width) | {"heads": 8}
            first["temporal_transformer"] = self._temporal_transformer(width, config.spatial_depth, **heads)
        self.encoder_blocks = nn.ModuleList([UNetBlock(first)])
        skips = [width]  # Channels of what each encoder block leaves for the decoder.
        for level, multiplier in enumerate(config.channel_multipliers):
            for _ in range(config.res_blocks):
                self.encoder_blocks.append(self._block(channels, multiplier * width, level))
                channels = multiplier * width
                skips.append(channels)
            if level < config.levels - 1:
                self.encoder_blocks.append(UNetBlock(self._downsampling(channels)))
                skips.append(channels)

        self.middle = UNetBlock(
            {
                "resnet": self._resnet(channels, channels),
                **self._transformers(channels),
                "resnet_out": self._resnet(channels, channels),
            }
        )

        self.decoder_blocks = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(config.channel_multipliers))):
            for i in range(config.res_blocks + 1):
                block = self._block(channels + skips.pop(), multiplier * width, level)
                channels = multiplier * width
                if level > 0 and i == config.res_blocks:
                    block.update(self._upsampling(channels))
                self.decoder_blocks.append(block)

        self.norm_out = nn.GroupNorm(32, channels)
        self.conv_out = zero_module(nn.Conv2d(channels, config.out_channels, 3, padding=1))

    def _block(self, in_channels: int, out_channels: int, level: int) -> UNetBlock:
        block = UNetBlock({"resnet": self._resnet(in_channels, out_channels)})
        if 2**level in self.config.attention_factors:
            block.update(self._transformers(out_channels))
        return block

    def _resnet(self, in_channels: int, out_channels: int, resample: Literal["down", "up"] | None = None) -> ResBlock:
        config = self.config
        return ResBlock(
            in_channels,
            4 * config.model_channels,
            out_channels,
            # The released blocks that change the resolution have no layers over time.
            temporal_convolution=config.temporal_convolution if resample is None else False,
            scale_shift_norm=config.scale_shift_norm,
            resample=resample,
            dropout=config.dropout,
            temporal_dropout=config.temporal_dropout,
        )

    def _downsampling(self, channels: int) -> dict[str, nn.Module]:
        if self.config.resample_in_res_blocks:
            return {"resnet": self._resnet(channels, channels, "down")}
        return {"downsample": Downsample(channels, self.config.convolutional_resampling)}

    def _upsampling(self, channels: int) -> dict[str, nn.Module]:
        if self.config.resample_in_res_blocks:
            return {"resnet_out": self._resnet(channels, channels, "up")}
        return {"upsample": Upsample(channels, self.config.convolutional_resampling)}

    def _transformers(self, channels: int) -> dict[str, nn.Module]:
        config, heads = self.config, self.config.attention_heads(channels)
        spatial = SpatialTransformer(
            channels,
            **heads,
            context_channels=config.context_channels,
            depth=config.spatial_depth,
            image=self._image_tokens(config.image_tokens_per_frame) if config.image_attention else None,
        )
        if not config.temporal_attention:
            return {"spatial_transformer": spatial}
        temporal = self._temporal_transformer(channels, config.temporal_depth, **heads)
        return {"spatial_transformer": spatial, "temporal_transformer": temporal}

    def _temporal_transformer(self, channels: int, depth: int, heads: int, head_channels: int) -> TemporalTransformer:
        config = self.config
        return TemporalTransformer(
            channels,
            heads,
            head_channels,
            context_channels=config.context_channels if config.temporal_cross_attention else None,
            depth=depth,
            max_distance=config.temporal_length if config.relative_positions else None,
            causal=config.causal_attention,
            image=self._temporal_image_tokens(),
        )

    def _image_tokens(self, per_frame: int | None, ignored: bool = False) -> ImageTokens:
        return ImageTokens(self.config.text_tokens, self.config.image_scale, per_frame, ignored)

    def _temporal_image_tokens(self) -> ImageTokens | None:
        if not self.config.image_attention or self.config.temporal_image_attention == "joint":
            return None
        # Over time each pixel attends to all image tokens of its video, or to none.
        return self._image_tokens(per_frame=None, ignored=not self.config.temporal_image_attention)

    def forward(
        self,
        x: Float[Tensor, "b f c_in h w"],
        timesteps: Num[Tensor, " b"] | Num[Tensor, "b f"],
        context: Float[Tensor, "b m c2"] | ContextCache | None = None,
        fps: int | float | Num[Tensor, ""] | Num[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b f c_out h w"]:
        """Predict the noise (or whatever the network was trained to predict) in ``x``.

        Args:
            x: noisy latents; height and width divisible by 2 to the number of levels less one.
            timesteps: noise level of each video, or of each frame.
            context: text tokens, for I2V followed by image tokens; or a cache made by :meth:`prepare_context`.
            fps: frames per second, one number or one for each video; ``None`` means ``config.default_fps``.

        Raises:
            ValueError, TypeError: for anything that does not fit, in one sentence.
        """
        self._check(x, timesteps, context, fps)
        b, f = x.shape[:2]
        fps = torch.as_tensor(self.config.default_fps if fps is None else fps, device=x.device)
        timesteps = timesteps.to(x.device)
        timesteps = timesteps if timesteps.ndim == 2 else repeat(timesteps, "b -> b f", f=f)

        embedding = self.embedding(timesteps, fps.expand(b))  # (b, f, e)
        hidden = channels_last(x)  # (b, f, c_in, h, w)
        skips = []
        for block in self.encoder_blocks:
            hidden = self._run(block, hidden, embedding, context)  # (b, f, c, h / 2^level, w / 2^level)
            skips.append(hidden)
        hidden = self._run(self.middle, hidden, embedding, context)
        for block in self.decoder_blocks:
            hidden = torch.cat([hidden, skips.pop()], dim=2)  # (b, f, c + c_skip, h / 2^level, w / 2^level)
            hidden = self._run(block, hidden, embedding, context)
        frames = self.norm_out(rearrange(hidden, "b f c h w -> (b f) c h w"))
        frames = self.conv_out(F.silu(frames))
        return rearrange(frames, "(b f) c h w -> b f c h w", b=b)

    def _run(self, block: nn.Module, hidden: Tensor, embedding: Tensor, context) -> Tensor:
        if self.config.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, hidden, embedding, context, use_reentrant=False)
        return block(hidden, embedding, context)

    def named_blocks(self) -> dict[str, nn.Module]:
        """Every block, in the order in which it runs: "encoder 0", ..., "middle", "decoder 0", ..., "out".

        The two layers of encoder block 0 are listed one by one: its convolution as "encoder 0", then
        "init_attention". The last convolution is "out".
        """
        first = dict(self.encoder_blocks[0].named_children())
        blocks = {"encoder 0": first["convolution"]}
        if "temporal_transformer" in first:
            blocks["init_attention"] = first["temporal_transformer"]
        blocks |= {f"encoder {i}": block for i, block in enumerate(self.encoder_blocks) if i}
        blocks["middle"] = self.middle
        blocks |= {f"decoder {i}": block for i, block in enumerate(self.decoder_blocks)}
        return blocks | {"out": self.conv_out}

    def prepare_context(self, context: Float[Tensor, "b m c"] | ContextCache, fill: bool = False) -> ContextCache:
        """Context tokens for repeated calls: each layer's keys and values are computed in the first one only.

        ``fill`` computes all of them now; a compiler then meets one kind of call, not a first one and all others.
        """
        self._check_context(context)
        cache = context if isinstance(context, ContextCache) else ContextCache(context)
        for layer in self.modules() if fill else ():
            if isinstance(layer, SpatialTransformer | TemporalTransformer) and layer.uses_context:
                for block in layer.blocks:
                    if isinstance(block, TransformerBlock):
                        cache.get(block.cross_attention)
        return cache

    def _check(self, x: Any, timesteps: Any, context: Any, fps: Any) -> None:
        config = self.config
        check_latents("x", x, config.in_channels, config.levels - 1, self.conv_out.weight.dtype)
        check_timesteps(timesteps, *x.shape[:2])
        if context is not None or config.context_channels is not None:
            self._check_context(context, len(x))
        if fps is not None:
            check_fps(fps, len(x))

    def _check_context(self, context: Any, videos: int | None = None) -> None:
        tokens = context.tokens if isinstance(context, ContextCache) else context
        check_context(tokens, self.config.context_channels, self.conv_out.weight.dtype, videos)
        if self.config.image_attention:
            check_image_tokens(tokens, self.config.text_tokens)
